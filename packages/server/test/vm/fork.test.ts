import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { GetMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import { TorporClient } from "@torpor/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, buildImage, RunningMicrovm, suspend, terminate, untilState } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";
import { ask, type Who, WORKLOAD } from "./workload.ts";

/** Forks in all; they come and go in groups. */
const FORKS = process.env.TORPOR_TEST_FULL === "1" ? 200 : 40;
const GROUP = 20;

let server: TestServer;
let torpor: TorporClient;
let image: string;
beforeAll(async () => {
  server = await TestServer.start();
  torpor = new TorporClient({ ...server.credentials, credentials: server.credentials });
  image = await buildImage(server, "workload", WORKLOAD);
});
afterAll(() => server?.[Symbol.asyncDispose]());

const run = (): Promise<RunningMicrovm> => RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
const fork = async (from: string, count = 1): Promise<RunningMicrovm[]> => {
  const { items } = await torpor.fork(from, { count });
  return await Promise.all(items.map((item) => RunningMicrovm.open(server, item)));
};
const digests = (vm: RunningMicrovm): Promise<unknown> => ask(vm, "/digests");

test("a fork of a running microvm has its memory and disk, and each goes its own way", async () => {
  const parent = await run();
  await ask(parent, "/fill?seed=1&mib=32");
  await ask(parent, "/write?name=file&seed=2&mib=2");
  const before = await digests(parent);
  const [child] = await fork(parent.id);
  expect(await digests(child!)).toEqual(before);
  expect(await digests(parent)).toEqual(before);
  await ask(parent, "/touch?seed=3");
  await ask(child!, "/write?name=file&seed=4&mib=1");
  const own = { parent: await digests(parent), child: await digests(child!) };
  expect(new Set([before, own.parent, own.child].map((d) => JSON.stringify(d))).size).toBe(3);
  // Both can be suspended and wake as what they are now.
  await Promise.all([suspend(server, parent), suspend(server, child!)]);
  expect(await digests(parent)).toEqual(own.parent);
  expect(await digests(child!)).toEqual(own.child);
  expect(await torpor.lineage(child!.id)).toMatchObject({ forkedFrom: { microvmId: parent.id } });
  await terminate(server, parent, child!);
});

test("forks of forks live on when those before them have ended, and share files until then", async () => {
  const parent = await run();
  await ask(parent, "/fill?seed=5&mib=8");
  await ask(parent, "/write?name=file&seed=6&mib=8");
  const before = await digests(parent);
  await suspend(server, parent);
  const [child] = await fork(parent.id); // of a suspended one: nothing is copied, nobody wakes
  await untilState(server, parent.id, "SUSPENDED");
  const [grandchild] = await fork(child!.id);
  await terminate(server, parent, child!);
  await suspend(server, grandchild!);
  expect(await digests(grandchild!)).toEqual(before);
  await terminate(server, grandchild!);
});

test("many forks at once are all somebody, and none is another", async () => {
  const parent = await run();
  await ask(parent, "/fill?seed=7&mib=4");
  const before = await digests(parent);
  const { checkpointId, state } = await torpor.createCheckpoint(parent.id, { name: "many" });
  expect(state).toBe("AVAILABLE");
  const people: Who[] = [await ask<Who>(parent, "/")];
  for (let begun = 0; begun < FORKS; begun += GROUP) {
    const forks = await fork(checkpointId, GROUP);
    const answers = await Promise.all(forks.map((vm) => ask<Who>(vm, "/")));
    people.push(...answers);
    for (const vm of forks.slice(0, 2)) expect(await digests(vm)).toEqual(before);
    for (const { time } of answers) expect(Math.abs(time - Date.now() / 1000)).toBeLessThan(60);
    await terminate(server, ...forks);
  }
  for (const what of ["random", "uuid", "machineId", "bootId"] as const)
    expect(new Set(people.map((who) => who[what])).size).toBe(FORKS + 1);
  await terminate(server, parent);
  await torpor.deleteCheckpoint(checkpointId);
  await eventually("nothing left", async () => {
    const left = await Promise.all(["vms", "vmms", "checkpoints"].map((name) => readdir(join(server.dataDir, name))));
    return left.flat().length === 0 ? true : undefined;
  });
}, 600_000);

test("a rollback keeps the id and the endpoint, and forgets what came after the checkpoint", async () => {
  const vm = await run();
  await ask(vm, "/fill?seed=8&mib=8");
  await ask(vm, "/write?name=file&seed=9&mib=1");
  const then = await digests(vm);
  const { checkpointId } = await torpor.createCheckpoint(vm.id);
  await ask(vm, "/fill?seed=10&mib=2");
  await ask(vm, "/write?name=other&seed=11&mib=1");
  const later = await digests(vm);
  const second = await torpor.createCheckpoint(vm.id);
  expect(await torpor.rollback(vm.id, checkpointId)).toMatchObject({ state: "RUNNING" });
  expect(await digests(vm)).toEqual(then);
  await ask(vm, "/write?name=third&seed=12&mib=1");
  await suspend(server, vm);
  await torpor.rollback(vm.id, second.checkpointId); // forwards, and of a sleeping one
  expect(await digests(vm)).toEqual(later);
  expect(await server.vmms()).toEqual([vm.id]);
  await terminate(server, vm);
  for (const id of [checkpointId, second.checkpointId]) await torpor.deleteCheckpoint(id);
});

test("a checkpoint whose files are damaged is refused by name, and the microvm is as it was", async () => {
  const vm = await run();
  await ask(vm, "/fill?seed=13&mib=4");
  const { checkpointId } = await torpor.createCheckpoint(vm.id);
  const folder = join(server.dataDir, "checkpoints", checkpointId);
  const before = await digests(vm);
  for (const name of ["devices", "memory-1.diff", "manifest.json"]) {
    const path = join(folder, name);
    const good = await readFile(path);
    const bad = Buffer.from(good);
    bad[Math.floor(bad.length / 2)]! ^= 0x10;
    await writeFile(path, bad);
    const { items } = await torpor.fork(checkpointId, { count: 1 });
    for (const { microvmId } of items) {
      await untilState(server, microvmId, "TERMINATED");
      const { stateReason } = await server.api.send(new GetMicrovmCommand({ microvmIdentifier: microvmId }));
      expect(stateReason).toMatch(/the checkpoint that it was forked from cannot be used/);
    }
    await expect(torpor.rollback(vm.id, checkpointId)).rejects.toThrow(/corrupt/);
    await writeFile(path, good);
    expect(await digests(vm), name).toEqual(before);
    expect(await server.vmms()).toEqual([vm.id]);
  }
  await terminate(server, vm);
  await torpor.deleteCheckpoint(checkpointId);
});
