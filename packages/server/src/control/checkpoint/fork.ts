import { randomUUID } from "node:crypto";
import type { ForkOptions } from "@torpor/protocol";
import type { Fork, Microvm, MicrovmCore } from "../../store/microvm.ts";
import { loggingOf } from "../logging.ts";
import { checkIdlePolicy, durationSeconds, type RunDeps, runHookPayload } from "../microvm/run.ts";

/** What forks have of their origin, whether that is a checkpoint or the microvm itself. */
export type ForkOrigin = Pick<MicrovmCore, "accountId" | "imageArn" | "imageVersion" | "templateId" | "spec">;

/**
 * The PENDING microvms that the request asks for, not written yet: the origin's in everything that it does not name.
 * @throws TorporError
 */
export function newForks(
  origin: ForkOrigin,
  fork: Fork,
  options: ForkOptions,
  deps: Pick<RunDeps, "roles" | "quotas" | "clock" | "steady">,
): Microvm[] {
  const { roles, clock, steady } = deps;
  const { spec } = origin;
  if (options.executionRoleArn) roles.check(options.executionRoleArn);
  const payload = runHookPayload(options.runHookPayload, spec.hooks);
  const maximumDurationSeconds = durationSeconds(
    options.maximumDurationInSeconds,
    spec.maximumDurationSeconds,
    origin.accountId,
    deps,
  );
  const startedAt = new Date(clock.now());
  const core = {
    accountId: origin.accountId,
    generation: 1,
    imageArn: origin.imageArn,
    imageVersion: origin.imageVersion,
    templateId: origin.templateId,
    spec: {
      ...spec,
      maximumDurationSeconds,
      idlePolicy: options.idlePolicy ? checkIdlePolicy(options.idlePolicy, origin.accountId, deps) : spec.idlePolicy,
      executionRoleArn: options.executionRoleArn ?? spec.executionRoleArn,
      logging: loggingOf(options.logging) ?? spec.logging,
    },
    startedAt,
    deadline: steady.now() + maximumDurationSeconds * 1000,
    lastActivityAt: startedAt,
    fork,
    rolledBackTo: null,
  };
  return Array.from({ length: options.count ?? 1 }, () => ({
    ...core,
    id: `microvm-${randomUUID()}`,
    label: randomUUID(),
    state: "PENDING",
    runHookPayload: payload,
  }));
}
