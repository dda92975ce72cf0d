import { expect, test } from "vitest";
import type { Operation } from "./driver/fake/faults.ts";
import { TestMachine, type TestServer } from "./testing/test-machine.ts";

const nothing = { vmms: 0, slots: 0, folders: [] };

/** It is what it was, can be suspended and resumed, and leaves nothing. */
async function expectWhole(machine: TestMachine, server: TestServer, text: string): Promise<void> {
  if ((await server.state("vm")) === "suspended") await server.resume("vm");
  expect(machine.vmms).toBe(1);
  expect(await server.notes("vm").recall("memory")).toBe(text);
  expect(await server.notes("vm").read("disk")).toBe(text);
  await server.notes("vm").remember("memory", "later");
  await server.suspend("vm");
  await server.resume("vm");
  expect(await server.notes("vm").recall("memory")).toBe("later");
  expect(await server.notes("vm").read("disk")).toBe(text);
  await server.terminate("vm");
  expect(await machine.left()).toEqual(nothing);
}

async function keep(server: TestServer, text: string): Promise<void> {
  await server.notes("vm").remember("memory", text);
  await server.notes("vm").write("disk", text);
}

test("a server that ends and starts again finds its microvms as they were: running, and asleep", async () => {
  await using machine = await TestMachine.make();
  const first = await machine.startWithTemplate();
  await first.launch("vm");
  await first.launch("sleeper");
  await keep(first, "1");
  await first.notes("sleeper").remember("memory", "asleep");
  await first.suspend("sleeper");
  await first.close();
  expect(machine.vmms).toBe(1);
  const second = await machine.start();
  expect(await second.host.inventory()).toEqual(
    expect.arrayContaining([
      { microvmId: "vm", state: "running" },
      { microvmId: "sleeper", state: "suspended" },
    ]),
  );
  await second.resume("sleeper");
  expect(await second.notes("sleeper").recall("memory")).toBe("asleep");
  await second.terminate("sleeper");
  await expectWhole(machine, second, "1");
});

test("what stands ready or by is nobody's after a restart, and ended", async () => {
  await using machine = await TestMachine.make({ poolSize: 2, standbySeconds: 600 });
  const first = await machine.startWithTemplate();
  await first.launch("vm");
  await keep(first, "1");
  await first.suspend("vm");
  // One that stands by, one prepared, and as many primed as the pool thinks of.
  await expect.poll(() => machine.vmms, { timeout: 10_000 }).toBeGreaterThanOrEqual(3);
  await first.close();
  expect(machine.vmms).toBe(0);
  const second = await machine.start();
  expect(await second.state("vm")).toBe("suspended");
  await second.close();
});

test("a VMM that died while no server was there is broken, and goes when it is terminated", async () => {
  await using machine = await TestMachine.make();
  const first = await machine.startWithTemplate();
  await first.launch("vm");
  await first.close();
  machine.killAll();
  const second = await machine.start();
  expect(await second.state("vm")).toBe("broken");
  await second.terminate("vm");
  expect(await machine.left()).toEqual(nothing);
});

/** Kills the server in the middle of one of the driver's calls. */
async function crashIn(
  machine: TestMachine,
  server: TestServer,
  operation: Operation,
  begin: () => Promise<unknown>,
): Promise<TestServer> {
  const held = machine.faults.hold(operation);
  begin().catch(() => {}); // nobody is there to hear of it
  await held.reached;
  await server.crash();
  return await machine.start();
}

test.each(["prepare", "restore", "run"] as const)(
  "a launch that the server died in (%s) is undone",
  async (operation) => {
    await using machine = await TestMachine.make();
    const first = await machine.startWithTemplate();
    const second = await crashIn(machine, first, operation, () => first.launch("vm"));
    expect(machine.vmms).toBe(0);
    expect(await second.state("vm")).toBe("broken");
    await second.terminate("vm");
    expect(await machine.left()).toEqual(nothing);
  },
);

test.each(["pause", "saveDevices", "saveMemory"] as const)(
  "a suspend that the server died in (%s) before its moment never was",
  async (operation) => {
    await using machine = await TestMachine.make();
    const first = await machine.startWithTemplate();
    await first.launch("vm");
    await keep(first, "1");
    const second = await crashIn(machine, first, operation, () => first.suspend("vm"));
    expect(await second.state("vm")).toBe("running");
    await expectWhole(machine, second, "1");
  },
);

test("a suspend that the server died in after its moment is one", async () => {
  await using machine = await TestMachine.make();
  const first = await machine.startWithTemplate();
  await first.launch("vm");
  await keep(first, "1");
  const second = await crashIn(machine, first, "kill", () => first.suspend("vm"));
  expect(await second.state("vm")).toBe("suspended");
  expect(machine.vmms).toBe(0);
  await expectWhole(machine, second, "1");
});

test.each(["prepare", "restore", "run"] as const)(
  "a resume that the server died in (%s) loses nothing",
  async (operation) => {
    await using machine = await TestMachine.make();
    const first = await machine.startWithTemplate();
    await first.launch("vm");
    await keep(first, "1");
    await first.suspend("vm");
    const second = await crashIn(machine, first, operation, () => first.resume("vm"));
    await expectWhole(machine, second, "1");
  },
);

test.each(["createLayer", "pause", "freeze", "saveDevices", "switchDisk", "run", "saveMemory"] as const)(
  "a checkpoint that the server died in (%s) leaves its microvm as it was",
  async (operation) => {
    await using machine = await TestMachine.make();
    const first = await machine.startWithTemplate();
    await first.launch("vm");
    await keep(first, "1");
    const second = await crashIn(machine, first, operation, () => first.checkpoint("vm", "checkpoint"));
    expect(await second.state("vm")).toBe("running");
    expect(await second.host.checkpoints()).toEqual([]);
    await expectWhole(machine, second, "1");
  },
);
