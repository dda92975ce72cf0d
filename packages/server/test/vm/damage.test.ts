import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat, truncate, utimes } from "node:fs/promises";
import { basename, join } from "node:path";
import { ResumeMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import type { Usage } from "@torpor/protocol";
import { TorporClient } from "@torpor/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, buildImage, microvmState, RunningMicrovm, suspend, terminate } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";
import { ask, WORKLOAD } from "./workload.ts";

const { signal } = new AbortController();

let server: TestServer;
let torpor: TorporClient;
let image: string;
beforeAll(async () => {
  server = await TestServer.start();
  torpor = new TorporClient({ ...server.credentials, credentials: server.credentials });
  image = await buildImage(server, "workload", WORKLOAD);
});
afterAll(() => server?.[Symbol.asyncDispose]());

/** The newest of its restore points. */
async function restorePoint(vm: RunningMicrovm): Promise<string> {
  const folder = join(server.dataDir, "vms", vm.id, "snapshots");
  const newest = Math.max(...(await readdir(folder)).map(Number));
  return join(folder, String(newest));
}
const usage = (vm: RunningMicrovm): Promise<Usage> => torpor.usage(vm.id, signal);
const until = (vm: RunningMicrovm, state: string): Promise<Usage> =>
  eventually(`${vm.id} ${state}`, async () => {
    const found = await usage(vm);
    return found.restorePoint?.state === state ? found : undefined;
  });
const resume = (vm: RunningMicrovm): Promise<unknown> =>
  server.api.send(new ResumeMicrovmCommand({ microvmIdentifier: vm.id }));

/** Changes one bit in the middle, as a disk does: nobody has written to the file. */
async function flip(path: string): Promise<void> {
  const { size, atime, mtime } = await stat(path);
  await using file = await open(path, "r+");
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, Math.floor(size / 2));
  buffer[0]! ^= 0x10;
  await file.write(buffer, 0, 1, Math.floor(size / 2));
  await file.sync();
  await utimes(path, atime, mtime);
}

const HARM: Readonly<Record<string, (path: string, other: string) => Promise<void>>> = {
  flipped: flip,
  "cut short": async (path) => truncate(path, (await stat(path)).size - 1000),
  missing: (path) => rm(path),
  "another microvm's": async (path, other) => {
    await rm(path);
    await copyFile(other, path);
  },
};

describe("what a sleeping microvm wakes from", () => {
  let vm: RunningMicrovm;
  let other: RunningMicrovm;
  let before: unknown;
  beforeAll(async () => {
    [vm, other] = [
      await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST),
      await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST),
    ];
    for (const [seed, each] of [vm, other].entries()) {
      await ask(each, `/fill?seed=${seed}&mib=4`);
      await ask(each, `/write?name=file&seed=${seed}&mib=${4 + seed}`);
    }
    before = await ask(vm, "/digests");
    for (const each of [vm, other]) await suspend(server, each);
    for (const each of [vm, other]) await until(each, "verified");
  });
  afterAll(() => terminate(server, vm, other));

  test.for([
    ["manifest.json", ...Object.keys(HARM)],
    ["devices", ...Object.keys(HARM)],
    ["memory-1.diff", ...Object.keys(HARM)],
    ["disk-1.qcow2", "cut short", "missing", "another microvm's"],
  ])("%s", async ([name, ...harms]) => {
    const folder = await restorePoint(vm);
    const path = join(folder, name!);
    const kept = join(server.dataDir, "kept");
    await mkdir(kept, { recursive: true });
    for (const harm of harms) {
      const good = join(kept, basename(path));
      await rename(path, good); // the file itself, with its other names; what is harmed is a copy
      await copyFile(good, path);
      try {
        await HARM[harm]!(path, join(await restorePoint(other), name!));
        await expect(resume(vm), harm).rejects.toThrow(
          new RegExp(`^The MicroVM ${vm.id} cannot be resumed: ${name} of .*It is still suspended\\..*no earlier`),
        );
        expect(await microvmState(server, vm.id), harm).toBe("SUSPENDED");
        expect((await usage(vm)).restorePoint).toMatchObject({
          state: "damaged",
          damage: expect.stringContaining(name!),
        });
      } finally {
        await rename(good, path);
      }
    }
    // Put back, it is as it was; and so is everybody else.
    await resume(vm);
    expect(await ask(vm, "/digests")).toEqual(before);
    await suspend(server, vm);
    await until(vm, "verified");
    expect((await usage(other)).restorePoint?.state).toBe("verified");
  });
});

test("a bit of a disk layer that changes by itself is found by whoever reads it all, and never used", async () => {
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  await ask(vm, "/write?name=file&seed=1&mib=8");
  await suspend(server, vm);
  await until(vm, "verified");
  const { checkpointId } = await torpor.createCheckpoint(vm.id, { name: "shares-the-layer" });
  const path = join(await restorePoint(vm), "disk-1.qcow2");
  await flip(path);
  // Days later.
  for (const folder of [await restorePoint(vm), join(server.dataDir, "checkpoints", checkpointId)])
    await rewind(join(folder, "verification.json"));
  await server.stop();
  await server.start();
  expect((await until(vm, "damaged")).restorePoint?.damage).toMatch(
    /^disk-1\.qcow2 has other contents than were written/,
  );
  await expect(resume(vm)).rejects.toThrow(/disk-1\.qcow2 .*It is still suspended/);
  const [checkpoint] = await Array.fromAsync(torpor.checkpoints({ microvmId: vm.id }));
  expect(checkpoint?.restorePoint).toMatchObject({ state: "damaged" });
  await expect(torpor.rollback(vm.id, checkpointId)).rejects.toThrow(/is corrupt here: disk-1\.qcow2/);
  await flip(path); // mended
  await resume(vm);
  await ask(vm, "/digests");
  await terminate(server, vm);
  await torpor.deleteCheckpoint(checkpointId);
});

test("the restore point before the newest is there until the newest is verified, and can be gone back to", async () => {
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  await ask(vm, "/write?name=file&seed=1&mib=2");
  const before = await ask(vm, "/digests");
  await suspend(server, vm);
  await until(vm, "verified");
  await ask(vm, "/write?name=file&seed=2&mib=2");
  await suspend(server, vm);
  await rm(join(await restorePoint(vm), "devices")); // before it is verified
  const refused = resume(vm);
  await expect(refused).rejects.toThrow(/devices of .* is missing.*Its restore point of .* is still there/);
  const { checkpointId, restorePoint: found } = await torpor.createCheckpoint(vm.id, { previous: true });
  expect(found).toMatchObject({ state: "verified" });
  await expect(resume(vm)).rejects.toThrow(new RegExp(`It can be rolled back to ${checkpointId}`));
  await torpor.rollback(vm.id, checkpointId);
  expect(await ask(vm, "/digests")).toEqual(before);
  await suspend(server, vm);
  await until(vm, "verified");
  await expect(torpor.createCheckpoint(vm.id, { previous: true })).rejects.toThrow(/no earlier restore point/);
  await terminate(server, vm);
  await torpor.deleteCheckpoint(checkpointId);
});

test("one that stands by wakes although its memory on the disk is damaged, and sleeps whole again", async () => {
  await server.stop();
  await server.start({ "standby-seconds": "600" });
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  await ask(vm, "/fill?seed=1&mib=4");
  const before = await ask(vm, "/digests");
  await suspend(server, vm);
  await flip(join(await restorePoint(vm), "memory-1.diff")); // before it is read as a whole
  await until(vm, "damaged");
  await resume(vm);
  expect(await ask(vm, "/digests")).toEqual(before);
  await suspend(server, vm);
  await until(vm, "verified");
  await terminate(server, vm);
  await server.stop();
  await server.start();
});

/** As if it had been checked long ago. */
async function rewind(path: string): Promise<void> {
  const found = JSON.parse(await readFile(path, "utf8")) as object;
  await using file = await open(path, "w");
  await file.writeFile(JSON.stringify({ ...found, checkedAt: "2026-01-01T00:00:00.000Z" }));
}
