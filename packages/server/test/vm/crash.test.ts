import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  ResumeMicrovmCommand,
  RunMicrovmCommand,
  SuspendMicrovmCommand,
  TerminateMicrovmCommand,
} from "@aws-sdk/client-lambda-microvms";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, buildImage, HELLO, RunningMicrovm, untilState } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";

let server: TestServer;
let image: string;
beforeAll(async () => {
  server = await TestServer.start({}, { killable: true });
  image = await buildImage(server, "hello", HELLO);
});
afterAll(() => server?.[Symbol.asyncDispose]());

test("a server that is killed finds its running and its suspended microvms again", async () => {
  const running = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  const suspended = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  const before = { running: await running.hello(), suspended: await suspended.hello() };
  await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: suspended.id }));
  await untilState(server, suspended.id, "SUSPENDED");
  await server.kill();
  expect(await server.vmms()).toEqual([running.id]); // it lives on without us
  await server.start();
  expect(await untilState(server, running.id, "RUNNING")).toBe("RUNNING");
  expect(await untilState(server, suspended.id, "SUSPENDED")).toBe("SUSPENDED");
  const after = { running: await running.hello(), suspended: await suspended.hello() };
  for (const which of ["running", "suspended"] as const) {
    expect(after[which].memory).toBe(before[which].memory + 1);
    expect(after[which].disk).toBe(before[which].disk + 1);
    expect(after[which].background.startedAt).toBe(before[which].background.startedAt);
  }
  for (const vm of [running, suspended])
    await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
  for (const vm of [running, suspended]) await untilState(server, vm.id, "TERMINATED");
});

/** Each operation has some hundred effects: every one is struck with TORPOR_TEST_FULL=1, else an even sample. */
const STRIDE = process.env.TORPOR_TEST_FULL === "1" ? 1 : 10;
const TIMEOUT_MS = 1_800_000 / STRIDE;

/**
 * Lets `operation` run again and again, each time with a server that dies before a later one of its effects, until one
 * comes through. `check` sees the server that was started after the death.
 */
async function atEveryEffect(operation: () => Promise<unknown>, check: () => Promise<void>): Promise<void> {
  const offset = Math.floor(Math.random() * STRIDE);
  console.log(`killed before effect ${offset}, ${offset + STRIDE}, …`);
  for (let effect = offset; ; effect += STRIDE) {
    await server.killBefore(effect);
    await operation().catch(() => {}); // cut off in the middle
    const died = (await server.killBefore(undefined)) === "dead";
    if (died) await server.start();
    try {
      await check();
    } catch (err) {
      throw new Error(`after a death before effect ${effect}`, { cause: err });
    }
    if (!died) {
      expect(effect).toBeGreaterThan(2 * STRIDE);
      return;
    }
  }
}

const suspend = (id: string): Promise<unknown> => server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: id }));
/** As `untilState`, for a server that may die: then it throws. */
const reached = (id: string, state: string): Promise<string> => untilState(server, id, state);

/** What went wrong if anything is there that no microvm has. */
async function expectNothingLeftOver(microvms: readonly string[]): Promise<void> {
  expect((await readdir(join(server.dataDir, "vms"))).sort()).toEqual([...microvms].sort());
  for (const id of microvms) {
    const dir = join(server.dataDir, "vms", id);
    const snapshots = await readdir(join(dir, "snapshots")).catch(() => []);
    expect(snapshots.filter((name) => name.endsWith(".tmp"))).toEqual([]);
    expect(snapshots.length).toBeLessThanOrEqual(3); // the newest, the one before, the newest verified one
  }
  expect((await readdir(join(server.dataDir, "vmms"))).length).toBe((await server.vmms()).length);
  const spare = 2;
  await eventually("slots as there are microvms", async () =>
    (await server.slots()).length <= microvms.length + spare ? true : undefined,
  );
}

describe("killed before any effect of an operation, a server comes back with everything right", {
  timeout: TIMEOUT_MS,
}, () => {
  test("run", async () => {
    let n = 0;
    let request = { imageIdentifier: image, clientToken: "", ...AWAKE_ON_REQUEST };
    let told: string | undefined;
    const run = async (): Promise<void> => {
      request = { ...request, clientToken: `run-${n++}` };
      told = undefined;
      told = (await server.api.send(new RunMicrovmCommand(request))).microvmId!;
      await reached(told, "RUNNING");
    };
    await atEveryEffect(run, async () => {
      // The same token: the answer that was given, or a microvm now. Never two.
      const { microvmId } = await server.api.send(new RunMicrovmCommand(request));
      if (told !== undefined) expect(microvmId).toBe(told);
      await untilState(server, microvmId!, "RUNNING");
      expect(await server.vmms()).toEqual([microvmId]);
      await expectNothingLeftOver([microvmId!]);
      await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: microvmId }));
      await untilState(server, microvmId!, "TERMINATED");
      expect(await server.vmms()).toEqual([]);
      await expectNothingLeftOver([]);
    });
  });

  test("suspend and resume", async () => {
    const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
    let last = await vm.hello();
    const wentOn = async (): Promise<void> => {
      await untilState(server, vm.id, "RUNNING", "SUSPENDED");
      const now = await vm.hello(); // wakes it if need be
      expect(now).toMatchObject({ memory: last.memory + 1, disk: last.disk + 1, pid: last.pid });
      expect(now.background).toMatchObject({ pid: last.background.pid, startedAt: last.background.startedAt });
      expect(await server.vmms()).toEqual([vm.id]);
      await expectNothingLeftOver([vm.id]);
      last = now;
    };
    await atEveryEffect(async () => {
      await suspend(vm.id);
      await reached(vm.id, "SUSPENDED");
      await server.api.send(new ResumeMicrovmCommand({ microvmIdentifier: vm.id }));
      await reached(vm.id, "RUNNING");
    }, wentOn);
    await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
    await untilState(server, vm.id, "TERMINATED");
  });
});
