import {
  GetMicrovmCommand,
  GetMicrovmImageBuildCommand,
  ListMicrovmImageBuildsCommand,
  ListMicrovmsCommand,
  ResumeMicrovmCommand,
  SuspendMicrovmCommand,
  TerminateMicrovmCommand,
} from "@aws-sdk/client-lambda-microvms";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, buildImage, HELLO, microvmState, RunningMicrovm, untilState } from "./fixtures.ts";
import { TestServer } from "./server.ts";

let server: TestServer;
let image: string;
beforeAll(async () => {
  server = await TestServer.start();
  image = await buildImage(server, "hello", HELLO);
});
afterAll(() => server?.[Symbol.asyncDispose]());

test("a build is listed with what it made", async () => {
  const request = { imageIdentifier: image, imageVersion: "1.0" };
  const { items } = await server.api.send(new ListMicrovmImageBuildsCommand(request));
  expect(items).toHaveLength(1);
  expect(items![0]).toMatchObject({ buildState: "SUCCESSFUL", imageArn: image, imageVersion: "1.0" });
  const build = await server.api.send(new GetMicrovmImageBuildCommand({ ...request, buildId: items![0]!.buildId! }));
  expect(build.snapshotBuild!.memorySnapshotSizeInBytes).toBeGreaterThan(10 << 20);
  expect(build.snapshotBuild!.diskSnapshotSizeInBytes).toBeGreaterThan(10 << 20);
});

test("memory, disk and a background process go on over ten suspensions, woken by requests and by the API", async () => {
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  let last = await vm.hello();
  expect(last).toMatchObject({ memory: 1, disk: 1 });
  for (let cycle = 1; cycle <= 10; cycle++) {
    await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }));
    await untilState(server, vm.id, "SUSPENDED");
    expect(await server.vmms()).toEqual([]); // it holds no process
    if (cycle % 2 === 0) {
      await server.api.send(new ResumeMicrovmCommand({ microvmIdentifier: vm.id }));
      await untilState(server, vm.id, "RUNNING");
    }
    const now = await vm.hello();
    expect(now.memory).toBe(last.memory + 1);
    expect(now.disk).toBe(last.disk + 1);
    expect(now.pid).toBe(last.pid);
    expect(now.background.pid).toBe(last.background.pid);
    expect(now.background.startedAt).toBe(last.background.startedAt);
    expect(now.background.count).toBeGreaterThanOrEqual(last.background.count);
    expect(Math.abs(now.time - Date.now() / 1000)).toBeLessThan(5); // its clock was set
    last = now;
  }
  await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "TERMINATED");
  const ended = await server.api.send(new GetMicrovmCommand({ microvmIdentifier: vm.id }));
  expect(ended.stateReason).toBe("Success.");
  expect(await server.vmms()).toEqual([]);
  expect((await vm.get()).status).toBe(502);
});

test("clones of one image start alike and share nothing after that", async () => {
  const vms = await Promise.all([1, 2, 3].map(() => RunningMicrovm.run(server, image, AWAKE_ON_REQUEST)));
  const first = await Promise.all(vms.map((vm) => vm.hello()));
  expect(first.map((a) => a.memory)).toEqual([1, 1, 1]);
  expect(new Set(first.map((a) => a.background.startedAt)).size).toBe(1); // the same moment of the same process
  await vms[0]!.hello();
  await vms[0]!.hello();
  expect((await vms[0]!.hello()).disk).toBe(4);
  expect((await vms[1]!.hello()).disk).toBe(2);
  const listed = await server.api.send(new ListMicrovmsCommand({ imageIdentifier: image }));
  for (const vm of vms) {
    expect(listed.items!.find((i) => i.microvmId === vm.id)?.state).toBe("RUNNING");
    await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
  }
  for (const vm of vms) await untilState(server, vm.id, "TERMINATED");
});

test("without auto-resume a request to a suspended microvm gets 502 and does not wake it", async () => {
  const vm = await RunningMicrovm.run(server, image, {
    idlePolicy: { ...AWAKE_ON_REQUEST.idlePolicy, autoResumeEnabled: false },
  });
  await vm.hello();
  await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "SUSPENDED");
  expect(await vm.get()).toMatchObject({ status: 502, body: "" });
  expect(await microvmState(server, vm.id)).toBe("SUSPENDED");
  await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "TERMINATED");
});
