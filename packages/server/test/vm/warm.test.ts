import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { ResumeMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import type { Receipt } from "@torpor/protocol";
import { TorporClient } from "@torpor/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TOO_MANY_LAYERS } from "../../src/host/snapshot/layer-merge.ts";
import { AWAKE_ON_REQUEST, buildImage, RunningMicrovm, suspend, terminate } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";
import { ask, type Who, WORKLOAD } from "./workload.ts";

const { signal } = new AbortController();

let server: TestServer;
let torpor: TorporClient;
let image: string;
beforeAll(async () => {
  server = await TestServer.start({ "pool-size": "2", "standby-seconds": "600", "warm-memory-mib": "1024" });
  torpor = new TorporClient({ ...server.credentials, credentials: server.credentials });
  image = await buildImage(server, "workload", WORKLOAD);
});
afterAll(() => server?.[Symbol.asyncDispose]());

const lastReceipt = async (vm: RunningMicrovm): Promise<Receipt> => (await torpor.receipts(vm.id, signal)).at(-1)!;
/** Layers of its disk in its newest restore point. */
const layersOf = async (vm: RunningMicrovm): Promise<number> => {
  const folder = join(server.dataDir, "vms", vm.id, "snapshots");
  const newest = Math.max(...(await readdir(folder)).filter((name) => /^\d+$/.test(name)).map(Number));
  const names = await readdir(join(folder, String(newest)));
  return names.filter((name) => /^disk-\d+\.qcow2$/.test(name)).length;
};
/** VMMs that belong to no microvm. */
const warmVmms = async (): Promise<string[]> => (await server.vmms()).filter((id) => id.startsWith("vmm-"));

test("microvms from the pool spawn nothing, are refilled behind, and are all somebody else", async () => {
  await eventually("a pool", async () => ((await warmVmms()).length >= 2 ? true : undefined));
  const vms: RunningMicrovm[] = [];
  const people: Who[] = [];
  for (let n = 0; n < 4; n++) {
    // A primed one stands ready before each launch: the pool fills up by itself.
    await eventually("a primed one", async () => ((await warmVmms()).length >= 2 ? true : undefined));
    const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
    people.push(await ask<Who>(vm, "/"));
    expect((await lastReceipt(vm)).operation).toBe("launch");
    vms.push(vm);
  }
  const launches = await Promise.all(vms.map(lastReceipt));
  expect(launches.filter(({ reused }) => reused.includes("primed")).length).toBeGreaterThanOrEqual(3);
  for (const what of ["random", "uuid", "machineId", "bootId"] as const)
    expect(new Set(people.map((who) => who[what])).size).toBe(people.length);
  for (const { time } of people) expect(Math.abs(time - Date.now() / 1000)).toBeLessThan(60);
  await terminate(server, ...vms);
});

test("a suspended microvm stands by, wakes at once, and is the same from the disk when its process is gone", async () => {
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  await ask(vm, "/fill?seed=1&mib=8");
  await ask(vm, "/write?name=file&seed=2&mib=4");
  const before = await ask(vm, "/digests");
  await suspend(server, vm);
  expect(await torpor.usage(vm.id)).toMatchObject({ process: "standby" });
  expect(await ask(vm, "/digests")).toEqual(before); // the request wakes it
  expect((await lastReceipt(vm)).reused).toEqual(["standby"]);
  await ask(vm, "/touch?seed=3");
  await ask(vm, "/write?name=other&seed=4&mib=2");
  const later = await ask(vm, "/digests");
  await suspend(server, vm);
  await server.kill(); // what stands by is nobody's now
  await server.start();
  expect(await server.vmms()).not.toContain(vm.id);
  expect(await torpor.usage(vm.id)).toMatchObject({ process: "none", pssBytes: null });
  expect(await ask(vm, "/digests")).toEqual(later);
  expect((await lastReceipt(vm)).reused).not.toContain("standby");
  await terminate(server, vm);
});

test("memory that grows, shrinks and changes, and files that come and go, are right over fifty suspensions", async () => {
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  const { free } = await ask<Who>(vm, "/");
  let mostLayers = 0;
  for (let cycle = 1; cycle <= 50; cycle++) {
    const size = [1, 12, 3, 0, 24, 6][cycle % 6]!;
    await ask(vm, `/fill?name=a&seed=${cycle}&mib=${size}`);
    if (cycle % 3 === 0) await ask(vm, `/fill?name=b&seed=${cycle}&mib=2`);
    else if (cycle > 3) await ask(vm, `/touch?name=b&seed=${cycle}`);
    await ask(vm, `/write?name=f${cycle % 4}&seed=${cycle}&mib=1`);
    const before = await ask(vm, "/digests");
    await suspend(server, vm);
    if (cycle % 5 === 0) {
      // Its process goes, as it would by age or for want of memory: from here on it is what the disk holds.
      await server.stop();
      await server.start();
    }
    if (cycle % 2 === 0) await server.api.send(new ResumeMicrovmCommand({ microvmIdentifier: vm.id }));
    expect(await ask(vm, "/digests"), `cycle ${cycle}`).toEqual(before);
    mostLayers = Math.max(mostLayers, await layersOf(vm));
  }
  // Fifty suspensions have made fifty layers. What sleeps for long enough gets one of them, and so does what wakes with
  // too many.
  expect(mostLayers).toBeGreaterThan(3);
  expect(mostLayers).toBeLessThanOrEqual(TOO_MANY_LAYERS + 1);
  for (let n = 0; n < 4; n++) await ask(vm, `/write?name=f${n}&mib=0`);
  expect(Math.abs((await ask<Who>(vm, "/")).free - free)).toBeLessThan(1 << 20);
  await terminate(server, vm);
  await eventually("nothing left", async () =>
    (await server.vmms()).every((id) => id.startsWith("vmm-")) ? true : undefined,
  );
});
