import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { type Clock, systemClock } from "../../lib/clock.ts";
import { createLog } from "../../lib/log.ts";
import { FileStore, type NewObject } from "../file-store.ts";

export const ACCOUNT = "000000000000";

/** A folder that goes when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "torpor-s3-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A clock that stands at `at.ms` until the test moves it. */
export function steppedClock(at: { ms: number }): Clock {
  return { ...systemClock, now: () => at.ms };
}

export async function openStore(
  folder: string,
  options: { maxObjectBytes?: number; reservedBytes?: number; clock?: Clock } = {},
): Promise<FileStore> {
  return await FileStore.open(folder, {
    maxObjectBytes: options.maxObjectBytes ?? 2 ** 30,
    reservedBytes: options.reservedBytes ?? 0,
    clock: options.clock ?? systemClock,
    log: createLog("silent"),
  });
}

export async function* pieces(...chunks: (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield typeof chunk === "string" ? Buffer.from(chunk) : chunk;
}

export function newObject(key: string, data: string | Uint8Array, more: Partial<NewObject> = {}): NewObject {
  return {
    key,
    body: pieces(data),
    size: Buffer.byteLength(data),
    digest: [],
    accept: () => ({}),
    headers: [],
    userMetadata: [],
    ...more,
  };
}
