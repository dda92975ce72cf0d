import { expect, test } from "vitest";
import type { DriverFacts } from "./driver/driver.ts";
import type { Operation } from "./driver/fake/faults.ts";
import { HostError } from "./host-client.ts";
import { TestMachine, type TestServer } from "./testing/test-machine.ts";

const nothing = { vmms: 0, slots: 0, folders: [] };

/** A microvm that keeps something. */
async function launched(machine: TestMachine): Promise<TestServer> {
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  await keep(server, "1");
  return server;
}

async function keep(server: TestServer, text: string): Promise<void> {
  await server.notes("vm").remember("memory", text);
  await server.notes("vm").write("disk", text);
}

async function expectRunning(server: TestServer, text: string): Promise<void> {
  expect(await server.state("vm")).toBe("running");
  expect(await server.notes("vm").recall("memory")).toBe(text);
  expect(await server.notes("vm").read("disk")).toBe(text);
}

async function expectNothingLeft(machine: TestMachine, server: TestServer): Promise<void> {
  expect(machine.faults.armed, "every fault has met its call").toBe(0);
  await server.terminate("vm");
  await expect.poll(() => machine.left(), { timeout: 10_000 }).toEqual(nothing);
}

const reasonOf = async (work: Promise<unknown>): Promise<unknown> =>
  await work.then(
    () => expect.unreachable("it succeeded"),
    (err: unknown) => (err instanceof HostError ? err.reason : err),
  );

test.each(["saveMemory", "saveDevices"] as const)(
  "a disk that is full (%s) fails a suspend, and the microvm runs and answers as before",
  async (operation) => {
    await using machine = await TestMachine.make();
    const server = await launched(machine);
    for (let n = 0; n < 2; n++) {
      machine.faults.fillDisk(operation);
      expect(await reasonOf(server.suspend("vm"))).toBe("no_space");
      await expectRunning(server, "1");
    }
    await keep(server, "2");
    await server.suspend("vm");
    await server.resume("vm");
    await expectRunning(server, "2");
    await expectNothingLeft(machine, server);
  },
);

test("a disk that is full fails a checkpoint, and leaves nothing of it", async () => {
  await using machine = await TestMachine.make();
  const server = await launched(machine);
  machine.faults.fillDisk("saveMemory");
  expect(await reasonOf(server.checkpoint("vm", "checkpoint"))).toBe("no_space");
  expect(await server.host.checkpoints()).toEqual([]);
  expect(machine.vmms, "no image of its memory").toBe(1);
  await keep(server, "2");
  await server.suspend("vm");
  await server.resume("vm");
  await expectRunning(server, "2");
  await expectNothingLeft(machine, server);
});

test.each(["prepare", "restore", "run"] as const)(
  "a VMM that dies in a launch (%s) takes it along",
  async (operation) => {
    await using machine = await TestMachine.make();
    const server = await machine.startWithTemplate();
    machine.faults.die(operation);
    await expect(server.launch("vm")).rejects.toThrow("SIGKILL");
    expect(await machine.left()).toEqual(nothing);
    expect(server.exits).toEqual([]);
    await server.launch("vm");
    await expectNothingLeft(machine, server);
  },
);

test.each(["pause", "saveDevices", "saveMemory"] as const)(
  "a VMM that dies in a suspend (%s) is the microvm's end",
  async (operation) => {
    await using machine = await TestMachine.make();
    const server = await launched(machine);
    machine.faults.die(operation);
    await expect(server.suspend("vm")).rejects.toThrow();
    await expectEnded(machine, server);
  },
);

test("a VMM that dies after the moment of its suspend is missed by nobody", async () => {
  await using machine = await TestMachine.make();
  const server = await launched(machine);
  machine.faults.die("kill");
  await server.suspend("vm");
  expect(server.exits).toEqual([]);
  await server.resume("vm");
  await expectRunning(server, "1");
  await expectNothingLeft(machine, server);
});

test.each(["prepare", "restore", "run"] as const)(
  "a VMM that dies in a resume (%s) leaves it as suspended as before",
  async (operation) => {
    await using machine = await TestMachine.make();
    const server = await launched(machine);
    await server.suspend("vm");
    machine.faults.die(operation);
    await expect(server.resume("vm")).rejects.toThrow("SIGKILL");
    expect(await server.state("vm")).toBe("suspended");
    expect(await machine.left()).toMatchObject({ vmms: 0, slots: 0 });
    await server.resume("vm");
    await expectRunning(server, "1");
    await expectNothingLeft(machine, server);
  },
);

test("a VMM that dies while it runs is told of once, and gives back what it had", async () => {
  await using machine = await TestMachine.make();
  const server = await launched(machine);
  machine.killAll();
  await expectEnded(machine, server);
});

test.each(["freeze", "saveDevices", "switchDisk", "saveMemory"] as const)(
  "a VMM that dies in a checkpoint (%s) is the microvm's end, and there is no checkpoint",
  async (operation) => {
    await using machine = await TestMachine.make();
    const server = await launched(machine);
    machine.faults.die(operation);
    await expect(server.checkpoint("vm", "checkpoint")).rejects.toThrow();
    expect(await server.host.checkpoints()).toEqual([]);
    await expectEnded(machine, server);
  },
);

test("a VMM that dies while it stands by is missed by nobody", async () => {
  await using machine = await TestMachine.make({ standbySeconds: 600 });
  const server = await launched(machine);
  machine.faults.die("switchDisk");
  await server.suspend("vm");
  await server.resume("vm");
  await expectRunning(server, "1");
  expect(server.exits).toEqual([]);
  await expectNothingLeft(machine, server);
});

async function expectEnded(machine: TestMachine, server: TestServer): Promise<void> {
  await expect
    .poll(() => server.exits, { timeout: 10_000 })
    .toMatchObject([{ microvmId: "vm", exit: { kind: "vmm", detail: expect.stringContaining("SIGKILL") } }]);
  expect(await server.state("vm")).toBe("broken");
  await expect.poll(async () => (await machine.left()).slots, { timeout: 10_000 }).toBe(0);
  await expectNothingLeft(machine, server);
}

/** Aborts a call when it is in the middle of one of the driver's. */
async function abortIn(
  machine: TestMachine,
  operation: Operation,
  begin: (signal: AbortSignal) => Promise<unknown>,
): Promise<void> {
  const reason = new Error("nobody wants it any more");
  const stop = new AbortController();
  const held = machine.faults.hold(operation);
  const begun = begin(stop.signal);
  await held.reached;
  stop.abort(reason);
  held.release(); // for those calls that cannot be broken off
  await expect(begun).rejects.toBe(reason);
}

test.each(["prepare", "restore", "run"] as const)("a launch that is aborted (%s) leaves nothing", async (operation) => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await abortIn(machine, operation, (signal) => server.launch("vm", {}, signal));
  expect(await machine.left()).toEqual(nothing);
  await server.launch("vm");
  await expectNothingLeft(machine, server);
});

test("a suspend that is aborted before its moment never was", async () => {
  await using machine = await TestMachine.make();
  const server = await launched(machine);
  await abortIn(machine, "saveMemory", (signal) => server.suspend("vm", signal));
  await expectRunning(server, "1");
  await expectNothingLeft(machine, server);
});

test.each(["prepare", "restore", "run"] as const)(
  "a resume that is aborted (%s) leaves it as suspended as before",
  async (operation) => {
    await using machine = await TestMachine.make();
    const server = await launched(machine);
    await server.suspend("vm");
    await abortIn(machine, operation, (signal) => server.resume("vm", signal));
    expect(await server.state("vm")).toBe("suspended");
    expect(machine.vmms).toBe(0);
    await server.resume("vm");
    await expectRunning(server, "1");
    await expectNothingLeft(machine, server);
  },
);

test("who terminates waits for what is in progress, and nothing comes after it", async () => {
  await using machine = await TestMachine.make();
  const server = await launched(machine);
  const held = machine.faults.hold("saveMemory");
  const suspending = server.suspend("vm");
  await held.reached;
  const ending = [server.terminate("vm"), server.terminate("vm")];
  const late = reasonOf(server.resume("vm"));
  held.release();
  await suspending;
  await Promise.all(ending);
  expect(await late).toBe("not_found");
  expect(await machine.left()).toEqual(nothing);
  expect(server.exits).toEqual([]);
});

test("two launches of one microvm at once make one", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  const outcomes = await Promise.allSettled([server.launch("vm"), server.launch("vm")]);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
  expect(machine.vmms).toBe(1);
  await expectNothingLeft(machine, server);
});

const others: readonly Partial<DriverFacts>[] = [
  { vmmVersion: "1.0.1" },
  { cpu: "another" },
  { machine: "another" },
  { accelerator: "kvm" },
];
test.each(others)("what was made with another VMM than %j is refused at once, and kept", async (facts) => {
  await using machine = await TestMachine.make();
  const first = await launched(machine);
  await first.checkpoint("vm", "checkpoint");
  await first.suspend("vm");
  await first.close();
  const other = await machine.start(facts);
  const [[what, here]] = Object.entries(facts) as [[string, string]];
  const attempts = [
    () => other.launch("new"),
    () => other.launch("fork", { checkpointId: "checkpoint" }),
    () => other.resume("vm"),
  ];
  for (const attempt of attempts) {
    const err = await attempt().catch((failure: unknown) => failure);
    expect(err).toMatchObject({ reason: "incompatible", message: expect.stringContaining(`here ${here}`) });
    expect((err as Error).message).toContain(what);
  }
  expect(await other.state("vm")).toBe("suspended");
  expect(await machine.left()).toMatchObject({ vmms: 0, slots: 0 });
  await other.close();
  const again = await machine.start();
  await again.host.inventory();
  await again.resume("vm");
  await expectRunning(again, "1");
  await again.host.deleteCheckpoint("checkpoint");
  await expectNothingLeft(machine, again);
});
