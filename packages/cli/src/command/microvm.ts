import type { Usage } from "@torpor/protocol";
import { ApiError } from "@torpor/sdk";
import { Argument, type Command } from "commander";
import { Failure } from "../failure.ts";
import { imageName } from "../names.ts";
import { age, printable } from "../output.ts";
import { type CommonFlags, clientCommand, openSession, type Session } from "../session.ts";
import { until } from "../wait.ts";

type Change = "SuspendMicrovm" | "ResumeMicrovm" | "TerminateMicrovm";
interface ChangeFlags extends CommonFlags {
  readonly wait: boolean;
}

export function microvmCommands(signal: AbortSignal): Command[] {
  return [
    clientCommand("ls", "list microvms")
      .option("--all", "terminated ones too")
      .action((flags: CommonFlags & { all?: boolean }) => list(flags.all === true, openSession(flags, signal))),
    clientCommand("show", "everything about one microvm")
      .addArgument(new Argument("<id>"))
      .action((id: string, flags: CommonFlags) => show(id, openSession(flags, signal))),
    changing("suspend", "suspend microvms: memory, disk and processes are kept", "SuspendMicrovm", "SUSPENDED", signal),
    changing("resume", "wake suspended microvms", "ResumeMicrovm", "RUNNING", signal),
    changing("rm", "terminate microvms: nothing of them is kept", "TerminateMicrovm", "TERMINATED", signal),
  ];
}

function changing(name: string, summary: string, operation: Change, wanted: string, signal: AbortSignal): Command {
  return clientCommand(name, summary)
    .addArgument(new Argument("<id...>"))
    .option("--no-wait", "do not wait until it is done")
    .action(async (ids: string[], flags: ChangeFlags) => {
      const session = openSession(flags, signal);
      for (const id of ids) await change(id, operation, flags.wait ? wanted : undefined, session);
    });
}

async function change(id: string, operation: Change, wanted: string | undefined, session: Session): Promise<void> {
  const { client, out, signal } = session;
  await client.call(operation, { microvmIdentifier: id }, signal);
  const state = await until(async () => {
    const vm = await client.call("GetMicrovm", { microvmIdentifier: id }, signal);
    if (wanted === undefined || vm.state === wanted) return vm.state;
    if (vm.state === "TERMINATED")
      throw new Failure(`${id} has ended: ${vm.stateReason ?? "no reason given"}`, `torpor logs ${id}`);
    if (operation === "SuspendMicrovm" && vm.state === "RUNNING")
      throw new Failure(`${id} runs on: it could not be suspended`, `torpor receipts ${id}, and the server's log`);
    return undefined;
  }, signal);
  out.item({ microvmId: id, state }, () => `${id} ${state}`);
}

async function list(all: boolean, { client, out, signal }: Session): Promise<void> {
  const items = (await Array.fromAsync(client.list("ListMicrovms", {}, signal))).filter(
    ({ state }) => all || state !== "TERMINATED",
  );
  const now = new Date();
  out.result(items, () =>
    items.length === 0
      ? "no microvms; next: torpor run IMAGE"
      : out.table(
          ["ID", "STATE", "IMAGE", "VERSION", "STARTED"],
          items.map((vm) => [
            vm.microvmId,
            vm.state,
            imageName(vm.imageArn),
            vm.imageVersion,
            `${age(vm.startedAt, now)} ago`,
          ]),
        ),
  );
}

/** Its id has been said. */
const inBytes = ({ microvmId: _, ...usage }: Usage): Omit<Usage, "microvmId"> => usage;

async function show(id: string, { client, out, signal }: Session): Promise<void> {
  const vm = await client.call("GetMicrovm", { microvmIdentifier: id }, signal);
  const { forkedFrom, rolledBackTo } = await client.lineage(id, signal);
  const usage = await client.usage(id, signal).catch((err: unknown) => {
    if (err instanceof ApiError && err.status === 404) return undefined; // it has ended, or begins only now
    throw err;
  });
  const whole = {
    ...vm,
    ...(usage && { usage: inBytes(usage) }),
    ...(forkedFrom && { forkedFrom }),
    ...(rolledBackTo !== null && { rolledBackTo }),
  };
  out.result(whole, () =>
    out.table(
      ["", ""],
      Object.entries(whole).map(([name, value]) => [
        name,
        value instanceof Date
          ? value.toISOString()
          : typeof value === "string"
            ? printable(value)
            : JSON.stringify(value),
      ]),
    ),
  );
}
