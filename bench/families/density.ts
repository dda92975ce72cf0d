import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { measured, round } from "../harness/figure.ts";
import { Watch } from "../harness/stopwatch.ts";
import { phasesOf } from "../lab/microvm.ts";
import type { BenchServer } from "../lab/server.ts";
import { type Bench, type Family, few, repeat } from "./bench.ts";

const IDLE = "density.idle";
const SUSPENDED = "density.suspended";
const CPU_MS = 10_000;
const CLOCK_TICK_MS = 10;
const LISTS = 5;

export const density: Family = {
  ids: [SUSPENDED, IDLE],
  async run(bench) {
    // In this order: with others running, a wake is not what it is alone.
    if (bench.wanted(SUSPENDED)) await suspended(bench);
    if (bench.wanted(IDLE)) await idle(bench);
  },
};

/** What running microvms that have answered once and have nothing to do take of the host. */
async function idle(bench: Bench): Promise<void> {
  const running = await (await bench.crowd()).running();
  const server = await bench.server();
  const pids = await Promise.all(running.map(({ id }) => pidOf(server, id)));
  const before = await cpuMs(pids);
  await sleep(CPU_MS, undefined, { signal: bench.signal });
  const corePercent = (((await cpuMs(pids)) - before) / CPU_MS) * 100;
  const memory = await Promise.all(pids.map(memoryOf));
  const mean = (pick: (m: Memory) => number): number =>
    round(memory.reduce((sum, m) => sum + pick(m), 0) / pids.length);
  const samples = memory.map((m) => ({ value: m.privateMb }));
  bench.add(
    measured(IDLE, "MB", samples, [], {
      running: running.length,
      "mean PSS MB": mean((m) => m.pssMb),
      "mean private MB": mean((m) => m.privateMb),
      "% of a core each": round(corePercent / pids.length),
    }),
  );
}

/** What suspended ones take, and whether many of them make the wake of one slower. */
async function suspended(bench: Bench): Promise<void> {
  const all = await (await bench.crowd()).suspended();
  const server = await bench.server();
  const ids = new Set(all.map(({ id }) => id));
  const processes = (await server.processes()).filter((id) => ids.has(id)).length;
  const disks = await Promise.all([...ids].map((id) => diskBytes(server.instanceFolder(id))));
  const lists = await repeat(bench, few(bench, LISTS), async () => {
    const watch = new Watch();
    let nextToken: string | null | undefined;
    do {
      const page = await server.torpor.call("ListMicrovms", { maxResults: 50, ...(nextToken && { nextToken }) });
      nextToken = page.nextToken;
    } while (nextToken);
    watch.mark("list");
    return watch.sample();
  });
  const serverMb = (await memoryOf(server.pid)).pssMb;

  const asleep = [...all];
  const samples = await repeat(bench, Math.min(bench.samples, asleep.length), async () => {
    const [vm] = asleep.splice(Math.floor(Math.random() * asleep.length), 1);
    const watch = new Watch();
    await vm!.get();
    watch.mark("request");
    const receipt = await vm!.receipt("resume");
    await vm!.suspend();
    const { value, phases } = watch.sample();
    return { value, phases: { ...phases, ...phasesOf(receipt) } };
  });
  bench.add(
    measured(SUSPENDED, "ms", samples, [], {
      suspended: ids.size,
      processes,
      "disk MB each": round(disks.reduce((sum, n) => sum + n, 0) / disks.length / 1e6),
      "server PSS MB": round(serverMb),
      "list all ms": measured("list", "ms", lists).median,
    }),
  );
}

interface Memory {
  readonly pssMb: number;
  /** What would be free if it ended, whatever others do. */
  readonly privateMb: number;
}

async function memoryOf(pid: number): Promise<Memory> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  const mb = (name: string): number =>
    (Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(rollup)?.[1]) * 1024) / 1e6;
  return { pssMb: mb("Pss"), privateMb: mb("Private_Clean") + mb("Private_Dirty") };
}

async function cpuMs(pids: readonly number[]): Promise<number> {
  let ticks = 0;
  for (const pid of pids) {
    const text = await readFile(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks * CLOCK_TICK_MS;
}

async function pidOf(server: BenchServer, microvmId: string): Promise<number> {
  const read = async (path: string): Promise<unknown> => JSON.parse(await readFile(path, "utf8"));
  const { vmm } = (await read(join(server.instanceFolder(microvmId), "instance.json"))) as { vmm: { id: string } };
  const { pid } = (await read(join(server.dataDir, "vmms", vmm.id, "vmm.json"))) as { pid: number };
  return pid;
}

async function diskBytes(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).blocks * 512;
  return bytes;
}
