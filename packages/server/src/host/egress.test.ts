import { expect, test } from "vitest";
import type { EgressPolicy } from "./host-client.ts";
import { TEMPLATE, TestMachine } from "./testing/test-machine.ts";

const to = (cidr: string): EgressPolicy => ({
  grants: [{ routes: [cidr], rules: [{ protocol: "tcp", ports: [[443, 443]], cidrs: ["0.0.0.0/0"] }] }],
});
const EGRESS = to("10.20.0.0/16");

test("what a microvm may reach is in force before it runs, at its launch and whenever it wakes", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  for (const begin of [() => server.launch("vm", { egress: EGRESS }), () => server.resume("vm")]) {
    const running = machine.faults.hold("run");
    const begun = begin();
    await running.reached;
    expect(machine.policies).toEqual([EGRESS]);
    running.release();
    await begun;
    await server.suspend("vm");
    await expect.poll(() => machine.policies).toEqual([]); // its slot goes after the answer
  }
});

test("it stays over standby, restarts, crashes and rollbacks, and forks have what they are launched with", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await server.launch("vm", { egress: EGRESS });
  await server.launch("other");
  expect(machine.policies).toEqual([EGRESS]);
  await server.checkpoint("vm", "kept");
  await server.launch("fork", { checkpointId: "kept", egress: EGRESS });
  expect(machine.policies).toEqual([EGRESS, EGRESS]);
  await server.launch("else", { checkpointId: "kept", egress: to("10.30.0.0/16") });
  expect(machine.policies).toEqual([EGRESS, EGRESS, to("10.30.0.0/16")]);
  await server.terminate("fork", "else");
  await server.crash();
  const second = await machine.start();
  expect(machine.policies).toEqual([EGRESS]); // before anybody asks for anything
  expect(await second.state("vm")).toBe("running");
  await second.suspend("vm");
  await second.close();
  const third = await machine.start();
  expect(machine.policies).toEqual([]);
  expect(await third.state("vm")).toBe("suspended");
  await third.resume("vm");
  expect(machine.policies).toEqual([EGRESS]);
  await third.rollback("vm", "kept");
  await third.resume("vm");
  expect(machine.policies).toEqual([EGRESS]);
});

test("a clone that has run already is for those who may reach what it could reach then", async () => {
  await using machine = await TestMachine.make({ poolSize: 1 });
  const server = await machine.start();
  const build = machine.faults.hold("boot");
  const built = server.build(TEMPLATE, { egress: EGRESS });
  await build.reached;
  expect(machine.policies).toEqual([EGRESS]); // the build's own steps
  build.release();
  await built;
  // One primed and one prepared: the pool fills up by itself.
  await expect.poll(() => machine.vmms, { timeout: 10_000 }).toBe(2);
  expect(machine.policies).toEqual([EGRESS]);
  expect((await server.launch("vm")).reused).not.toContain("primed");
  expect((await server.launch("elsewhere", { egress: to("10.30.0.0/16") })).reused).not.toContain("primed");
  expect((await server.launch("same", { egress: EGRESS })).reused).toEqual(["primed"]);
});

test("a slot whose rules cannot be had ends the launch, and nothing has run", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  machine.refusePolicies(new Error("no rules today"));
  await expect(server.launch("vm", { egress: EGRESS })).rejects.toThrow("no rules today");
  expect(await machine.left()).toEqual({ vmms: 0, slots: 0, folders: [] });
});

test("its traffic is part of its usage while it has a process", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  expect(await server.host.usage("vm")).toMatchObject({ networkSentBytes: 1, networkReceivedBytes: 2 });
  await server.suspend("vm");
  expect(await server.host.usage("vm")).toMatchObject({ networkSentBytes: null, networkReceivedBytes: null });
});
