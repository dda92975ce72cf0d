import { randomUUID } from "node:crypto";
import { type OperationInput, parseImageArn } from "@torpor/protocol";
import type { Config } from "../../config.ts";
import type { Clock } from "../../lib/clock.ts";
import { invalidInput, notFound } from "../../lib/errors.ts";
import type { ImageVersion } from "../../store/image.ts";
import type { IdlePolicy, Microvm, RuntimeHooks } from "../../store/microvm.ts";
import type { Store } from "../../store/store.ts";
import { authorisePassing, parseVersion, refuseForeign } from "../authorise.ts";
import type { Reach } from "../connector/reach.ts";
import { runtimeHooks } from "../image/hooks.ts";
import { loggingOf } from "../logging.ts";
import type { Quotas } from "../quota/quotas.ts";
import type { RequestContext } from "../request-context.ts";
import type { Roles } from "../role/roles.ts";
import type { SteadyTime } from "../steady-time.ts";
import { egressConnectors, ingressConnectors } from "./connectors.ts";

/** AWS's longest life and idle time; what a microvm gets whose account may have more and does not ask for it. */
const AWS_LONGEST_SECONDS = 28_800;

export interface RunDeps {
  readonly config: Pick<Config, "region">;
  readonly store: Pick<Store, "images">;
  readonly roles: Pick<Roles, "check">;
  readonly reach: Reach;
  readonly quotas: Pick<Quotas, "limit">;
  readonly clock: Clock;
  readonly steady: SteadyTime;
}

/** What can be said of the request without looking anything up. @throws TorporError */
export function checkRunRequest(input: OperationInput<"RunMicrovm">, context: RequestContext): void {
  const { imageIdentifier } = input;
  if (!imageIdentifier.startsWith("arn:")) throw invalidInput("Malformed ARN - doesn't start with 'arn:'");
  const arn = parseImageArn(imageIdentifier);
  if (!arn) throw invalidInput(`Invalid ARN format: ${imageIdentifier}`);
  refuseForeign("RunMicrovm", imageIdentifier, arn, context);
}

/**
 * The PENDING microvm that a checked request asks for, not written yet. Order of checks as recorded: version, run
 * hook, connectors; whether there is room for it turns out when it is added to the fleet.
 * @throws TorporError
 */
export async function newMicrovm(
  input: OperationInput<"RunMicrovm">,
  context: RequestContext,
  deps: RunDeps,
): Promise<Microvm> {
  const version = await runnableVersion(input, deps);
  const { configuration } = version;
  const hooks = runtimeHooks(configuration.hooks);
  const payload = runHookPayload(input.runHookPayload, hooks);
  const scope = { region: deps.config.region, accountId: context.accountId };
  const ingress = ingressConnectors(input.ingressNetworkConnectors, scope);
  const egress = egressConnectors(input.egressNetworkConnectors, configuration.egressConnectors, scope);
  if (!input.egressNetworkConnectors?.length) authorisePassing({ connectors: egress }, context); // inherited
  const reach = await deps.reach.of(egress, context.accountId);
  if (input.executionRoleArn) deps.roles.check(input.executionRoleArn);
  const idlePolicy = checkIdlePolicy(input.idlePolicy ?? null, context.accountId, deps);
  const maximumDurationSeconds = durationSeconds(input.maximumDurationInSeconds, undefined, context.accountId, deps);
  const startedAt = new Date(deps.clock.now());
  return {
    id: `microvm-${randomUUID()}`,
    accountId: context.accountId,
    label: randomUUID(),
    generation: 1,
    imageArn: version.imageArn,
    imageVersion: version.version,
    templateId: await templateOf(version, deps),
    spec: {
      memoryMib: configuration.memoryMib,
      maximumDurationSeconds,
      idlePolicy,
      executionRoleArn: input.executionRoleArn ?? null,
      logging: loggingOf(input.logging),
      ingressConnectors: ingress,
      egressConnectors: egress,
      ...reach,
      hooks,
    },
    startedAt,
    deadline: deps.steady.now() + maximumDurationSeconds * 1000,
    lastActivityAt: startedAt,
    fork: null,
    rolledBackTo: null,
    state: "PENDING",
    runHookPayload: payload,
  };
}

/** @throws TorporError when there is no hook to take it */
export function runHookPayload(payload: string | null | undefined, hooks: RuntimeHooks): string | null {
  if (payload === null || payload === undefined) return null;
  if (!hooks.run) throw invalidInput("The run hook must be enabled in the MicroVM image to pass the run hook payload");
  return payload;
}

/**
 * How long a microvm may live: as long as was asked for, else as its origin, else as with AWS; never longer than the
 * account's quota allows.
 * @throws TorporError when more was asked for than that
 */
export function durationSeconds(
  asked: number | null | undefined,
  origin: number | undefined,
  accountId: string,
  { quotas }: Pick<RunDeps, "quotas">,
): number {
  const longest = quotas.limit(accountId, "maximum-duration-seconds");
  if (asked && asked > longest)
    throw invalidInput(`The maximumDurationInSeconds ${asked} exceeds the ${longest} that the account's quota allows.`);
  return asked ?? Math.min(origin ?? AWS_LONGEST_SECONDS, longest);
}

/** @throws TorporError */
export function checkIdlePolicy(
  idlePolicy: IdlePolicy | null,
  accountId: string,
  { quotas }: Pick<RunDeps, "quotas">,
): IdlePolicy | null {
  const longest = Math.max(AWS_LONGEST_SECONDS, quotas.limit(accountId, "maximum-duration-seconds"));
  if (idlePolicy && idlePolicy.maxIdleDurationSeconds > longest)
    throw invalidInput(
      `The maxIdleDurationSeconds of the idle policy must not exceed ${longest}, got ${idlePolicy.maxIdleDurationSeconds}.`,
    );
  return idlePolicy;
}

async function runnableVersion(
  { imageIdentifier, imageVersion }: OperationInput<"RunMicrovm">,
  { store }: RunDeps,
): Promise<ImageVersion> {
  const wanted = imageVersion ? parseVersion(imageVersion) : undefined;
  const known =
    imageVersion && wanted === undefined ? undefined : await store.images.findRunnable(imageIdentifier, wanted);
  if (!known) throw notFound(`No active version found for MicroVM image ${imageIdentifier}`);
  return known;
}

async function templateOf(version: ImageVersion, { store }: RunDeps): Promise<string> {
  const builds = await store.images.builds(version.imageArn, version.version);
  const build = builds.find(({ state }) => state === "SUCCESSFUL");
  if (!build) throw notFound(`No active version found for MicroVM image ${version.imageArn}`);
  return build.id;
}
