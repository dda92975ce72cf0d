/**
 * `torpor serve` with the flags that it has, over a machine that only pretends to run VMs: for tests and benches of
 * all that lies above the host, as a process of its own. Needs neither root nor artifacts.
 */
import { parseArgs } from "node:util";
import { loadConfig, settingFlags } from "../../src/config.ts";
import { FakeHost, FakeMachine } from "../../src/control/testing/fake-host.ts";
import { createLog } from "../../src/lib/log.ts";
import { serve } from "../../src/serve.ts";

const known = settingFlags();
const { values } = parseArgs({
  options: Object.fromEntries(known.map(({ flag }) => [flag, { type: "string" } as const])),
});
const given = known.flatMap(({ flag, name }) => (values[flag] === undefined ? [] : [[name, values[flag]] as const]));
const { config, origins } = loadConfig({ env: {}, flags: Object.fromEntries(given), file: "/dev/null" });
await serve(config, origins, createLog(config.logLevel), async () => new FakeHost(new FakeMachine()));
