import type { HostClient } from "../../host/host-client.ts";
import type { Log } from "../../lib/log.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import type { TemplateNeed } from "../../store/image.ts";
import type { Store } from "../../store/store.ts";

export interface TemplateDeps {
  readonly host: Pick<HostClient, "deleteTemplate" | "offerTemplate" | "retireTemplate" | "templates">;
  readonly store: Pick<Store, "templates">;
  readonly log: Log;
}

/**
 * Keeps the host's templates as the rows say: ready to be launched from, there for what continues from them, or gone.
 * Whoever has changed the rows has the template settled; what a crash or a failing host left, `reconcile` finds.
 */
export class Templates {
  readonly #deps: TemplateDeps;
  /** What the host was told to keep nothing ready for. A host that starts anew with us knows of none, as we do. */
  readonly #retired = new Set<string>();
  readonly #mutex = new KeyedMutex<string>();

  constructor(deps: TemplateDeps) {
    this.#deps = deps;
  }

  /** Resolves when the host does with the template what the rows say now. @throws what the host throws */
  async settle(templateId: string): Promise<void> {
    const { host, store } = this.#deps;
    // What the rows say is read when nobody else tells the host, so that what was said last is the latest.
    await this.#mutex.run(templateId, async () => {
      const need = (await store.templates.needs(templateId)).get(templateId);
      if (this.#isSettled(templateId, need)) return;
      switch (need) {
        case "launches":
          await host.offerTemplate(templateId);
          this.#retired.delete(templateId);
          return;
        case "restores":
          await host.retireTemplate(templateId);
          this.#retired.add(templateId);
          return;
        case undefined:
          await host.deleteTemplate(templateId);
          this.#retired.delete(templateId);
          return;
        default:
          return need satisfies never;
      }
    });
  }

  /**
   * One look at every template of the host.
   * @throws when the host cannot say what it has
   */
  async reconcile(): Promise<void> {
    const { host, store, log } = this.#deps;
    const onHost = await host.templates();
    // Read afterwards: what the host has had its row before.
    const needs = await store.templates.needs();
    for (const id of onHost) {
      if (this.#isSettled(id, needs.get(id))) continue;
      try {
        await this.settle(id);
        log.info({ templateId: id, need: needs.get(id) ?? "none" }, "template settled");
      } catch (err) {
        log.error({ err, templateId: id }, "template could not be settled, to be repeated");
      }
    }
  }

  #isSettled(id: string, need: TemplateNeed | undefined): boolean {
    return need === (this.#retired.has(id) ? "restores" : "launches");
  }
}
