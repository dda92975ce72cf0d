import {
  ResumeMicrovmCommand,
  RunMicrovmCommand,
  SuspendMicrovmCommand,
  TerminateMicrovmCommand,
} from "@aws-sdk/client-lambda-microvms";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, buildImage, HELLO, RunningMicrovm, untilState } from "./fixtures.ts";
import { TestServer } from "./server.ts";

let server: TestServer;
let image: string;
beforeAll(async () => {
  server = await TestServer.start();
  image = await buildImage(server, "hello", HELLO);
});
afterAll(() => server?.[Symbol.asyncDispose]());

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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

test("killed at any moment of run, suspend and resume, it comes back with everything right", async () => {
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  let last = await vm.hello();
  // The moments are spread over what the operations take, so that each of their steps is hit at some time.
  for (const afterMs of [0, 5, 15, 30, 60, 100, 160, 250]) {
    const operation =
      last.memory % 2 === 0
        ? server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }))
        : server.api
            .send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }))
            .then(() => untilState(server, vm.id, "SUSPENDED"))
            .then(() => server.api.send(new ResumeMicrovmCommand({ microvmIdentifier: vm.id })));
    const outcome = operation.then(
      () => "done",
      () => "cut",
    );
    await pause(afterMs);
    await server.kill();
    await outcome;
    await server.start();
    await untilState(server, vm.id, "RUNNING", "SUSPENDED");
    const now = await vm.hello(); // wakes it if need be
    expect(now.memory).toBe(last.memory + 1);
    expect(now.disk).toBe(last.disk + 1);
    expect(now.background.pid).toBe(last.background.pid);
    expect(now.background.startedAt).toBe(last.background.startedAt);
    expect(await server.vmms()).toEqual([vm.id]);
    last = now;
  }
  await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "TERMINATED");
});

test("killed while a microvm is launched, it is launched or ended, and nothing is left over", async () => {
  for (const afterMs of [0, 20, 60, 150, 300]) {
    const clientToken = `launch-${afterMs}`;
    const request = { imageIdentifier: image, clientToken, ...AWAKE_ON_REQUEST };
    const first = server.api.send(new RunMicrovmCommand(request)).then(
      (vm) => vm.microvmId,
      () => undefined,
    );
    await pause(afterMs);
    await server.kill();
    const told = await first;
    await server.start();
    // The same token: the answer that was given, or a microvm now. Never two.
    const { microvmId } = await server.api.send(new RunMicrovmCommand(request));
    if (told !== undefined) expect(microvmId).toBe(told);
    const state = await untilState(server, microvmId!, "RUNNING", "TERMINATED");
    expect(await server.vmms()).toEqual(state === "RUNNING" ? [microvmId] : []);
    await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: microvmId }));
    await untilState(server, microvmId!, "TERMINATED");
  }
  expect(await server.vmms()).toEqual([]);
});
