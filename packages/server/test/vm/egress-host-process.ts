import { writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import type { Usage } from "@torpor/protocol";
import { loadConfig } from "../../src/config.ts";
import { loadGuestArtifacts } from "../../src/host/artifacts.ts";
import { createBuilder } from "../../src/host/builder/builder.ts";
import { openDriver } from "../../src/host/driver/open-driver.ts";
import type { EgressPolicy } from "../../src/host/host-client.ts";
import { HostLayout } from "../../src/host/layout.ts";
import type { LocalHost } from "../../src/host/local-host.ts";
import { slotLimits } from "../../src/host/network/limits.ts";
import { SlotPool } from "../../src/host/network/slot-pool.ts";
import { startHost } from "../../src/host/open-host.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { createLog } from "../../src/lib/log.ts";
import { answerCalls } from "../network/remote.ts";

/** A whole host with real VMs, in a namespace that stands for the machine's own network. */
const [dataDir = "", cidr = "", resolver = ""] = process.argv.slice(2);
const forever = new AbortController().signal;
const TEMPLATE = "intruder";
let host: LocalHost;

async function ask(microvmId: string, method: string, body: string): Promise<string> {
  const stream = await host.connect(microvmId, 8080, AbortSignal.timeout(10_000));
  return await new Promise((resolve, reject) => {
    const headers = { "content-length": Buffer.byteLength(body), connection: "close" };
    const call = request({ method, path: "/", headers, createConnection: () => stream }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        text += chunk;
      });
      response.once("end", () => resolve(text)).once("error", reject);
    });
    call.once("error", reject).end(body);
  });
}

const calls = {
  async start(poolSize: number): Promise<void> {
    const flags = { dataDir, accelerator: "tcg", poolSize, standbySeconds: 0, slotCidr: cidr };
    const { config } = loadConfig({ flags });
    const layout = new HostLayout(dataDir);
    const artifacts = await loadGuestArtifacts(config.artifactsDir, config.helperBinary);
    await layout.create();
    const log = createLog("silent");
    const driver = await openDriver({ settings: config, artifacts, log }, forever);
    const resolvConf = join(dataDir, "resolv.conf");
    writeFileSync(resolvConf, `nameserver ${resolver}\n`);
    const slots = new SlotPool({
      dataDir,
      cidr,
      uidBase: config.vmmUidBase,
      max: 20,
      spare: 1,
      limits: slotLimits(config),
      resolverFiles: [resolvConf],
      log,
    });
    const containers = createBuilder({ config, artifactsDir: config.artifactsDir, log });
    host = await startHost({ config, layout, artifacts, driver, slots, containers, clock: systemClock, log });
    await host.inventory();
  },
  async build(artifactPath: string, egress: EgressPolicy | undefined): Promise<string> {
    let log = "";
    const observer = {
      log: (text: string) => {
        log += text;
      },
      phase() {},
    };
    await host.buildTemplate(
      {
        templateId: TEMPLATE,
        accountId: "000000000000",
        artifactPath,
        memoryMib: 512,
        environment: {},
        capabilities: "all",
        ...(egress && { egress }),
      },
      observer,
      forever,
    );
    return log;
  },
  async launch(microvmId: string, egress: EgressPolicy | undefined, checkpointId?: string): Promise<readonly string[]> {
    const fork = checkpointId === undefined ? {} : { checkpointId };
    const spec = { microvmId, templateId: TEMPLATE, ...(egress && { egress }), ...fork };
    return (await host.launch(spec, forever)).reused;
  },
  async order(microvmId: string, call: string, args: readonly unknown[]): Promise<void> {
    await ask(microvmId, "POST", JSON.stringify({ call, args }));
  },
  /** Undefined while it is at it, or cannot be asked. */
  async result(microvmId: string): Promise<unknown> {
    try {
      return (JSON.parse(await ask(microvmId, "GET", "")) as { result?: unknown }).result;
    } catch {
      return undefined;
    }
  },
  async suspend(microvmId: string): Promise<void> {
    await host.suspend(microvmId, {}, forever);
  },
  async resume(microvmId: string): Promise<void> {
    await host.resume(microvmId, {}, forever);
  },
  async checkpoint(microvmId: string, checkpointId: string): Promise<void> {
    await host.checkpoint(microvmId, checkpointId, { previous: false }, forever);
  },
  async rollback(microvmId: string, checkpointId: string): Promise<void> {
    await host.rollback(microvmId, checkpointId, forever);
  },
  usage: (microvmId: string): Promise<Usage> => host.usage(microvmId),
  async terminate(microvmId: string): Promise<void> {
    await host.terminate(microvmId, {}, forever);
  },
};
export type EgressHostCalls = typeof calls;
answerCalls(calls);
