import { readdir } from "node:fs/promises";
import { expect, test } from "vitest";
import { MAX_LAYERS, TOO_MANY_LAYERS } from "./snapshot/layer-merge.ts";
import { TEMPLATE, TestMachine } from "./testing/test-machine.ts";

const forever = new AbortController().signal;
const nothing = { vmms: 0, slots: 0, folders: [] };

test("a launch is a clone with an identity, told of by its run hook, and leaves nothing when it is terminated", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  expect(await machine.left(), "a build leaves its template only").toEqual(nothing);
  await server.launch("one", { runHook: { port: 8080, timeoutMs: 1000, payload: "hello" } });
  await server.launch("two");
  expect(machine.agent.hooks).toEqual([
    { name: "run", body: '{"microvmId":"one","runHookPayload":"hello"}', microvmId: "one" },
  ]);
  await server.notes("one").remember("whose", "one's");
  await server.notes("one").write("file", "one's");
  expect(await server.notes("two").recall("whose")).toBeUndefined();
  expect(await server.notes("two").read("file")).toBeUndefined();
  expect(await server.host.usage("one")).toMatchObject({ process: "running", snapshotMemoryBytes: 0 });
  expect(await server.state("one")).toBe("running");
  await server.terminate("one", "two", "one", "never-there");
  expect(await machine.left()).toEqual(nothing);
});

test("memory and disk are as they were over many suspensions, of which layers and diffs are few in the end", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  for (let cycle = 1; cycle <= 12; cycle++) {
    const notes = server.notes("vm");
    await notes.remember(`memory-${cycle}`, `${cycle}`);
    await notes.write(`disk-${cycle}`, `${cycle}`);
    await notes.remember("newest", `${cycle}`);
    await server.suspend("vm");
    expect(await server.state("vm")).toBe("suspended");
    await expect(server.notes("vm").recall("newest")).rejects.toThrow("does not run");
    expect(await server.host.usage("vm")).toMatchObject({ process: "none", pssBytes: null });
    expect(machine.vmms).toBe(0);
    await server.resume("vm");
  }
  const notes = server.notes("vm");
  for (let cycle = 1; cycle <= 12; cycle++) {
    expect(await notes.recall(`memory-${cycle}`)).toBe(`${cycle}`);
    expect(await notes.read(`disk-${cycle}`)).toBe(`${cycle}`);
  }
  expect(await notes.recall("newest")).toBe("12");
  await server.terminate("vm");
  expect(await machine.left()).toEqual(nothing);
});

test("a microvm that never sleeps long enough for its layers to be merged has not ever more of them", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  let most = 0;
  for (let cycle = 1; cycle <= 2 * TOO_MANY_LAYERS; cycle++) {
    await server.notes("vm").write(`disk-${cycle}`, `${cycle}`);
    const names = await readdir(machine.layout.instance("vm").snapshots, { recursive: true });
    const numbers = names.map((name) => Number(/\/disk-(\d+)\.qcow2$/.exec(name)?.[1] ?? 0));
    const newest = names.filter((name) => /^\d+$/.test(name)).toSorted((x, y) => Number(y) - Number(x))[0];
    const layers = Math.max(0, ...numbers.filter((_, i) => names[i]!.startsWith(`${newest}/`))) + 1;
    // What is done while it sleeps has begun, and never comes to its end.
    const held = layers > MAX_LAYERS ? machine.faults.hold("mergeLayers") : undefined;
    await server.suspend("vm");
    await held?.reached;
    most = Math.max(most, layers);
    await server.resume("vm");
  }
  expect(most).toBeGreaterThan(MAX_LAYERS);
  expect(most).toBeLessThanOrEqual(TOO_MANY_LAYERS + 1);
  for (let cycle = 1; cycle <= 2 * TOO_MANY_LAYERS; cycle++)
    expect(await server.notes("vm").read(`disk-${cycle}`)).toBe(`${cycle}`);
  await server.terminate("vm");
  expect(await machine.left()).toEqual(nothing);
});

test("a VMM that stands by wakes as it was, and nothing is lost when it is gone", async () => {
  await using machine = await TestMachine.make({ standbySeconds: 600 });
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  await server.notes("vm").remember("a", "1");
  await server.suspend("vm");
  expect(await server.host.usage("vm")).toMatchObject({ process: "standby" });
  expect((await server.resume("vm")).reused).toEqual(["standby"]);
  await server.notes("vm").remember("b", "2");
  await server.notes("vm").write("file", "2");
  await server.suspend("vm");
  machine.killAll();
  expect((await server.resume("vm")).reused).not.toContain("standby");
  expect(await server.notes("vm").recall("a")).toBe("1");
  expect(await server.notes("vm").recall("b")).toBe("2");
  expect(await server.notes("vm").read("file")).toBe("2");
  await server.terminate("vm");
  expect(await machine.left()).toEqual(nothing);
});

test("clones that stand ready are nobody until they are launched, and end with the server", async () => {
  await using machine = await TestMachine.make({ poolSize: 2 });
  const server = await machine.startWithTemplate();
  // One primed and one prepared: the pool fills up by itself.
  await expect.poll(() => machine.vmms, { timeout: 10_000 }).toBe(2);
  const { reused } = await server.launch("vm");
  expect(reused).toEqual(["primed"]);
  machine.agent.hooks.length = 0;
  await server.host.terminate("vm", { hook: { port: 8080, timeoutMs: 1000 } }, forever);
  expect(machine.agent.hooks).toEqual([{ name: "terminate", body: null, microvmId: "vm" }]);
  await server.close();
  expect(await machine.left()).toEqual(nothing);
});

test("a checkpoint is of its moment while the guest goes on, and is forked and rolled back to", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  await server.notes("vm").remember("moment", "then");
  await server.notes("vm").write("moment", "then");
  await server.checkpoint("vm", "running");
  await server.notes("vm").remember("moment", "now");
  await server.notes("vm").write("moment", "now");
  await server.suspend("vm");
  await server.checkpoint("vm", "asleep");
  expect([...(await server.host.checkpoints())].sort()).toEqual(["asleep", "running"]);
  await server.launch("fork", { checkpointId: "running" });
  await server.launch("other-fork", { checkpointId: "asleep" });
  expect(await server.notes("fork").recall("moment")).toBe("then");
  expect(await server.notes("fork").read("moment")).toBe("then");
  expect(await server.notes("other-fork").recall("moment")).toBe("now");
  await server.notes("fork").remember("moment", "the fork's");
  await server.resume("vm");
  expect(await server.notes("vm").recall("moment")).toBe("now");
  await server.rollback("vm", "running");
  expect(await server.state("vm")).toBe("suspended");
  for (const checkpoint of ["running", "asleep"]) await server.host.deleteCheckpoint(checkpoint);
  await server.resume("vm");
  expect(await server.notes("vm").recall("moment")).toBe("then");
  expect(await server.notes("vm").read("moment")).toBe("then");
  expect(await server.notes("fork").recall("moment")).toBe("the fork's");
  await server.suspend("fork");
  await server.resume("fork");
  expect(await server.notes("fork").recall("moment")).toBe("the fork's");
  await server.terminate("vm", "fork", "other-fork");
  expect(await machine.left()).toEqual(nothing);
});

test("what a workload writes is kept in order, its end is told once, and its guest stays until it is terminated", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  await server.notes("vm").print("first");
  await server.suspend("vm");
  await server.resume("vm");
  await server.notes("vm").print("second");
  await server.notes("vm").exit(3);
  await expect.poll(() => server.exits).toEqual([{ microvmId: "vm", exit: { kind: "workload", exitCode: 3 } }]);
  const lines = [];
  for await (const { text } of server.host.logs("vm", { follow: false }, forever)) lines.push(text);
  expect(lines).toEqual(["first", "second"]);
  await server.terminate("vm");
  expect(server.exits.length).toBe(1);
  expect(await machine.left()).toEqual(nothing);
});

test("what a workload wrote outlives it until it is forgotten, which it is not while it is there", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  const lines = () => Array.fromAsync(server.host.logs("vm", { follow: false }, forever), ({ text }) => text);
  await server.launch("vm");
  await server.notes("vm").print("first");
  await expect.poll(lines).toEqual(["first"]);
  await expect(server.host.forget("vm")).rejects.toMatchObject({ reason: "internal" });
  await server.terminate("vm");
  expect(await lines()).toEqual(["first"]);
  await server.host.forget("vm");
  expect(await lines()).toEqual([]);
  await server.host.forget("vm");
});

test("a hook that fails undoes a launch, stops a suspend, and leaves a resumed guest to its caller", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  const hook = { port: 8080, timeoutMs: 1000 };
  machine.agent.answerHook = () => ({ kind: "status", status: 500 });
  await expect(server.launch("vm", { runHook: { ...hook, payload: null } })).rejects.toThrow("run hook: status 500");
  expect(await machine.left()).toEqual(nothing);
  await server.launch("vm");
  await expect(server.host.suspend("vm", { hook }, forever)).rejects.toThrow("suspend hook: status 500");
  expect(await server.state("vm")).toBe("running");
  await server.suspend("vm");
  await expect(server.host.resume("vm", { hook }, forever)).rejects.toThrow("resume hook: status 500");
  expect(await server.state("vm")).toBe("running");
  await server.host.terminate("vm", { hook }, forever);
  expect(await machine.left()).toEqual(nothing);
});

test("fifty resumes of one microvm at once make one VMM", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  await server.notes("vm").remember("a", "1");
  await server.suspend("vm");
  const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => server.resume("vm")));
  expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBe(1);
  expect(machine.vmms).toBe(1);
  expect(await server.notes("vm").recall("a")).toBe("1");
  await server.terminate("vm");
  expect(await machine.left()).toEqual(nothing);
});

test("a template goes with all that stands ready of it", async () => {
  await using machine = await TestMachine.make({ poolSize: 1 });
  const server = await machine.startWithTemplate();
  await expect.poll(() => machine.vmms, { timeout: 10_000 }).toBe(2);
  await server.host.deleteTemplate(TEMPLATE);
  await expect.poll(() => machine.left(), { timeout: 10_000 }).toEqual(nothing);
  await expect(server.launch("vm")).rejects.toMatchObject({ reason: "not_found" });
});
