import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import type { RunningMicrovm } from "./fixtures.ts";

/** A folder with a Dockerfile: a server that does with memory and disk what it is told, and says who it is. */
export const WORKLOAD = fileURLToPath(new URL("workload", import.meta.url));

/** What it says of itself. */
export interface Who {
  readonly random: string;
  readonly uuid: string;
  readonly machineId: string;
  readonly bootId: string;
  /** Seconds since the epoch. */
  readonly time: number;
  /** Bytes on its disk. */
  readonly free: number;
}

/** Its answer to a request that it must not refuse. */
export async function ask<T>(vm: RunningMicrovm, path: string): Promise<T> {
  const { status, headers, body } = await vm.get(path);
  expect(status, `${path}: ${headers["x-aws-proxy-error"]} ${body}`).toBe(200);
  return JSON.parse(body) as T;
}
