/**
 * `npm run bench:endpoint`: what the path through the endpoint costs, without VMs: the real endpoint on one core, the app
 * and a stand-in for its agent on another, beside nginx as a TLS proxy before the same app, in the same run.
 */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { judge } from "../harness/aims.ts";
import { command, report } from "../harness/command.ts";
import { type Figure, type Measured, measured, round, type Sample, type Unit } from "../harness/figure.ts";
import { load } from "../harness/load.ts";
import { describeMachine } from "../harness/machine.ts";
import { cores, leaveServersCore } from "../harness/process.ts";
import { median } from "../harness/statistics.ts";
import { ENDPOINT_FIGURES } from "./aims.ts";
import { opener, openWebSockets, stream } from "./clients.ts";
import { type EndpointLab, type Side, startLab } from "./lab.ts";

const CONNECTIONS = 16;
const WEBSOCKETS = 5000;
const STREAM_BYTES = 1e9;
/** Rates are taken so often, the two sides in turn: what else the machine does then hits both. */
const ROUNDS = 5;
const UPGRADE =
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
const USAGE = `usage: npm run bench:endpoint -- [--json FILE] [--check] [--seconds N] [--only ID] [--cpu-prof FOLDER]
  --json FILE        writes the result there
  --check            exit status 1 when a figure misses its aim; the last line names which
  --seconds N        of each load, 6 when nothing is said
  --only PREFIX      only figures whose name begins so
  --cpu-prof FOLDER  node's profile of the endpoint goes there`;

interface Options {
  readonly json: string | undefined;
  readonly check: boolean;
  readonly seconds: number;
  readonly only: string;
  readonly profile: string | undefined;
}

/** What a load did, and what it cost the side that served it. */
interface Served {
  /** For each round: what a second of its processor is enough for. */
  readonly perCpuSecond: readonly Sample[];
  readonly latencies: readonly Sample[];
  /** By the clock; the load's core may be the bound of it. */
  readonly rate: number;
}

async function main({ json, check, seconds, only, profile }: Options, signal: AbortSignal): Promise<number> {
  const nodeArgs = profile ? ["--cpu-prof", `--cpu-prof-dir=${profile}`] : [];
  await using lab = await startLab(nodeArgs);
  const machine = { ...(await describeMachine(undefined, lab.folder)), pinned: cores() };
  leaveServersCore();
  const { endpoint, nginx } = lab;
  const sides = typeof nginx === "string" ? [endpoint] : [endpoint, nginx];
  const figures: Figure[] = [];
  const add = (figure: Figure): void => {
    figures.push(figure);
    const shown =
      "skipped" in figure ? figure.skipped : `${figure.median} ${figure.unit}, nginx ${figure.floor ?? "–"}`;
    console.error(`bench: ${figure.id}: ${shown}`);
  };
  const wanted = (id: string): boolean => id.startsWith(only);
  const both = async (measure: (side: Side) => Promise<Served>): Promise<[Served, Served | undefined]> => {
    const done = new Map<Side, Served[]>(sides.map((side) => [side, []]));
    for (let round = 0; round < ROUNDS; round++) for (const side of sides) done.get(side)?.push(await measure(side));
    const [ours, theirs] = sides.map((side) => joined(done.get(side) ?? []));
    return [ours!, theirs];
  };
  const compared = (id: string, unit: Unit, [ours, theirs]: [Served, Served | undefined]): void =>
    add(measured(id, unit, ours.perCpuSecond, theirs?.perCpuSecond, clockRates(ours, theirs)));

  const busy = (fresh: boolean, connections: number, time: number) => async (side: Side) => {
    const open = opener(side.targets[0]!);
    const request = side.request("/", 0);
    const before = await side.process.cpuMs();
    const next = (): Buffer => request;
    const made = await load({ open, fresh, connections, seconds: time, next, signal });
    const cpuMs = (await side.process.cpuMs()) - before;
    const count = made.latencies.length;
    return { perCpuSecond: [{ value: count / (cpuMs / 1000) }], latencies: made.latencies, rate: count / time };
  };
  for (const side of sides) await busy(false, CONNECTIONS, 2)(side); // warm: nobody's first request is measured

  if (wanted("keepalive.rate"))
    compared("keepalive.rate", "1/s", await both(busy(false, CONNECTIONS, seconds / ROUNDS)));
  if (wanted("new.rate") || wanted("new.latency")) {
    for (const side of sides) await busy(true, CONNECTIONS, 1)(side);
    compared("new.rate", "1/s", await both(busy(true, CONNECTIONS, seconds / ROUNDS)));
    const [ours, theirs] = await both(busy(true, 1, seconds / ROUNDS));
    add(measured("new.latency", "ms", ours.latencies, theirs?.latencies));
  }
  if (wanted("added.latency")) add(await addedLatency(lab, both, busy(false, 1, seconds / ROUNDS), signal));
  if (wanted("stream.rate"))
    compared(
      "stream.rate",
      "MB/s",
      await both(async (side) => {
        const before = await side.process.cpuMs();
        const bytes = STREAM_BYTES / ROUNDS;
        const rate = await stream(side.targets[0]!, side.request(`/stream/${bytes}`, 0), bytes);
        const cpuMs = (await side.process.cpuMs()) - before;
        return { perCpuSecond: [{ value: bytes / 1e6 / (cpuMs / 1000) }], latencies: [], rate };
      }),
    );
  if (wanted("websockets.memory")) {
    const memory: number[] = [];
    const before = round(await endpoint.process.memoryMb());
    for (const side of sides) {
      const openers = side.targets.map(opener);
      const open = (n: number) => openers[n % openers.length]!();
      using _ = await openWebSockets(WEBSOCKETS, open, (n) => side.request("/socket", n, UPGRADE), signal);
      await sleep(3000, undefined, { signal });
      memory.push(await side.process.memoryMb());
    }
    const [ours, ...theirs] = memory.map((value) => ({ value }));
    add(measured("websockets.memory", "MB", [ours!], theirs, { "MB before": before, WebSockets: WEBSOCKETS }));
  }

  if (typeof nginx === "string") console.error(`bench: nothing to compare with: ${nginx}`);
  const judged = judge(figures, ENDPOINT_FIGURES);
  return await report({ machine, figures, judged, phasesTitle: "" }, { json, check });
}

/** One request at a time on a kept connection, less the median of the same to the app itself. */
async function addedLatency(
  lab: EndpointLab,
  both: (measure: (side: Side) => Promise<Served>) => Promise<[Served, Served | undefined]>,
  single: (side: Side) => Promise<Served>,
  signal: AbortSignal,
): Promise<Measured> {
  const request = lab.endpoint.request("/", 0);
  const open = () => connect(lab.appPort, "127.0.0.1");
  const direct = await load({ open, connections: 1, seconds: 2, next: () => request, signal });
  const base = median(direct.latencies.map(({ value }) => value));
  const less = ({ latencies }: Served): Sample[] => latencies.map(({ value }) => ({ value: value - base }));
  const [ours, theirs] = await both(single);
  return measured("added.latency", "ms", less(ours), theirs && less(theirs), { "ms straight to the app": round(base) });
}

const joined = (all: readonly Served[]): Served => ({
  perCpuSecond: all.flatMap((one) => one.perCpuSecond),
  latencies: all.flatMap((one) => one.latencies),
  rate: median(all.map((one) => one.rate)),
});

const clockRates = (ours: Served, theirs: Served | undefined): Measured["details"] => ({
  "by the clock": round(ours.rate),
  ...(theirs && { "nginx's by the clock": round(theirs.rate) }),
});

function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "string" },
      check: { type: "boolean", default: false },
      seconds: { type: "string", default: "6" },
      only: { type: "string", default: "" },
      "cpu-prof": { type: "string" },
    },
  });
  const seconds = Number(values.seconds);
  if (!(seconds >= 1 && seconds <= 60)) throw new TypeError(`--seconds ${values.seconds}: not from 1 to 60`);
  if (!ENDPOINT_FIGURES.some(({ id }) => id.startsWith(values.only)))
    throw new TypeError(`--only ${values.only}: there are ${ENDPOINT_FIGURES.map(({ id }) => id).join(", ")}`);
  return { json: values.json, check: values.check, seconds, only: values.only, profile: values["cpu-prof"] };
}

await command(USAGE, parseOptions, main);
