// A daemon that builds one artifact, for tests that kill it: node build-once.ts DATA_DIR ARTIFACT OUTPUT
import { loadConfig } from "../../src/config.ts";
import { createBuilder } from "../../src/host/builder/builder.ts";
import { createLog } from "../../src/lib/log.ts";

const [dataDir = "", artifactPath = "", outputPath = ""] = process.argv.slice(2);
const { config } = loadConfig();
const builder = createBuilder({
  config: { ...config, dataDir },
  artifactsDir: config.artifactsDir,
  log: createLog("silent"),
  limits: { memoryBytes: 1 << 30, pids: 256 },
});
await builder.build(
  { buildId: "killed", accountId: "999999999999", artifactPath, diskGib: 8, outputPath, environment: {} },
  { log: (text) => process.stdout.write(text), phase: () => {} },
  new AbortController().signal,
);
