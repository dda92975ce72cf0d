import fc from "fast-check";
import { expect } from "vitest";
import { BASE_IMAGE, context, imageArn, type World } from "./world.ts";

/** The first is one that microvms of the whole model come from. */
const NAMES = ["plain", "spare", "other"] as const;
const CONFIGURATION = {
  baseImageArn: BASE_IMAGE,
  buildRoleArn: "arn:aws:iam::000000000000:role/build",
  codeArtifact: { uri: "s3://bucket/app.zip" },
};

const name = fc.constantFrom(...NAMES);
const nth = fc.nat(2);
/** What clients do to images, in the weights of a `fc.oneof`. */
export const imageEvents = [
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("create image" as const), name }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("update image" as const), name }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("switch version" as const), name, nth, on: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("delete version" as const), name, nth }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("delete image" as const), name }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("launch" as const), name, nth: fc.option(nth) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("end what was launched" as const), name }) },
] as const;
export type ImageEvent = (typeof imageEvents)[number]["arbitrary"] extends fc.Arbitrary<infer E> ? E : never;

export const isImageEvent = (event: { readonly kind: string }): event is ImageEvent => "name" in event;

/** What clients know of images, and what must be true of them when nothing goes on. */
export class ImageModel {
  readonly #world: World;
  /** Images whose deletion was answered and that nobody has asked for since. */
  readonly #deleted = new Set<string>();
  /** In this step: those whose deletion was answered, and those that somebody asked for, before or after that. */
  readonly #doomed = new Set<string>();
  readonly #wanted = new Set<string>();
  /** The build that each version had when it was seen first, by image and number. */
  readonly #builds = new Map<string, string>();
  readonly #launched = new Map<string, string[]>();
  #launches = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** @throws as the operation does; `ended` hears of microvms that are to be terminated */
  async do(event: ImageEvent, ended: (microvmId: string) => void): Promise<void> {
    const { operations } = this.#world;
    const imageIdentifier = imageArn(event.name);
    switch (event.kind) {
      case "create image":
        this.#deleted.delete(event.name);
        this.#wanted.add(event.name);
        await operations.CreateMicrovmImage({ name: event.name, ...CONFIGURATION, clientToken: event.name }, context());
        return;
      case "update image":
        await operations.UpdateMicrovmImage({ imageIdentifier, ...CONFIGURATION }, context());
        return;
      case "switch version":
        await operations.UpdateMicrovmImageVersion(
          {
            imageIdentifier,
            imageVersion: await this.#version(event.name, event.nth),
            status: event.on ? "ACTIVE" : "INACTIVE",
          },
          context(),
        );
        return;
      case "delete version":
        await operations.DeleteMicrovmImageVersion(
          { imageIdentifier, imageVersion: await this.#version(event.name, event.nth) },
          context(),
        );
        return;
      case "delete image":
        this.#forget(event.name); // it may go although nobody hears of it
        await operations.DeleteMicrovmImage({ imageIdentifier }, context());
        this.#doomed.add(event.name);
        return;
      case "launch": {
        const imageVersion = event.nth === null ? null : await this.#version(event.name, event.nth);
        const number = this.#launches++;
        const { microvmId } = await operations.RunMicrovm(
          { imageIdentifier, imageVersion, maximumDurationInSeconds: 10_000 + number },
          context(),
        );
        this.#launched.set(event.name, [...(this.#launched.get(event.name) ?? []), microvmId]);
        return;
      }
      case "end what was launched":
        for (const microvmIdentifier of this.#launched.get(event.name) ?? []) {
          ended(microvmIdentifier);
          await operations.TerminateMicrovm({ microvmIdentifier }, context());
        }
        return;
      default:
        return event satisfies never;
    }
  }

  async check(): Promise<void> {
    const { operations, machine, host } = this.#world;
    const { items: images } = await operations.ListMicrovmImages({}, context());
    const names = images.map((image) => image.name);
    for (const doomed of this.#doomed.difference(this.#wanted)) this.#deleted.add(doomed);
    this.#doomed.clear();
    this.#wanted.clear();
    for (const gone of this.#deleted) expect(names).not.toContain(gone);
    const built = new Set<string>();
    const offered = new Set<string>();
    for (const image of images) {
      expect(["CREATED", "CREATE_FAILED", "UPDATED", "UPDATE_FAILED"]).toContain(image.state);
      const versions = await this.#versions(image.name);
      expect(versions.length).toBeGreaterThan(0);
      const newest = (state: string, status?: string): string | null =>
        versions.find((one) => one.state === state && (!status || one.status === status))?.imageVersion ?? null;
      expect(image.latestActiveImageVersion).toBe(newest("SUCCESSFUL", "ACTIVE"));
      expect(image.latestFailedImageVersion).toBe(newest("FAILED"));
      for (const version of versions) {
        const { imageVersion, state, status, stateReason } = version;
        const { items: builds } = await operations.ListMicrovmImageBuilds(
          { imageIdentifier: image.imageArn, imageVersion },
          context(),
        );
        this.#remember(`${image.name} ${imageVersion}`, builds[0]?.buildId ?? "none");
        const good = builds.filter(({ buildState }) => buildState === "SUCCESSFUL").map(({ buildId }) => buildId);
        expect(builds.every(({ buildState }) => buildState === "SUCCESSFUL" || buildState === "FAILED")).toBe(true);
        if (state === "FAILED") expect([status, good, stateReason]).toEqual(["INACTIVE", [], expect.any(String)]);
        else expect([state, good.length, stateReason]).toEqual(["SUCCESSFUL", 1, null]);
        for (const id of good) built.add(id);
        if (status === "ACTIVE") for (const id of good) offered.add(id);
      }
    }
    // The host has what a version is launched from or something continues from, and nothing else.
    const needed = new Set(built);
    for (const { templateId } of [...machine.instances.values(), ...machine.checkpoints.values()])
      needed.add(templateId);
    expect([...machine.templates].sort()).toEqual([...needed].sort());
    expect([...host.retired].sort()).toEqual([...needed].filter((id) => !offered.has(id)).sort());
  }

  /** A number is given out once, as long as its image lives. */
  #remember(version: string, build: string): void {
    const known = this.#builds.get(version) ?? build;
    if (known !== build) this.#world.machine.violations.push(`the number ${version} was given out twice`);
    this.#builds.set(version, known);
  }

  #forget(image: string): void {
    for (const version of this.#builds.keys()) if (version.startsWith(`${image} `)) this.#builds.delete(version);
  }

  async #version(image: string, number: number): Promise<string> {
    return (await this.#versions(image))[number]?.imageVersion ?? "1";
  }

  async #versions(image: string) {
    const { operations } = this.#world;
    return (await operations.ListMicrovmImageVersions({ imageIdentifier: imageArn(image) }, context())).items;
  }
}
