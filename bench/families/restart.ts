import { measured } from "../harness/figure.ts";
import { Watch } from "../harness/stopwatch.ts";
import { type Family, few, repeat } from "./bench.ts";

const RESTART = "restart";
const RESTARTS = 3;

export const restart: Family = {
  ids: [RESTART],
  /**
   * The whole outage: from SIGTERM until each running microvm has answered through its endpoint, each suspended one is
   * known, and one of those has woken.
   */
  async run(bench) {
    const crowd = await bench.crowd();
    const [suspended, running] = [await crowd.suspended(), await crowd.running()];
    const server = await bench.server();
    const samples = await repeat(bench, few(bench, RESTARTS), async (n) => {
      const watch = new Watch();
      await server.stop();
      watch.mark("stop");
      await server.restart();
      watch.mark("start");
      await Promise.all(running.map((vm) => vm.get()));
      watch.mark("running answer");
      await Promise.all(suspended.map((vm) => vm.until("SUSPENDED")));
      watch.mark("suspended known");
      const one = suspended[n % suspended.length]!;
      await one.get();
      watch.mark("one wakes");
      await one.suspend();
      return watch.sample();
    });
    bench.add(measured(RESTART, "ms", samples, [], { running: running.length, suspended: suspended.length }));
  },
};
