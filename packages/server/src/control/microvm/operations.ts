import type { OperationInput, OperationOutput } from "@torpor/protocol";
import { DamagedError, type HostClient, HostError } from "../../host/host-client.ts";
import { conflict, invalidInput, notFound, TorporError } from "../../lib/errors.ts";
import type { Microvm } from "../../store/microvm.ts";
import type { Store } from "../../store/store.ts";
import { ownImage, parseVersion } from "../authorise.ts";
import type { Idempotency } from "../idempotency.ts";
import { suspendOrEnd } from "../idle.ts";
import { newestFirst, readPage } from "../page.ts";
import type { Operations, RequestContext } from "../request-context.ts";
import type { Roles } from "../role/roles.ts";
import type { TokenService } from "../token/token.ts";
import { ANSWER_MS, within } from "../within.ts";
import { portRanges } from "./auth-token.ts";
import { admitsShell } from "./connectors.ts";
import { damagedError } from "./damaged.ts";
import type { Fleet } from "./fleet.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { LiveMicrovm } from "./live.ts";
import { REASON } from "./reason.ts";
import { checkRunRequest, newMicrovm, type RunDeps } from "./run.ts";
import { phaseOf } from "./state.ts";
import { type EndpointName, microvmItem, microvmView } from "./view.ts";

export interface MicrovmOperationDeps extends RunDeps {
  readonly store: Pick<Store, "checkpoints" | "images" | "microvms" | "transaction">;
  readonly host: Pick<HostClient, "verifications">;
  readonly fleet: Fleet;
  readonly lifecycle: Lifecycle;
  readonly idempotency: Idempotency;
  readonly tokens: Pick<TokenService, "mint">;
  readonly roles: Pick<Roles, "check" | "lack">;
  readonly endpointName: EndpointName;
}

type MicrovmOperations = Pick<
  Operations,
  | "RunMicrovm"
  | "GetMicrovm"
  | "ListMicrovms"
  | "SuspendMicrovm"
  | "ResumeMicrovm"
  | "TerminateMicrovm"
  | "CreateMicrovmAuthToken"
  | "CreateMicrovmShellAuthToken"
>;

export function microvmOperations(deps: MicrovmOperationDeps): MicrovmOperations {
  return {
    RunMicrovm: (input, context) => runMicrovm(input, context, deps),
    GetMicrovm: async (input, context) =>
      microvmView(await ownMicrovm(input.microvmIdentifier, context, deps), deps.endpointName, deps.roles),
    ListMicrovms: (input, context) => listMicrovms(input, context, deps),
    SuspendMicrovm: (input, context) => suspendMicrovm(input.microvmIdentifier, context, deps),
    ResumeMicrovm: (input, context) => resumeMicrovm(input.microvmIdentifier, context, deps),
    TerminateMicrovm: (input, context) => terminateMicrovm(input.microvmIdentifier, context, deps),
    CreateMicrovmAuthToken: (input, context) => createAuthToken(input, context, deps),
    CreateMicrovmShellAuthToken: (input, context) => createShellAuthToken(input, context, deps),
  };
}

/**
 * The caller's microvm as it is now. Another account's does not exist for them.
 * @throws TorporError `not_found`
 */
export async function ownMicrovm(
  id: string,
  context: Pick<RequestContext, "accountId">,
  { fleet, store }: { readonly fleet: Fleet; readonly store: Pick<Store, "microvms"> },
): Promise<Microvm> {
  const vm = fleet.get(id)?.vm ?? (await store.microvms.find(id));
  if (vm?.accountId !== context.accountId) throw notFound(`MicroVM not found: ${id}`);
  return vm;
}

/** The version was switched off or deleted after it had been chosen: another one is to be. */
class VersionGoneError extends Error {
  override readonly name = "VersionGoneError";
}

async function runMicrovm(
  input: OperationInput<"RunMicrovm">,
  context: RequestContext,
  deps: MicrovmOperationDeps,
): Promise<OperationOutput<"RunMicrovm">> {
  checkRunRequest(input, context);
  return await deps.idempotency.once<typeof input, OperationOutput<"RunMicrovm">>(
    "RunMicrovm",
    context.accountId,
    input,
    async (recorder) => {
      for (;;) {
        const vm = await newMicrovm(input, context, deps);
        const answer = microvmView(vm, deps.endpointName, deps.roles);
        const record = recorder(answer, vm.id);
        try {
          await deps.lifecycle.start([vm], () =>
            deps.store.transaction(async (write) => {
              if (!(await write.images.hold(vm.imageArn, vm.imageVersion))) throw new VersionGoneError();
              await record(write);
              await write.microvms.insert(vm);
            }),
          );
          return answer;
        } catch (err) {
          if (!(err instanceof VersionGoneError)) throw err;
        }
      }
    },
  );
}

const NEWEST_FIRST = newestFirst<Microvm>(({ startedAt, id }) => ({ time: startedAt.getTime(), key: id }));

async function listMicrovms(
  input: OperationInput<"ListMicrovms">,
  context: RequestContext,
  { store }: MicrovmOperationDeps,
): Promise<OperationOutput<"ListMicrovms">> {
  const { imageIdentifier, imageVersion } = input;
  if (imageIdentifier) ownImage("ListMicrovms", imageIdentifier, context);
  const version = imageVersion ? parseVersion(imageVersion) : undefined;
  const filter = {
    accountId: context.accountId,
    ...(imageIdentifier && { imageArn: imageIdentifier }),
    ...(version !== undefined && { imageVersion: version }),
  };
  const scope = ["ListMicrovms", context.accountId, imageIdentifier, imageVersion];
  const page = await readPage(scope, input, NEWEST_FIRST, async (after, limit) =>
    // What can be no version, none has.
    imageVersion && version === undefined ? [] : await store.microvms.page(filter, after, limit),
  );
  return { items: page.items.map(microvmItem), nextToken: page.nextToken };
}

async function suspendMicrovm(
  id: string,
  context: RequestContext,
  deps: MicrovmOperationDeps,
): Promise<OperationOutput<"SuspendMicrovm">> {
  const live = await changeable(id, context, deps, "suspended");
  const phase = phaseOf(live.vm);
  if (phase === "SUSPENDED" || phase === "SUSPENDING") return {};
  await deps.lifecycle.change(live, (vm) => {
    refuseUnlessChangeable(vm, "suspended");
    return vm.state === "RUNNING" ? suspendOrEnd(vm.spec.idlePolicy) : undefined;
  });
  return {};
}

async function resumeMicrovm(
  id: string,
  context: RequestContext,
  deps: MicrovmOperationDeps,
): Promise<OperationOutput<"ResumeMicrovm">> {
  const live = await changeable(id, context, deps, "resumed");
  if (live.vm.state === "RUNNING") return {};
  try {
    await within(ANSWER_MS, deps.lifecycle.resume(live), deps.clock);
  } catch (err) {
    throw err instanceof DamagedError ? await damagedError(id, err, context, deps) : resumeError(id, err);
  }
  return {};
}

/** Idempotent: also for what has ended long ago. */
async function terminateMicrovm(
  id: string,
  context: RequestContext,
  deps: MicrovmOperationDeps,
): Promise<OperationOutput<"TerminateMicrovm">> {
  await ownMicrovm(id, context, deps);
  const live = deps.fleet.get(id);
  if (live) await deps.lifecycle.terminate(live, REASON.requested);
  return {};
}

async function createAuthToken(
  input: OperationInput<"CreateMicrovmAuthToken">,
  context: RequestContext,
  deps: MicrovmOperationDeps,
): Promise<OperationOutput<"CreateMicrovmAuthToken">> {
  const expiresAt = expiryOf(input.expirationInMinutes, context, deps);
  const ports = portRanges(input.allowedPorts);
  const vm = await ownMicrovm(input.microvmIdentifier, context, deps);
  refuseEnded(vm);
  const token = await deps.tokens.mint({ microvmId: vm.id, kind: "http", ports, expiresAt });
  return { authToken: { "X-aws-proxy-auth": token } };
}

async function createShellAuthToken(
  input: OperationInput<"CreateMicrovmShellAuthToken">,
  context: RequestContext,
  deps: MicrovmOperationDeps,
): Promise<OperationOutput<"CreateMicrovmShellAuthToken">> {
  const expiresAt = expiryOf(input.expirationInMinutes, context, deps);
  const vm = await ownMicrovm(input.microvmIdentifier, context, deps);
  refuseEnded(vm);
  if (!admitsShell(vm.spec.ingressConnectors))
    throw invalidInput("Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.");
  const token = await deps.tokens.mint({ microvmId: vm.id, kind: "shell", ports: [], expiresAt });
  return { authToken: { "X-aws-proxy-auth": token } };
}

/** @throws TorporError when it is too far ahead */
function expiryOf(
  minutes: number,
  { accountId }: RequestContext,
  { clock, quotas }: Pick<MicrovmOperationDeps, "clock" | "quotas">,
): Date {
  const longest = quotas.limit(accountId, "auth-token-minutes");
  if (minutes > longest) throw invalidInput(`ExpirationMinutes ${minutes} exceeded max allowed of ${longest}.`);
  return new Date(clock.now() + minutes * 60_000);
}

/** The caller's microvm, if it is in a state that the request makes sense in. @throws TorporError */
export async function changeable(
  id: string,
  context: Pick<RequestContext, "accountId">,
  deps: { readonly fleet: Fleet; readonly store: Pick<Store, "microvms"> },
  wish: string,
): Promise<LiveMicrovm> {
  refuseUnlessChangeable(await ownMicrovm(id, context, deps), wish);
  const live = deps.fleet.get(id);
  if (!live) throw ended(id);
  return live;
}

export function refuseUnlessChangeable(vm: Microvm, wish: string): void {
  refuseEnded(vm);
  if (vm.state === "PENDING")
    throw conflict(`The MicroVM ${vm.id} is PENDING and cannot be ${wish} before it is RUNNING.`);
}

function refuseEnded(vm: Microvm): void {
  if (vm.state === "TERMINATING" || vm.state === "TERMINATED") throw ended(vm.id);
}

const ended = (id: string): TorporError =>
  invalidInput(`The MicroVM ${id} has been terminated and its state cannot be changed.`);

export function resumeError(id: string, err: unknown): unknown {
  const reason = err instanceof HostError ? err.reason : err instanceof TorporError ? err.kind : undefined;
  switch (reason) {
    case "capacity":
    case "no_space":
      return new TorporError(
        "unavailable",
        `The host has no room to resume the MicroVM ${id} now. It is still suspended.`,
        { cause: err, retryAfterSeconds: 5 },
      );
    case "corrupt":
    case "incompatible":
      return conflict(
        `The MicroVM ${id} cannot be resumed: its suspended state is ${reason} here. It is still suspended.`,
      );
    default:
      return err instanceof TorporError ? err : new TorporError("internal", `resume of ${id} failed`, { cause: err });
  }
}
