import { BuildError, HostError } from "../../host/host-client.ts";
import { messageOf } from "../../lib/errors.ts";

/** Longest reason that is kept; the rest is in the build log. */
const MAX_CHARACTERS = 2000;
export const CONTAINER_BUILD_FAILED = "The container image build failed.";
export const BUILD_INTERRUPTED = "The image build was interrupted by a restart of the service. Please try again.";

/**
 * What `stateReason` says of a failed build: the recorded sentence where there is one, else the documented code; and
 * after either what exactly was wrong, since neither alone helps anybody.
 */
export function buildFailureReason(error: unknown): string {
  if (error instanceof HostError && error.reason === "no_space") return "DISK_STORAGE_FULL";
  if (!(error instanceof BuildError)) return "INTERNAL_PLATFORM_ERROR";
  if (error.code === null) return clip(error.message);
  if (error.code !== "CONTAINER_BUILD_FAILED") return clip(withCode(error.code, error.message));
  const detail = error.message.replace(CONTAINER_BUILD_FAILED, "").trim();
  return clip(detail ? `${CONTAINER_BUILD_FAILED} ${detail}` : CONTAINER_BUILD_FAILED);
}

const withCode = (code: string, message: string): string =>
  message.startsWith(code) ? message : `${code}: ${message}`;

/** The last line of the build log. */
export function lastWords(error: unknown): string {
  const known = error instanceof BuildError || error instanceof HostError;
  return `error: ${known ? messageOf(error) : "an internal error; the server's own log has the details"}`;
}

const clip = (text: string): string => (text.length <= MAX_CHARACTERS ? text : `${text.slice(0, MAX_CHARACTERS - 1)}…`);
