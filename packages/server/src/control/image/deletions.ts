import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import { KeyedMutex } from "../../lib/mutex.ts";
import type { DeletionOutcome } from "../../store/image.ts";
import type { Deletion } from "../../store/image-deletions.ts";
import type { Store } from "../../store/store.ts";
import type { Tasks } from "../tasks.ts";
import type { BuildLogs } from "./build-log.ts";
import type { Templates } from "./templates.ts";

export interface DeletionDeps {
  readonly store: Pick<Store, "imageDeletions">;
  readonly templates: Templates;
  readonly logs: BuildLogs;
  readonly clock: Clock;
  readonly tasks: Tasks;
  readonly log: Log;
}

/**
 * Deletes images and versions: rows DELETING, templates and logs, no rows. What a crash leaves between any two of these
 * is finished by `reconcile`. Templates that a checkpoint or a fork still needs stay until it is gone.
 */
export class Deletions {
  readonly #deps: DeletionDeps;
  readonly #mutex = new KeyedMutex<string>();

  constructor(deps: DeletionDeps) {
    this.#deps = deps;
  }

  /** Resolves when it is written that it goes, or why it cannot; the rest follows by itself. */
  async delete(deletion: Deletion): Promise<DeletionOutcome> {
    const { store, clock, tasks } = this.#deps;
    const { imageArn, version } = deletion;
    const at = new Date(clock.now());
    const outcome =
      version === undefined
        ? await store.imageDeletions.beginImage(imageArn, at)
        : await store.imageDeletions.beginVersion(imageArn, version, at);
    if (outcome.kind === "deleting") tasks.start("delete image", () => this.#finish(deletion));
    return outcome;
  }

  /** Has finished what was begun and nobody is finishing. */
  async reconcile(): Promise<void> {
    const { store, tasks } = this.#deps;
    for (const deletion of await store.imageDeletions.unfinished())
      if (!this.#mutex.busy(deletion.imageArn)) tasks.start("delete image", () => this.#finish(deletion));
  }

  #finish(deletion: Deletion): Promise<void> {
    const { store, templates, logs, clock, log } = this.#deps;
    return this.#mutex.run(deletion.imageArn, async () => {
      try {
        for (const buildId of await store.imageDeletions.builds(deletion)) {
          await templates.settle(buildId);
          await logs.remove(buildId);
        }
        await store.imageDeletions.finish(deletion, new Date(clock.now()));
        log.info(deletion, "image deleted");
      } catch (err) {
        log.error({ err, ...deletion }, "image could not be deleted, to be repeated");
      }
    });
  }
}
