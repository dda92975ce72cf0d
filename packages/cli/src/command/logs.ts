import type { LogEvent, LogLine } from "@torpor/sdk";
import { Argument, type Command } from "commander";
import { usage } from "../failure.ts";
import { age, bytes, type Output, printable } from "../output.ts";
import { type CommonFlags, clientCommand, openSession, type Session } from "../session.ts";

interface LogFlags extends CommonFlags {
  readonly follow?: boolean;
  readonly timestamps?: boolean;
  readonly since?: string;
  readonly group?: string;
  readonly stream?: string;
  readonly filter?: string;
  readonly groups?: boolean;
  readonly streams?: boolean;
}

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** What workloads wrote: one microvm's, as its host has it, or what a log group holds. */
export function logsCommand(signal: AbortSignal): Command {
  return clientCommand("logs", "what a workload wrote, or what a log group holds")
    .addArgument(new Argument("[id]", "of a microvm"))
    .option("-f, --follow", "go on: until the microvm ends, or without end for a group")
    .option("-t, --timestamps", "with the time of each line")
    .option("--since <time>", "only what is as new: 30s, 10m, 2h, 1d, or a time such as 2026-09-15T14:30:00Z")
    .option("--group <name>", "a log group instead of a microvm")
    .option("--stream <name>", "with --group: one stream of it")
    .option("--filter <pattern>", "with --group: a filter pattern of CloudWatch Logs")
    .option("--groups", "list the log groups")
    .option("--streams", "with --group: list its streams, the newest first")
    .action(async (id: string | undefined, flags: LogFlags) => {
      checkFlags(id, flags);
      const session = openSession(flags, signal);
      if (flags.groups) await listGroups(session);
      else if (flags.group !== undefined && flags.streams) await listStreams(flags.group, session);
      else if (flags.group !== undefined) await showGroup(flags.group, flags, session);
      else if (id !== undefined) await showMicrovm(id, flags, session);
    });
}

/** @throws Failure */
function checkFlags(id: string | undefined, flags: LogFlags): void {
  const sources = [id !== undefined, flags.group !== undefined, flags.groups === true].filter(Boolean).length;
  if (sources !== 1)
    throw usage(
      "one of a microvm's id, --group and --groups says what to show",
      "torpor logs ID, or torpor logs --groups",
    );
  const wanting = (["stream", "filter", "streams"] as const).find((name) => flags[name] !== undefined);
  if (flags.group === undefined && wanting) throw usage(`--${wanting} needs --group`, "torpor logs --groups");
}

async function showMicrovm(id: string, flags: LogFlags, { client, out, signal }: Session): Promise<void> {
  const since = sinceOf(flags);
  for await (const line of client.logs(id, { follow: flags.follow === true }, signal))
    if (line.time >= since) out.item(line, () => lineText(line, flags.timestamps === true, out));
}

async function showGroup(group: string, flags: LogFlags, { client, out, signal }: Session): Promise<void> {
  const { stream, filter, follow } = flags;
  const from = flags.since === undefined ? undefined : sinceOf(flags);
  for await (const event of client.logGroups.events(group, { stream, filter, from, follow }, signal))
    out.item(event, () => eventText(event, flags, out));
}

async function listGroups({ client, out, signal }: Session): Promise<void> {
  const groups = await Array.fromAsync(client.logGroups.groups({}, signal));
  const now = new Date();
  out.result(groups, () =>
    groups.length === 0
      ? "no log groups; next: torpor run IMAGE --log-group"
      : out.table(
          ["GROUP", "SIZE", "CREATED"],
          groups.map(({ name, bytes: size, createdAt }) => [name, bytes(size), `${age(new Date(createdAt), now)} ago`]),
        ),
  );
}

async function listStreams(group: string, { client, out, signal }: Session): Promise<void> {
  const streams = await Array.fromAsync(client.logGroups.streams(group, {}, signal));
  out.result(streams, () =>
    out.table(
      ["STREAM", "NEWEST EVENT"],
      streams.map(({ name, lastTime }) => [name, lastTime === null ? "none" : new Date(lastTime).toISOString()]),
    ),
  );
}

/** Milliseconds since the epoch. @throws Failure */
function sinceOf({ since }: LogFlags): number {
  if (since === undefined) return 0;
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(since) ?? [];
  if (count !== undefined && unit !== undefined) return Math.max(0, Date.now() - Number(count) * (UNITS[unit] ?? 0));
  const time = /^\d{4}-/.test(since) ? Date.parse(since) : Number.NaN;
  if (Number.isNaN(time)) throw usage(`${since} is no time`, "--since 10m, or --since 2026-09-15T14:30:00Z");
  return Math.max(0, time);
}

function lineText(line: LogLine, timestamps: boolean, out: Output): string {
  const text = printable(line.text);
  return `${timeText(line.time, timestamps, out)}${line.stream === "stderr" ? out.style("yellow", text) : text}\n`;
}

function eventText(event: LogEvent, flags: LogFlags, out: Output): string {
  const stream = flags.stream === undefined ? `${out.style("cyan", printable(event.stream))} ` : "";
  return `${timeText(event.time, flags.timestamps === true, out)}${stream}${printable(event.text)}\n`;
}

const timeText = (time: number, wanted: boolean, out: Output): string =>
  wanted ? `${out.style("dim", new Date(time).toISOString())} ` : "";
