/**
 * `npm run bench:api`: what the API does in a second and what one request takes, on one core, without VMs: the host is
 * a fake that answers at once. Each figure beside its floor, measured in the same run: a bare HTTP server that answers
 * the same JSON, and durable inserts into a SQLite file.
 */
import { randomUUID } from "node:crypto";
import { connect } from "node:net";
import { parseArgs } from "node:util";
import { GetMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import { judge } from "../harness/aims.ts";
import { command, report } from "../harness/command.ts";
import { type Figure, type Measured, measured, round, type Sample } from "../harness/figure.ts";
import { type Load, load } from "../harness/load.ts";
import { describeMachine } from "../harness/machine.ts";
import { cores, leaveServersCore } from "../harness/process.ts";
import { API_FIGURES } from "./aims.ts";
import { ApiLab, bareInserts, bareServer } from "./lab.ts";

const CONNECTIONS = 16;
const USAGE = `usage: npm run bench:api -- [--json FILE] [--check] [--seconds N] [--cpu-prof FOLDER]
  --json FILE        writes the result there
  --check            exit status 1 when a figure misses its aim; the last line names which
  --seconds N        of each load, 6 when nothing is said
  --cpu-prof FOLDER  node's profile of the server goes there`;

interface Options {
  readonly json: string | undefined;
  readonly check: boolean;
  readonly seconds: number;
  readonly profile: string | undefined;
}

async function main({ json, check, seconds, profile }: Options, signal: AbortSignal): Promise<number> {
  const nodeArgs = profile ? ["--cpu-prof", `--cpu-prof-dir=${profile}`] : [];
  await using lab = await ApiLab.start(nodeArgs);
  const { port, dataDir } = lab.server;
  const machine = { ...(await describeMachine(undefined, dataDir)), pinned: cores() };
  leaveServersCore();
  const figures: Figure[] = [];
  const add = (
    id: string,
    unit: "1/s" | "ms",
    samples: readonly Sample[],
    floor: readonly Sample[],
    details?: Measured["details"],
  ): void => {
    const figure = measured(id, unit, samples, floor, details);
    figures.push(figure);
    console.error(`bench: ${id}: ${figure.median} ${unit}`);
  };
  const busy = (next: Next, at = port, connections = CONNECTIONS): Promise<Load> =>
    load({ open: () => connect(at, "127.0.0.1"), connections, seconds, next, signal });
  /** A load of the server, and what it costs its processor: that tells most when the machine has other things to do. */
  const costly = async (next: Next, connections = CONNECTIONS): Promise<Load & { readonly cost: Cost }> => {
    const before = await lab.server.cpuMs();
    const made = await busy(next, port, connections);
    const ms = ((await lab.server.cpuMs()) - before) / made.latencies.length;
    return { ...made, cost: { "ms of processor each": round(ms), "a second of processor": round(1000 / ms) } };
  };
  /** So many that a second of the fastest server would not use them up. */
  const made = (perSecond: number, make: (n: number) => Buffer): Next => {
    const requests = Array.from({ length: perSecond * seconds }, (_, n) => make(n));
    return () => requests.pop();
  };

  const gets = lab.microvms.map((id) => lab.request("GET", `/2025-09-09/microvms/${id}`));
  let turn = 0;
  const nextGet = (): Buffer => gets[turn++ % gets.length]!;
  await busy(made(500, nextGet)); // warm: nobody's first request is measured
  const floors = { read: await bareReads(lab, busy, nextGet), write: await bareWrites(dataDir, seconds) };

  const reads = await costly(nextGet);
  add("read.rate", "1/s", reads.rates, floors.read.rates, reads.cost);
  add("read.latency", "ms", reads.latencies, floors.read.latencies);
  const list = lab.request("GET", "/2025-09-09/microvms?maxResults=50");
  const lists = await costly(() => list);
  add("list.rate", "1/s", lists.rates, floors.read.rates, lists.cost);

  const tags = `/2017-03-31/tags/${encodeURIComponent(lab.image)}`;
  const writes = await costly(made(3000, (n) => lab.request("POST", tags, `{"Tags":{"n":"${n}"}}`)));
  add("write.rate", "1/s", writes.rates, floors.write.rates, writes.cost);
  add("write.latency", "ms", writes.latencies, floors.write.latencies);

  const runs = (perSecond: number) =>
    made(perSecond, () => {
      const body = JSON.stringify({ imageIdentifier: lab.image, clientToken: randomUUID() });
      return lab.request("POST", "/2025-09-09/microvms", body);
    });
  const many = await costly(runs(1000));
  add("run.rate", "1/s", many.rates, floors.write.rates, many.cost);
  const single = await costly(runs(800), 1);
  add("run.latency", "ms", single.latencies, floors.write.latencies, single.cost);

  const judged = judge(figures, API_FIGURES);
  return await report({ machine, figures, judged, phasesTitle: "" }, { json, check });
}

type Next = () => Buffer | undefined;
type Busy = (next: Next, port: number) => Promise<Load>;
type Cost = Readonly<Record<string, number>>;

/** The same requests, answered with the same JSON by a server that does not look at them. */
async function bareReads({ server, microvms }: ApiLab, busy: Busy, next: () => Buffer): Promise<Load> {
  const client = server.client();
  const { $metadata: _, ...microvm } = await client.send(new GetMicrovmCommand({ microvmIdentifier: microvms[0] }));
  client.destroy();
  await using bare = await bareServer(JSON.stringify(microvm));
  await busy(next, bare.port);
  return await busy(next, bare.port);
}

async function bareWrites(folder: string, seconds: number): Promise<Load> {
  const times = await bareInserts(folder, seconds * 1000);
  return {
    rates: [{ value: times.length / (times.reduce((sum, ms) => sum + ms, 0) / 1000) }],
    latencies: times.map((value) => ({ value })),
  };
}

function parseOptions(args: string[]): Options {
  const { values } = parseArgs({
    args,
    options: {
      json: { type: "string" },
      check: { type: "boolean", default: false },
      seconds: { type: "string", default: "6" },
      "cpu-prof": { type: "string" },
    },
  });
  const seconds = Number(values.seconds);
  // Signatures are made before the load, and are good for minutes.
  if (!(seconds >= 1 && seconds <= 60)) throw new TypeError(`--seconds ${values.seconds}: not from 1 to 60`);
  return { json: values.json, check: values.check, seconds, profile: values["cpu-prof"] };
}

await command(USAGE, parseOptions, main);
