import { access, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { syncFolder } from "../../lib/atomic-file.ts";
import { errnoOf } from "../../lib/errors.ts";
import { run } from "../../lib/run.ts";
import { hashFile } from "../artifacts.ts";
import type { Driver, TemplateFiles } from "../driver/driver.ts";
import { DamagedError } from "../host-client.ts";
import type { HostLayout } from "../layout.ts";
import { checkCompatible, readTemplateManifest, type TemplateManifest } from "../snapshot/manifest.ts";
import { otherContents } from "../snapshot/verification.ts";

export interface OpenTemplate {
  readonly files: TemplateFiles;
  readonly manifest: TemplateManifest;
}

/** Folders of templates that are not there yet, or not any more. */
const UNFINISHED = /\.(tmp|removed)$/;

/** The templates of this host: immutable once they are here. */
export class TemplateStore {
  readonly #layout: HostLayout;
  readonly #driver: Driver;
  readonly #helper: string;
  /** Verified or made since this daemon started; the promise, so that clones at once verify once. */
  readonly #verified = new Map<string, Promise<OpenTemplate>>();

  constructor(layout: HostLayout, driver: Driver, helper: string) {
    this.#layout = layout;
    this.#driver = driver;
    this.#helper = helper;
  }

  /**
   * A template that can be restored here: compatible, and at its first use since the start compared with its digests.
   * @throws HostError `not_found`, `incompatible`, `corrupt`
   */
  open(templateId: string): Promise<OpenTemplate> {
    let opened = this.#verified.get(templateId);
    if (!opened) {
      opened = this.#verify(templateId);
      this.#verified.set(templateId, opened);
      opened.catch(() => this.#verified.delete(templateId)); // it may be mended
    }
    return opened;
  }

  /** Takes over a finished folder, whose digests are those of a moment ago. From here on the template is there. */
  async add(templateId: string, folder: string, manifest: TemplateManifest): Promise<void> {
    await writeFile(`${folder}/manifest.json`, JSON.stringify(manifest, null, 2), { flush: true, mode: 0o600 });
    await syncFolder(folder);
    const files = this.#layout.template(templateId);
    await rename(folder, files.path);
    await syncFolder(this.#layout.templates);
    this.#verified.set(templateId, Promise.resolve({ files, manifest }));
  }

  async remove(templateId: string): Promise<void> {
    this.#verified.delete(templateId);
    const { path } = this.#layout.template(templateId);
    // Renamed first: what is half removed must not be taken for a template.
    const doomed = `${path}.removed`;
    await rename(path, doomed).catch(() => {});
    await rm(doomed, { recursive: true, force: true });
  }

  async ids(): Promise<readonly string[]> {
    return (await readdir(this.#layout.templates)).filter((name) => !UNFINISHED.test(name));
  }

  /** Folders that a crash left while a template was made or removed. */
  async recover(): Promise<void> {
    for (const name of await readdir(this.#layout.templates))
      if (UNFINISHED.test(name)) await rm(`${this.#layout.templates}/${name}`, { recursive: true, force: true });
  }

  async #verify(templateId: string): Promise<OpenTemplate> {
    const files = this.#layout.template(templateId);
    const manifest = await readTemplateManifest(files.manifest);
    checkCompatible(`template ${templateId}`, manifest.compatibility, this.#driver.facts);
    await Promise.all([
      this.#compare(templateId, files.devices, manifest.devices.sha256, hashFile),
      this.#compare(templateId, files.memory, manifest.memory.sha256, this.#digest),
      this.#compare(templateId, files.disk, manifest.disk.sha256, this.#digest),
    ]);
    return { files, manifest };
  }

  readonly #digest = async (path: string): Promise<string> =>
    (JSON.parse(await run(this.#helper, ["digest", path])) as { sha256: string }).sha256;

  /** @throws DamagedError */
  async #compare(
    templateId: string,
    path: string,
    expected: string,
    digest: (path: string) => Promise<string>,
  ): Promise<void> {
    const damaged = (what: string): DamagedError =>
      new DamagedError("template", { file: basename(path), what }, `template ${templateId}`);
    try {
      await access(path);
    } catch (err) {
      if (errnoOf(err) === "ENOENT") throw damaged("is missing");
      throw err;
    }
    const found = await digest(path);
    if (found !== expected) throw damaged(otherContents(found, expected));
  }
}
