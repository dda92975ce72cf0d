import type { Config, Origins } from "./config.ts";
import { TorporError } from "./lib/errors.ts";
import type { Log } from "./lib/log.ts";

/** Runs the server until it is told to stop. */
export async function serve(_config: Config, _origins: Origins, _log: Log): Promise<void> {
  throw new TorporError("unavailable", "this build has no rooms to serve yet");
}
