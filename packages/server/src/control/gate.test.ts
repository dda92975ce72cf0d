import { beforeEach, describe, expect, test } from "vitest";
import { HostError } from "../host/host-client.ts";
import { GateError } from "./endpoint-gate.ts";
import { connectorArn, context, World } from "./testing/world.ts";

const policy = { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 3600, autoResumeEnabled: true };
const never = new AbortController().signal;
let world: World;
let image: string;
beforeEach(async () => {
  world = await World.create();
  image = await world.image("demo");
});

const at = (microvmIdentifier: string) => ({ microvmIdentifier });
async function suspended(autoResumeEnabled = true): Promise<string> {
  const id = await world.running(image, { idlePolicy: { ...policy, autoResumeEnabled } });
  await world.operations.SuspendMicrovm(at(id), context());
  await world.settled();
  return id;
}
const resumes = () => world.machine.calls.filter((call) => call.startsWith("resume")).length;

describe("find", () => {
  const labelOf = async (id: string) =>
    (await world.operations.GetMicrovm(at(id), context())).endpoint.split(".")[0] ?? "";

  test("knows the label of a microvm, also when it has ended", async () => {
    const id = await world.running(image);
    const door = { label: await labelOf(id), http: true, shell: false };
    expect(await world.control.gate.find(id)).toEqual(door);
    await world.operations.TerminateMicrovm(at(id), context());
    await world.settled();
    expect(await world.control.gate.find(id)).toEqual(door);
    expect(await world.control.gate.find(door.label)).toBeUndefined();
  });

  test.each([
    [[], true, false],
    [["HTTP_INGRESS"], true, false],
    [["ALL_INGRESS"], true, true],
    [["NO_INGRESS"], false, false],
    [["SHELL_INGRESS"], false, true],
    [["SHELL_INGRESS", "HTTP_INGRESS"], true, true],
  ])("with %j a microvm lets HTTP in: %s, and shells: %s", async (names, http, shell) => {
    const id = await world.running(image, { ingressNetworkConnectors: names.map(connectorArn) });
    expect(await world.control.gate.find(id)).toMatchObject({ http, shell });
  });
});

test("a visit opens shells in its microvm for as long as that runs", async () => {
  const id = await world.running(image);
  const visit = await world.control.gate.enter(id, never);
  const spec = { command: [], terminal: true, columns: 80, rows: 24, term: "xterm" };
  using shell = await visit.openShell(spec, never);
  await shell.write(Buffer.from("echo"));
  expect((await shell.events().next()).value).toEqual({ kind: "output", bytes: Buffer.from("echo") });
  await world.operations.SuspendMicrovm(at(id), context());
  await world.settled();
  expect(visit.closing.aborted).toBe(true);
  await expect(visit.openShell(spec, never)).rejects.toThrow();
});

describe("enter", () => {
  test("lets traffic to a running microvm through, without asking the database", async () => {
    const id = await world.running(image);
    await world.store.close();
    const visit = await world.control.gate.enter(id, never);
    expect(visit.microvmId).toBe(id);
    expect(visit.closing.aborted).toBe(false);
    const stream = await visit.connect(8080, never);
    stream.destroy();
    visit.leave();
    await expect(world.operations.ListMicrovms({}, context())).rejects.toThrow();
    await world.crash();
  });

  test("waits for a launch", async () => {
    const held = world.hold("launch:made");
    const { microvmId } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    const entering = world.control.gate.enter(microvmId, never);
    held.release();
    expect((await entering).microvmId).toBe(microvmId);
    expect(await world.state(microvmId)).toBe("RUNNING");
  });

  test("resumes a suspended microvm once for a hundred callers", async () => {
    const id = await suspended();
    const held = world.hold("resume:made");
    const entering = Array.from({ length: 100 }, () => world.control.gate.enter(id, never));
    await held.reached;
    held.release();
    expect((await Promise.all(entering)).every(({ microvmId }) => microvmId === id)).toBe(true);
    expect(resumes()).toBe(1);
  });

  test("waits for a suspend to end and resumes then", async () => {
    const id = await world.running(image, { idlePolicy: policy });
    const held = world.hold("suspend:stopped");
    await world.operations.SuspendMicrovm(at(id), context());
    await held.reached;
    const entering = world.control.gate.enter(id, never);
    held.release();
    await entering;
    expect([await world.state(id), resumes()]).toEqual(["RUNNING", 1]);
  });

  test("joins a resume that somebody asked for, even where it would not resume by itself", async () => {
    const id = await suspended(false);
    const held = world.hold("resume:made");
    const resumed = world.operations.ResumeMicrovm(at(id), context());
    await held.reached;
    const entering = world.control.gate.enter(id, never);
    held.release();
    await Promise.all([resumed, entering]);
    expect(resumes()).toBe(1);
  });

  test("turns callers away from what sleeps and is not to be woken by them", async () => {
    const id = await suspended(false);
    await expect(world.control.gate.enter(id, never)).rejects.toMatchObject({ reason: "suspended" });
    const unplanned = await world.running(image);
    await world.operations.SuspendMicrovm(at(unplanned), context());
    await world.settled();
    await expect(world.control.gate.enter(unplanned, never)).rejects.toMatchObject({ reason: "suspended" });
    expect([await world.state(id), resumes()]).toEqual(["SUSPENDED", 0]);
  });

  test("turns callers away from what has ended", async () => {
    const id = await world.running(image);
    const visit = await world.control.gate.enter(id, never);
    await world.operations.TerminateMicrovm(at(id), context());
    expect(visit.closing.aborted).toBe(true);
    await expect(world.control.gate.enter(id, never)).rejects.toMatchObject({ reason: "terminated" });
    await world.settled();
    await expect(world.control.gate.enter(id, never)).rejects.toThrow(GateError);
    await expect(world.control.gate.enter("microvm-unknown", never)).rejects.toThrow(GateError);
  });

  test("tells all who waited when the resume fails, and does not try again at once", async () => {
    const id = await suspended();
    world.machine.failNext("resume", new HostError("corrupt", "a page is wrong"));
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => world.control.gate.enter(id, never)));
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ status: "rejected", reason: { reason: "resume_failed" } });
    await expect(world.control.gate.enter(id, never)).rejects.toMatchObject({ reason: "resume_failed" });
    expect(resumes()).toBe(1);
    expect(await world.state(id)).toBe("SUSPENDED");
    await world.clock.advance(2000);
    expect((await world.control.gate.enter(id, never)).microvmId).toBe(id);
  });

  test("a caller that goes away stops waiting, the others do not", async () => {
    const held = world.hold("launch:made");
    const { microvmId } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    const impatient = new AbortController();
    const leaving = world.control.gate.enter(microvmId, impatient.signal);
    const staying = world.control.gate.enter(microvmId, never);
    impatient.abort(new Error("gone"));
    await expect(leaving).rejects.toThrow("gone");
    held.release();
    await staying;
  });

  test("gives up after two minutes", async () => {
    const held = world.hold("launch:made");
    const { microvmId } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    const entering = world.control.gate.enter(microvmId, never).catch((err: unknown) => err);
    await world.clock.advance(120_000);
    expect(await entering).toMatchObject({ reason: "timeout" });
    held.release();
  });

  test("lets a thousand wait and no more", async () => {
    const held = world.hold("launch:made");
    const { microvmId } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    const waiting = Array.from({ length: 1000 }, () => world.control.gate.enter(microvmId, never));
    await expect(world.control.gate.enter(microvmId, never)).rejects.toMatchObject({ reason: "busy" });
    held.release();
    await Promise.all(waiting);
    await world.control.gate.enter(microvmId, never);
  });

  test("a suspend cuts open visits before the host is asked, and a later visit is a new one", async () => {
    const id = await world.running(image, { idlePolicy: policy });
    const visit = await world.control.gate.enter(id, never);
    const held = world.hold("suspend:begin");
    await world.operations.SuspendMicrovm(at(id), context());
    await held.reached;
    expect(visit.closing.aborted).toBe(true);
    await expect(visit.connect(8080, never)).rejects.toThrow();
    held.release();
    const again = await world.control.gate.enter(id, never);
    expect(again.closing.aborted).toBe(false);
  });

  test("a server that closes lets nobody wait", async () => {
    const held = world.hold("launch:made");
    const { microvmId } = await world.operations.RunMicrovm({ imageIdentifier: image }, context());
    const entering = world.control.gate.enter(microvmId, never).catch((err: unknown) => err);
    const closed = world.control.close();
    expect(await entering).toBeInstanceOf(GateError);
    held.release();
    await closed;
  });
});
