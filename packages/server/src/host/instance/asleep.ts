import { rm, stat } from "node:fs/promises";
import type { Clock } from "../../lib/clock.ts";
import type { Limiter } from "../../lib/limiter.ts";
import { pause } from "../../lib/pause.ts";
import { HostError } from "../host-client.ts";
import { MAX_LAYERS, mergeFrom, TOO_MANY_LAYERS } from "../snapshot/layer-merge.ts";
import { cloneWithLayer, layersOf, type Snapshot, sealLayers } from "../snapshot/snapshot.ts";
import type { Verifier } from "../snapshot/verifier.ts";
import type { RestorePoints } from "./restore-points.ts";

export interface AsleepDeps {
  readonly verifier: Verifier;
  readonly limiter: Limiter;
  readonly clock: Clock;
  /** One durable layer at `out` in place of many, oldest first. */
  readonly mergeLayers: (
    out: string,
    diskBytes: number,
    layers: readonly string[],
    signal: AbortSignal,
  ) => Promise<void>;
}

export interface Sleeper {
  readonly points: RestorePoints;
  /** Of the newest restore point. */
  readonly number: number;
  readonly diskBytes: () => Promise<number>;
  /** A file that may be made and removed. */
  readonly scratch: string;
  /** It sleeps at the restore point of this number from here on. */
  readonly moveTo: (number: number) => Promise<void>;
}

/** A microvm that has slept for so long is likely to sleep on. */
const CHECK_AFTER_MS = 1000;

/** What is done for a microvm while it sleeps: many layers of its disk become few, and its restore point is read as a whole. */
export async function careForSleeper(sleeper: Sleeper, deps: AsleepDeps, signal: AbortSignal): Promise<void> {
  const { points } = sleeper;
  let { number } = sleeper;
  await points.tidy(number); // nobody waits for that
  const snapshot = await points.open(number).catch(ignoreRefusal);
  if (snapshot && snapshot.manifest.layers.length > MAX_LAYERS) {
    // Not put off: each suspension adds a layer.
    number = await mergeLayers(snapshot, "idle", sleeper, deps, signal);
  } else if (!(await points.unchecked(number))) return;
  await pause(deps.clock, CHECK_AFTER_MS, signal);
  await points.check(number, undefined, signal);
}

/**
 * For a microvm that is to wake: one that never sleeps for long enough would have ever more layers, and each costs its
 * resume. Resolves at once when there are not too many.
 */
export async function careForWaking(sleeper: Sleeper, deps: AsleepDeps, signal: AbortSignal): Promise<void> {
  const snapshot = await sleeper.points.open(sleeper.number).catch(ignoreRefusal);
  if (snapshot && snapshot.manifest.layers.length > TOO_MANY_LAYERS)
    await mergeLayers(snapshot, "urgent", sleeper, deps, signal);
}

/** Another snapshot of the same moment takes the place of the one whose disk has become many layers. */
async function mergeLayers(
  snapshot: Snapshot,
  priority: "idle" | "urgent",
  sleeper: Sleeper,
  deps: AsleepDeps,
  signal: AbortSignal,
): Promise<number> {
  const { points, number, scratch, moveTo } = sleeper;
  const diskBytes = await sleeper.diskBytes();
  const layers = layersOf(snapshot);
  const from = mergeFrom(await Promise.all(layers.map(async (layer) => (await stat(layer)).blocks)));
  if (from === undefined) return number;
  await rm(scratch, { force: true });
  try {
    await deps.limiter.run(priority, signal, async () => {
      const parts = await Promise.allSettled([
        deps.mergeLayers(scratch, diskBytes, layers.slice(from), signal),
        deps.verifier.requireLayers(snapshot, from, signal), // what is damaged would become part of a good one
      ]);
      for (const part of parts) if (part.status === "rejected") throw part.reason;
    });
    signal.throwIfAborted();
    await sealLayers(await points.add(number + 1, (path) => cloneWithLayer(snapshot, from, scratch, path)));
    await moveTo(number + 1);
    return number + 1;
  } finally {
    await rm(scratch, { force: true });
  }
}

/** Why a restore point cannot be used is said by its state, and to whoever resumes it. */
export function ignoreRefusal(err: unknown): undefined {
  if (!(err instanceof HostError)) throw err;
}
