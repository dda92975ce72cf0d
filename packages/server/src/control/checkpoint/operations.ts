import { randomUUID } from "node:crypto";
import type * as wire from "@torpor/protocol";
import { DamagedError, type HostClient, HostError } from "../../host/host-client.ts";
import { conflict, invalidInput, notFound, TorporError } from "../../lib/errors.ts";
import type { Checkpoint, CheckpointFilter } from "../../store/checkpoint.ts";
import { CheckpointUnavailableError } from "../../store/errors.ts";
import type { Microvm } from "../../store/microvm.ts";
import type { Store } from "../../store/store.ts";
import { authorisePassing } from "../authorise.ts";
import type { Idempotency } from "../idempotency.ts";
import type { Fleet } from "../microvm/fleet.ts";
import { type Lifecycle, RollbackError } from "../microvm/lifecycle.ts";
import type { LiveMicrovm } from "../microvm/live.ts";
import { changeable, ownMicrovm, refuseUnlessChangeable, resumeError } from "../microvm/operations.ts";
import type { RunDeps } from "../microvm/run.ts";
import { allows } from "../microvm/state.ts";
import type { EndpointName } from "../microvm/view.ts";
import { newestFirst, type PageRequest, readPage } from "../page.ts";
import type { RequestContext } from "../request-context.ts";
import type { Tasks } from "../tasks.ts";
import { ANSWER_MS, within } from "../within.ts";
import type { Checkpoints } from "./checkpoints.ts";
import { type ForkOrigin, newForks } from "./fork.ts";
import { checkpointView, forkView, lineageView } from "./view.ts";

export interface CheckpointOperationDeps extends Pick<RunDeps, "roles" | "quotas" | "clock" | "steady"> {
  readonly store: Pick<Store, "checkpoints" | "microvms" | "transaction">;
  readonly fleet: Fleet;
  readonly lifecycle: Lifecycle;
  readonly checkpoints: Checkpoints;
  readonly host: Pick<HostClient, "verifications">;
  readonly idempotency: Idempotency;
  readonly tasks: Tasks;
  readonly endpointName: EndpointName;
}

/** What a fork is made from: exactly one of them. */
type Source = { readonly checkpointId: string } | { readonly microvmId: string };

/** Remembered under the client token: how the forks do is asked anew for each answer. */
interface Begun {
  readonly microvmId: string;
  readonly checkpointId: string;
  readonly forkIds: readonly string[];
}

const NEWEST_FIRST = newestFirst<Checkpoint>(({ createdAt, id }) => ({ time: createdAt.getTime(), key: id }));

/** Checkpoints, forks and rollbacks for their owners. What belongs to another account does not exist. */
export class CheckpointOperations {
  readonly #deps: CheckpointOperationDeps;

  constructor(deps: CheckpointOperationDeps) {
    this.#deps = deps;
  }

  /** Answers when the checkpoint is AVAILABLE; when that takes long, while it is still CREATING. */
  async create(
    context: RequestContext,
    microvmId: string,
    name: string | null,
    { previous = false }: { readonly previous?: boolean } = {},
  ): Promise<wire.Checkpoint> {
    const { checkpoints, clock } = this.#deps;
    const live = await changeable(microvmId, context, this.#deps, "checkpointed");
    const id = newCheckpointId();
    const written = Promise.withResolvers<void>();
    const check = (vm: Microvm): void => refuseUnlessSettled(vm, "checkpointed");
    const made = checkpoints.make(live, { id, name, internal: false, previous }, check, written.resolve);
    try {
      await Promise.race([written.promise, made]);
      await within(ANSWER_MS, made, clock);
    } catch (err) {
      throw checkpointError(microvmId, err);
    }
    return await this.get(context, id);
  }

  async get(context: RequestContext, checkpointId: string): Promise<wire.Checkpoint> {
    const [view] = await this.#views([await this.#own(checkpointId, context)]);
    return view!;
  }

  /** Of all the account's microvms, or of one, ended or not. */
  async list(context: RequestContext, microvmId: string | undefined, page: PageRequest): Promise<wire.CheckpointPage> {
    if (microvmId !== undefined) await ownMicrovm(microvmId, context, this.#deps);
    const scope = ["ListCheckpoints", context.accountId, microvmId];
    const filter: CheckpointFilter = {
      accountId: context.accountId,
      ...(microvmId !== undefined && { microvmId }),
    };
    const { items, nextToken } = await readPage(scope, page, NEWEST_FIRST, (after, limit) =>
      this.#deps.store.checkpoints.page(filter, after, limit),
    );
    return { items: await this.#views(items), nextToken };
  }

  /** Forks that were made from it live on. Deleting what is being deleted succeeds. */
  async delete(context: RequestContext, checkpointId: string): Promise<void> {
    await this.#own(checkpointId, context);
    const outcome = await this.#deps.checkpoints.delete(checkpointId);
    if (outcome === "in use")
      throw conflict(
        `The checkpoint ${checkpointId} is in use: a MicroVM is being rolled back to it, or a fork of it has not started yet. Delete it when that is over.`,
      );
    if (outcome === "creating")
      throw conflict(`The checkpoint ${checkpointId} is still CREATING. Delete it when it is AVAILABLE.`);
  }

  forkCheckpoint(context: RequestContext, checkpointId: string, options: wire.ForkOptions): Promise<wire.Forks> {
    return this.#fork(context, { checkpointId }, options, async () => {
      const checkpoint = await this.#available(checkpointId, context);
      return { origin: checkpoint, microvmId: checkpoint.microvmId, checkpointId, live: undefined };
    });
  }

  /** By a checkpoint that is made for it and goes when the forks have started. */
  forkMicrovm(context: RequestContext, microvmId: string, options: wire.ForkOptions): Promise<wire.Forks> {
    return this.#fork(context, { microvmId }, options, async () => {
      const live = await changeable(microvmId, context, this.#deps, "forked");
      return { origin: live.vm, microvmId, checkpointId: newCheckpointId(), live };
    });
  }

  /**
   * Resolves when the microvm is as it was at the checkpoint, and RUNNING again if it ran; when that takes long, while
   * it is going on.
   */
  async rollback(context: RequestContext, microvmId: string, checkpointId: string): Promise<wire.Rollback> {
    const { lifecycle, clock } = this.#deps;
    const live = await changeable(microvmId, context, this.#deps, "rolled back");
    const checkpoint = await this.#own(checkpointId, context);
    if (checkpoint.microvmId !== microvmId)
      throw invalidInput(
        `The checkpoint ${checkpointId} is of the MicroVM ${checkpoint.microvmId}, not of ${microvmId}. Roll back to one of its own, or fork that checkpoint.`,
      );
    refuseUnlessAvailable(checkpoint);
    const check = (vm: Microvm): void => refuseUnlessSettled(vm, "rolled back");
    try {
      await within(ANSWER_MS, lifecycle.rollback(live, checkpointId, check), clock);
    } catch (err) {
      throw rollbackError(microvmId, checkpointId, err);
    }
    return { microvmId, checkpointId, state: live.vm.state };
  }

  async lineage(context: RequestContext, microvmId: string): Promise<wire.Lineage> {
    return lineageView(await ownMicrovm(microvmId, context, this.#deps));
  }

  async #fork(
    context: RequestContext,
    source: Source,
    options: wire.ForkOptions,
    find: () => Promise<{
      readonly origin: ForkOrigin;
      readonly microvmId: string;
      readonly checkpointId: string;
      /** To be checkpointed first. */
      readonly live: LiveMicrovm | undefined;
    }>,
  ): Promise<wire.Forks> {
    const { store, fleet, lifecycle, checkpoints, idempotency, clock, tasks } = this.#deps;
    const begun = await idempotency.once<wire.ForkOptions & Source, Begun>(
      "Fork",
      context.accountId,
      { ...options, ...source },
      async (recorder) => {
        const { origin, microvmId, checkpointId, live } = await find();
        const { spec } = origin;
        const connectors = [...spec.ingressConnectors, ...spec.egressConnectors];
        authorisePassing({ role: options.executionRoleArn ?? spec.executionRoleArn, connectors }, context);
        const vms = newForks(origin, { checkpointId, microvmId }, options, this.#deps);
        const answer = { microvmId, checkpointId, forkIds: vms.map(({ id }) => id) };
        const record = recorder(answer);
        if (live) checkpoints.keep(checkpointId);
        try {
          await lifecycle.start(vms, async () => {
            if (live)
              await checkpoints.make(live, { id: checkpointId, name: null, internal: true }, refuseUnlessForkable);
            await store.transaction(async (write) => {
              await record(write);
              for (const vm of vms) await write.microvms.insert(vm);
            });
          });
        } catch (err) {
          if (live) tasks.start("release checkpoint", () => checkpoints.release(checkpointId));
          throw forkError(source, err);
        }
        if (live)
          tasks.start("release checkpoint", async () => {
            await this.#launched(answer.forkIds);
            await checkpoints.release(checkpointId);
          });
        return answer;
      },
    );
    await within(ANSWER_MS, this.#launched(begun.forkIds), clock);
    const vms = await Promise.all(
      begun.forkIds.map(async (id) => fleet.get(id)?.vm ?? (await store.microvms.find(id))),
    );
    return {
      microvmId: begun.microvmId,
      checkpointId: begun.checkpointId,
      items: vms.filter((vm) => vm !== undefined).map((vm) => forkView(vm, this.#deps.endpointName)),
    };
  }

  /** Resolves when nobody works on any of them: what was begun has ended, well or not. */
  async #launched(ids: readonly string[]): Promise<void> {
    await Promise.all(ids.map((id) => this.#deps.fleet.exclusive(id, async () => {})));
  }

  async #views(checkpoints: readonly Checkpoint[]): Promise<wire.Checkpoint[]> {
    const found = await this.#deps.host.verifications(checkpoints.map(({ id }) => id));
    return checkpoints.map((each) => checkpointView(each, found.get(each.id)));
  }

  /** @throws TorporError `not_found`; internal ones are found by nobody */
  async #own(id: string, { accountId }: Pick<RequestContext, "accountId">): Promise<Checkpoint> {
    const checkpoint = await this.#deps.store.checkpoints.find(id);
    if (checkpoint?.accountId !== accountId || checkpoint.internal) throw notFound(`Checkpoint not found: ${id}`);
    return checkpoint;
  }

  async #available(id: string, context: RequestContext): Promise<Checkpoint> {
    const checkpoint = await this.#own(id, context);
    refuseUnlessAvailable(checkpoint);
    return checkpoint;
  }
}

const newCheckpointId = (): string => `checkpoint-${randomUUID()}`;

function refuseUnlessAvailable(checkpoint: Checkpoint): void {
  if (checkpoint.state === "AVAILABLE") return;
  const advice = checkpoint.state === "CREATING" ? "Try again when it is AVAILABLE." : "Use another one.";
  throw conflict(`The checkpoint ${checkpoint.id} is ${checkpoint.state} and cannot be used. ${advice}`);
}

/** Asked when nobody else works on it: what is in between then was left by a failure that is being put right. */
function refuseUnlessSettled(vm: Microvm, wish: string): void {
  refuseUnlessChangeable(vm, wish);
  if (!allows(vm, "rollback"))
    throw conflict(`The MicroVM ${vm.id} is between two states and cannot be ${wish} now. Try again in a moment.`);
}
const refuseUnlessForkable = (vm: Microvm): void => refuseUnlessSettled(vm, "forked");

function checkpointError(microvmId: string, err: unknown): unknown {
  if (!(err instanceof HostError)) return err;
  if (err instanceof DamagedError)
    return conflict(
      `The MicroVM ${microvmId} cannot be checkpointed: ${err.message}. Resume it to learn what can be done.`,
    );
  if (err.reason === "not_found")
    return conflict(
      `The host has no earlier restore point of the MicroVM ${microvmId}. It keeps one only until it has verified the newest.`,
    );
  if (err.reason === "no_space" || err.reason === "capacity")
    return new TorporError(
      "unavailable",
      `The host has no room for a checkpoint of the MicroVM ${microvmId} now. The MicroVM is as it was.`,
      { cause: err, retryAfterSeconds: 5 },
    );
  return new TorporError("internal", `checkpoint of ${microvmId} failed`, { cause: err });
}

function forkError(source: Source, err: unknown): unknown {
  if (err instanceof CheckpointUnavailableError && "checkpointId" in source) return deleted(source.checkpointId, err);
  return "microvmId" in source ? checkpointError(source.microvmId, err) : err;
}

function rollbackError(microvmId: string, checkpointId: string, err: unknown): unknown {
  if (err instanceof CheckpointUnavailableError) return deleted(checkpointId, err);
  if (!(err instanceof RollbackError)) return err instanceof HostError ? resumeError(microvmId, err) : err;
  const reason = err.cause instanceof HostError ? err.cause.reason : "internal";
  switch (reason) {
    case "not_found":
      return conflict(`The MicroVM ${microvmId} is as it was: the checkpoint ${checkpointId} is not on its host.`);
    case "corrupt":
    case "incompatible":
      return conflict(
        `The MicroVM ${microvmId} is as it was: the checkpoint ${checkpointId} is ${reason} here${err.cause instanceof DamagedError ? `: ${err.cause.message}` : ""}.`,
      );
    case "no_space":
    case "capacity":
      return new TorporError(
        "unavailable",
        `The host has no room to roll the MicroVM ${microvmId} back now. Look at its state, and try again.`,
        { cause: err, retryAfterSeconds: 5 },
      );
    case "internal":
      return new TorporError("internal", `rollback of ${microvmId} failed`, { cause: err });
    default:
      return reason satisfies never;
  }
}

const deleted = (checkpointId: string, cause: unknown): TorporError =>
  new TorporError("conflict", `The checkpoint ${checkpointId} is being deleted. Use another one.`, { cause });
