import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EgressPolicy } from "../../src/host/host-client.ts";
import { slotPrefix } from "../../src/host/network/slot-pool.ts";
import { run } from "../../src/lib/run.ts";
import * as frames from "../network/frames.ts";
import { CIDR, HOST_ADDRESS, HOST_PRIVATE_ADDRESS, Lab, OUTSIDE, RESOLVER } from "../network/lab.ts";
import { RemoteProcess } from "../network/remote.ts";
import type { EgressHostCalls } from "./egress-host-process.ts";
import { eventually, zip } from "./server.ts";

const INTRUDER = fileURLToPath(new URL("intruder", import.meta.url));
const POLICY: EgressPolicy = {
  grants: [
    {
      routes: ["public", "10.20.0.0/24"],
      rules: [
        { protocol: "tcp", ports: [[443, 443]], cidrs: ["10.0.0.0/8"] },
        { protocol: "tcp", ports: [[443, 443]], cidrs: ["0.0.0.0/0"], names: ["api.example.com"] },
      ],
    },
  ],
};

let lab: Lab;
let folder: string;
let host: RemoteProcess<EgressHostCalls>;
const startHost = async (poolSize = 0): Promise<void> => {
  host = new RemoteProcess<EgressHostCalls>(lab.host, "../vm/egress-host-process.ts", [folder, CIDR, RESOLVER]);
  await host.calls.start(poolSize);
};
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "torpor-egress-"));
  lab = await Lab.make();
  await startHost();
  const artifact = join(folder, "intruder.zip");
  await writeFile(artifact, await zip(INTRUDER));
  await host.calls.build(artifact, undefined);
});
afterAll(async () => {
  await host?.kill();
  for (const name of await readdir("/proc")) {
    const mounts = /^\d+$/.test(name) ? await readFile(`/proc/${name}/mountinfo`, "utf8").catch(() => "") : "";
    if (mounts.includes(`${folder}/vmms/`)) process.kill(Number(name), "SIGKILL");
  }
  for (const name of await readdir("/run/netns"))
    if (name.startsWith(slotPrefix(folder))) await run("ip", ["netns", "del", name]);
  await lab?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** What the guest makes of an order. */
async function does<T>(microvmId: string, call: string, ...args: readonly unknown[]): Promise<T> {
  await host.calls.order(microvmId, call, args);
  return await eventually(`${call} of ${microvmId}`, async () => (await host.calls.result(microvmId)) as T | undefined);
}
async function reached(microvmId: string, addresses: readonly string[], port = 443): Promise<string[]> {
  const said = await does<Record<string, string>>(
    microvmId,
    "reach",
    addresses.map((each) => `${each}:${port}`),
  );
  return addresses.filter((each) => !said[`${each}:${port}`]?.startsWith("closed"));
}

test("root in a real guest reaches public addresses, and nothing more by whatever he sends or says he is", async () => {
  await host.calls.launch("root", undefined);
  await host.calls.launch("neighbour", undefined);
  expect(await reached("root", OUTSIDE)).toEqual(["5.6.7.8", "5.6.7.9", "8.8.8.8"]);
  const own = [HOST_ADDRESS, HOST_PRIVATE_ADDRESS, "169.254.0.1", "100.99.0.5", "100.99.0.9", "100.99.0.10"];
  expect(await reached("root", own, 4699)).toEqual([]);
  // As its neighbour, as the gateway, as somebody of the office, and with another MAC.
  for (const [ip, netmask, mac] of [
    ["100.99.0.10", "255.255.0.0", "52:54:00:00:00:01"],
    ["10.20.0.9", "255.255.0.0", "52:54:00:00:00:01"],
    ["169.254.0.2", "255.255.255.252", "52:54:00:00:00:77"],
  ] as const) {
    const targets = ["10.20.0.5:443", "5.6.7.8:443", `${HOST_ADDRESS}:4699`];
    const said = await does<Record<string, string>>("root", "disguised", ip, netmask, mac, targets);
    expect(Object.values(said).filter((each) => !each.startsWith("closed"))).toEqual([]);
  }
  expect(await reached("root", OUTSIDE)).toEqual(["5.6.7.8", "5.6.7.9", "8.8.8.8"]);

  using wire = await lab.see(lab.out, "lan0");
  const forged = (from: string, to: string): Buffer => frames.ipv4({ from, to, protocol: 17 }, frames.udp("FORGED"));
  const hex = [
    ...["5.6.7.9", "169.254.0.1", "100.99.0.10", HOST_ADDRESS].map((from) =>
      frames.ethernet(frames.IPV4, forged(from, "5.6.7.8")),
    ),
    ...["10.20.0.5", "192.168.7.7", "169.254.77.7"].map((to) =>
      frames.ethernet(frames.IPV4, forged("169.254.0.2", to)),
    ),
    frames.ethernet(frames.VLAN, frames.tagged(7, forged("169.254.0.2", "5.6.7.8"))),
    frames.ethernet(frames.ARP, frames.arpReply("169.254.0.1", "52:54:00:00:00:66", "169.254.0.1")),
    frames.ethernet(frames.IPV4, frames.ipv4({ to: "5.6.7.8", protocol: 17 }, frames.udp("SENTINEL"))),
  ].map((frame) => frame.toString("hex"));
  expect(await does("root", "send", hex)).toEqual({ sent: hex.length });
  expect((await wire.until("SENTINEL")).filter((frame) => frame.includes("FORGED"))).toEqual([]);
  const { networkSentBytes } = await host.calls.usage("root");
  expect(networkSentBytes).toBeGreaterThan(500);
  for (const id of ["root", "neighbour"]) await host.calls.terminate(id);
});

test("what a guest may reach, by range and by name, is the same after suspend, fork, rollback and a killed server", async () => {
  const answers = [{ type: "A" as const, name: "api.example.com", ttl: 5, data: "5.6.7.8" }];
  await lab.outside.serveZone({ "api.example.com": { answers }, "other.example.com": { answers } });
  const expectSame = async (id: string): Promise<void> => {
    const names = await does<Record<string, unknown>>(id, "resolve", ["api.example.com", "other.example.com"]);
    expect(names["api.example.com"]).toEqual(["5.6.7.8"]);
    expect(names["other.example.com"]).toMatch(/^failed/);
    expect(await reached(id, OUTSIDE)).toEqual(["5.6.7.8", "10.20.0.5"]);
    expect(await reached(id, OUTSIDE, 80)).toEqual([]);
  };
  await host.calls.launch("vm", POLICY);
  expect(await reached("vm", OUTSIDE)).toEqual(["10.20.0.5"]);
  await expectSame("vm");
  await host.calls.checkpoint("vm", "then");
  await host.calls.launch("fork", POLICY, "then");
  await expectSame("fork");
  await host.calls.terminate("fork");
  await host.kill();
  await startHost();
  await expectSame("vm");
  await host.calls.suspend("vm");
  await host.kill();
  await startHost();
  await host.calls.resume("vm");
  await expectSame("vm");
  await host.calls.rollback("vm", "then");
  await host.calls.resume("vm");
  await expectSame("vm");
  await host.calls.terminate("vm");
});
