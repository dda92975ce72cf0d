import type { Checkpoint } from "@torpor/sdk";
import { Argument, Command } from "commander";
import { Failure } from "../failure.ts";
import { endpointUrl } from "../names.ts";
import { age, bytes } from "../output.ts";
import { type CommonFlags, clientCommand, openSession, type Session, whole } from "../session.ts";
import { until } from "../wait.ts";
import { type LifeFlags, lifeOf, lifeOptions, untilRunning } from "./run.ts";

interface CreateFlags extends CommonFlags {
  readonly name?: string;
  readonly previous?: boolean;
  readonly wait: boolean;
}
interface ForkFlags extends LifeFlags {
  readonly count: number;
}

export function checkpointCommands(signal: AbortSignal): Command[] {
  const checkpoint = new Command("checkpoint")
    .description("checkpoints: restore points of microvms, to fork from and to roll back to")
    .addCommand(
      clientCommand("create", "make a checkpoint of a microvm, which goes on; prints the checkpoint's id")
        .addArgument(new Argument("<id>", "the microvm's"))
        .option("--name <name>", "to tell it from others")
        .option("--previous", "of its restore point before the newest, which is kept while the newest is not verified")
        .option("--no-wait", "do not wait until it is there")
        .action((id: string, flags: CreateFlags) => create(id, flags, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("ls", "list checkpoints")
        .addArgument(new Argument("[id]", "of this microvm only"))
        .action((id: string | undefined, flags: CommonFlags) => list(id, openSession(flags, signal))),
    )
    .addCommand(
      clientCommand("rm", "delete checkpoints; forks made from them live on")
        .addArgument(new Argument("<checkpoint...>"))
        .action(async (ids: string[], flags: CommonFlags) => {
          const { client, out } = openSession(flags, signal);
          for (const checkpointId of ids) {
            await client.deleteCheckpoint(checkpointId, signal);
            out.item({ checkpointId, deleted: true }, () => `${checkpointId} deleted`);
          }
        }),
    );
  const fork = clientCommand("fork", "start microvms that continue from a microvm or a checkpoint; prints ids and URLs")
    .addArgument(new Argument("<id|checkpoint>"))
    .option("-n, --count <n>", "how many: all of them or none", whole(1, 100), 1);
  return [
    checkpoint,
    lifeOptions(fork).action((from: string, flags: ForkFlags) => forkFrom(from, flags, openSession(flags, signal))),
    clientCommand("rollback", "put a microvm back to one of its checkpoints: what it did since is gone")
      .addArgument(new Argument("<id>"))
      .addArgument(new Argument("<checkpoint>"))
      .action((id: string, checkpointId: string, flags: CommonFlags) =>
        rollback(id, checkpointId, openSession(flags, signal)),
      ),
  ];
}

async function create(id: string, flags: CreateFlags, { client, out, signal }: Session): Promise<void> {
  const begun = await client.createCheckpoint(id, { name: flags.name, previous: flags.previous }, signal);
  const { checkpointId } = begun;
  const made = flags.wait
    ? await until(async () => {
        const now = begun.state === "CREATING" ? await client.checkpoint(checkpointId, signal) : begun;
        if (now.state === "FAILED")
          throw new Failure(
            `${checkpointId} could not be made: ${now.stateReason ?? "no reason given"}`,
            `torpor checkpoint create ${id}`,
          );
        return now.state === "CREATING" ? undefined : now;
      }, signal)
    : begun;
  out.result(made, () => checkpointId);
  out.progress(`next: torpor fork ${checkpointId}, or torpor rollback ${id} ${checkpointId}`);
}

async function list(microvmId: string | undefined, { client, out, signal }: Session): Promise<void> {
  const items = await Array.fromAsync(client.checkpoints({ microvmId }, signal));
  const now = new Date();
  out.result(items, () =>
    items.length === 0
      ? `no checkpoints; next: torpor checkpoint create ${microvmId ?? "ID"}`
      : out.table(
          ["CHECKPOINT", "NAME", "STATE", "MICROVM", "SIZE", "CREATED", "FILES", "PARENT"],
          items.map((checkpoint) => row(checkpoint, now)),
        ),
  );
}

function row(checkpoint: Checkpoint, now: Date): string[] {
  const { memoryBytes, diskBytes, stateReason, restorePoint } = checkpoint;
  return [
    checkpoint.checkpointId,
    checkpoint.name ?? "-",
    stateReason === null ? checkpoint.state : `${checkpoint.state}: ${stateReason}`,
    checkpoint.microvmId,
    memoryBytes === null || diskBytes === null ? "-" : bytes(memoryBytes + diskBytes),
    `${age(new Date(checkpoint.createdAt), now)} ago`,
    restorePoint === null ? "-" : (restorePoint.damage ?? restorePoint.state),
    checkpoint.parentCheckpointId ?? "-",
  ];
}

/** @throws Failure when one of them has ended; the others are printed before */
async function forkFrom(from: string, flags: ForkFlags, session: Session): Promise<void> {
  const { client, connection, out, signal } = session;
  const forks = await client.fork(from, { count: flags.count, ...lifeOf(flags) }, signal);
  const failed: unknown[] = [];
  const items: { microvmId: string; state: string; endpoint: string; url: string }[] = [];
  for (const { microvmId, state, endpoint } of forks.items) {
    const url = endpointUrl(connection, endpoint).href;
    try {
      const now = flags.wait && state !== "RUNNING" ? (await untilRunning(microvmId, session)).state : state;
      items.push({ microvmId, state: now, endpoint, url });
    } catch (err) {
      if (!(err instanceof Failure)) throw err;
      failed.push(err);
    }
  }
  out.result({ ...forks, items }, () => items.map(({ microvmId, url }) => `${microvmId}\n${url}`).join("\n"));
  if (failed.length > 0) throw failed[0];
  out.progress(`next: torpor call ${items[0]?.microvmId ?? "ID"} /`);
}

async function rollback(id: string, checkpointId: string, { client, out, signal }: Session): Promise<void> {
  const before = await client.call("GetMicrovm", { microvmIdentifier: id }, signal);
  const rolledBack = await client.rollback(id, checkpointId, signal);
  out.result(rolledBack, () => `${id} ${rolledBack.state}`);
  if (before.state === "RUNNING" && rolledBack.state !== "RUNNING")
    out.progress(`it does not run again yet; next: torpor show ${id}`);
}
