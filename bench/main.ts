/**
 * `npm run bench`: what the steps of a microvm's life take on this machine, each beside its floor, the raw equivalent
 * without a server, measured in the same run. docs/performance.md says what each figure means.
 */
import { inspect } from "node:util";
import { loadConfig } from "../packages/server/src/config.ts";
import { loadGuestArtifacts } from "../packages/server/src/host/artifacts.ts";
import { messageOf } from "../packages/server/src/lib/errors.ts";
import type { Bench, Family } from "./families/bench.ts";
import { density } from "./families/density.ts";
import { fork } from "./families/fork.ts";
import { launch } from "./families/launch.ts";
import { rate } from "./families/rate.ts";
import { restart } from "./families/restart.ts";
import { resume } from "./families/resume.ts";
import { suspend } from "./families/suspend.ts";
import { RawHost } from "./floor/raw-host.ts";
import { FIGURES, judge, unitOf } from "./harness/aims.ts";
import { command, report } from "./harness/command.ts";
import type { Figure } from "./harness/figure.ts";
import { describeMachine } from "./harness/machine.ts";
import { once } from "./harness/once.ts";
import { Crowd, type CrowdSize } from "./lab/crowd.ts";
import { BenchServer } from "./lab/server.ts";
import { DEFAULT_SAMPLES, type Options, parseOptions, USAGE } from "./options.ts";

/** The crowd comes last: with it on the machine, nothing else could be measured. */
const FAMILIES: readonly Family[] = [launch, suspend, resume, fork, rate, density, restart];

async function main(options: Options, signal: AbortSignal): Promise<number> {
  const figures: Figure[] = [];
  const say = (text: string): void => console.error(`bench: ${text}`);
  const wanted = (id: string): boolean => id.startsWith(options.only);
  await using owned = new AsyncDisposableStack();

  const server = once(async () => {
    say("starting a server and building the image");
    return owned.use(await BenchServer.start(signal));
  });
  const bench: Bench = {
    samples: options.samples,
    signal,
    wanted,
    say,
    server,
    raw: once(async () => owned.use(await RawHost.open())),
    rawSpec: once(async () => {
      const { config } = loadConfig();
      const { helper } = await loadGuestArtifacts(config.artifactsDir, config.helperBinary);
      const { facts, template } = await server();
      const accelerator = facts.accelerator === "kvm" ? "kvm" : "tcg";
      return { qemu: config.qemuBinary, helper: helper.path, accelerator, template };
    }),
    crowd: once(async () => {
      const host = await server();
      await host.mode("bare");
      return new Crowd(host, crowdSize(options), signal, say);
    }),
    add: (figure) => {
      figures.push(figure);
      say("skipped" in figure ? `${figure.id}: ${figure.skipped}` : `${figure.id}: ${figure.median} ${figure.unit}`);
    },
  };

  const { facts, dataDir } = await server();
  const machine = await describeMachine(facts, dataDir);
  for (const family of FAMILIES) {
    if (!family.ids.some(wanted)) continue;
    try {
      await family.run(bench);
    } catch (err) {
      signal.throwIfAborted();
      say(`${inspect(err)}\nthe server's log is kept: ${(await server()).keepLog()}`);
      // The others are worth having all the same.
      const missing = family.ids.filter((id) => wanted(id) && !figures.some((f) => f.id === id));
      for (const id of missing) bench.add({ id, unit: unitOf(id), skipped: `failed: ${messageOf(err)}` });
    }
  }

  const order = FIGURES.map(({ id }) => id);
  figures.sort((a, b) => order.indexOf(a.id) - order.indexOf(b.id));
  const judged = judge(figures);
  return await report({ machine, figures, judged, phasesTitle: "\nWhere the time goes, in ms:\n" }, options);
}

/**
 * 40 running and 200 suspended; 1,000 suspended take many minutes to make in emulation, so they are for those
 * who ask for `density`. Whoever asks for few samples gets fewer of these as well; the result says how many there were.
 */
function crowdSize({ only, samples }: Options): CrowdSize {
  const share = Math.min(1, samples / DEFAULT_SAMPLES);
  const suspended = only.startsWith("density") ? 1000 : 200;
  return { running: Math.max(1, Math.ceil(40 * share)), suspended: Math.max(1, Math.ceil(suspended * share)) };
}

await command(USAGE, parseOptions, main);
