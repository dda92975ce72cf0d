import { invalidInput } from "../../lib/errors.ts";
import type { ImageHooks } from "../../store/image.ts";
import type { Hook, RuntimeHooks } from "../../store/microvm.ts";

const RUNTIME_HOOK_SECONDS = 1;
const BUILD_HOOK_SECONDS = 30;

/** The build's hooks that are enabled, with their times resolved. */
export interface BuildHooks {
  readonly ready?: Hook;
  readonly validate?: Hook;
}

/** @throws TorporError with the service's wording where it is known */
export function checkHooks(hooks: ImageHooks | null | undefined): void {
  if (!hooks) return;
  const { microvmHooks: runtime, microvmImageHooks: build, port } = hooks;
  const anyRuntime = [runtime?.run, runtime?.resume, runtime?.suspend, runtime?.terminate].includes("ENABLED");
  if (anyRuntime && build?.ready !== "ENABLED")
    throw invalidInput(
      "The ready (/ready) MicroVM image hook must be enabled when any MicroVM lifecycle hook (run, resume, suspend, or terminate) is enabled. The ready hook signals when the application has finished initializing so the snapshot is taken in a ready state.",
    );
  const anyBuild = [build?.ready, build?.validate].includes("ENABLED");
  if ((anyRuntime || anyBuild) && (port === null || port === undefined))
    throw invalidInput("The hooks port must be specified when any hook is enabled.");
}

export function runtimeHooks(hooks: ImageHooks | null): RuntimeHooks {
  const given = hooks?.microvmHooks;
  const port = hooks?.port;
  if (!given || !port) return {};
  const hook = (enabled: string | null | undefined, seconds: number | null | undefined): Hook | undefined =>
    enabled === "ENABLED" ? { port, timeoutMs: (seconds ?? RUNTIME_HOOK_SECONDS) * 1000 } : undefined;
  const run = hook(given.run, given.runTimeoutInSeconds);
  const resume = hook(given.resume, given.resumeTimeoutInSeconds);
  const suspend = hook(given.suspend, given.suspendTimeoutInSeconds);
  const terminate = hook(given.terminate, given.terminateTimeoutInSeconds);
  return {
    ...(run && { run }),
    ...(resume && { resume }),
    ...(suspend && { suspend }),
    ...(terminate && { terminate }),
  };
}

export function buildHooks(hooks: ImageHooks | null): BuildHooks {
  const given = hooks?.microvmImageHooks;
  const port = hooks?.port;
  if (!given || !port) return {};
  const ms = (seconds: number | null | undefined): number => (seconds ?? BUILD_HOOK_SECONDS) * 1000;
  return {
    ...(given.ready === "ENABLED" && { ready: { port, timeoutMs: ms(given.readyTimeoutInSeconds) } }),
    ...(given.validate === "ENABLED" && { validate: { port, timeoutMs: ms(given.validateTimeoutInSeconds) } }),
  };
}
