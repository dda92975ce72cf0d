import { beforeEach, expect, test } from "vitest";
import type { LogLine } from "../host/host-client.ts";
import { context, World } from "./testing/world.ts";

const never = new AbortController().signal;
let world: World;
let id: string;
beforeEach(async () => {
  world = await World.create();
  id = await world.running(await world.image("demo"));
});

async function lines(follow: boolean, signal = never, who = context()): Promise<string[]> {
  const texts: string[] = [];
  const log: AsyncIterable<LogLine> = await world.control.extensions.logs(who, id, follow, signal);
  for await (const { text } of log) texts.push(text);
  return texts;
}

test("logs are read by their owner", async () => {
  expect(await lines(false)).toEqual([`hello from ${id}`]);
  await expect(lines(false, never, context("999999999999"))).rejects.toMatchObject({ kind: "not_found" });
});

test("what a microvm takes is told to its owner, as long as there is something of it", async () => {
  const usage = (who = context()) => world.control.extensions.usage(who, id);
  expect(await usage()).toMatchObject({ microvmId: id, process: "running" });
  await expect(usage(context("999999999999"))).rejects.toMatchObject({ kind: "not_found" });
  await world.operations.SuspendMicrovm({ microvmIdentifier: id }, context());
  await world.settled();
  expect(await usage()).toMatchObject({ process: "none", pssBytes: null });
  await world.operations.TerminateMicrovm({ microvmIdentifier: id }, context());
  await world.settled();
  await expect(usage()).rejects.toMatchObject({ kind: "not_found" });
});

test("followed logs end with the microvm", async () => {
  const following = lines(true);
  await world.operations.TerminateMicrovm({ microvmIdentifier: id }, context());
  expect(await following).toEqual([`hello from ${id}`]);
  await world.settled();
  expect(await lines(true)).toEqual([`hello from ${id}`]);
});

test("a reader who goes away ends the following", async () => {
  const leaving = new AbortController();
  const following = lines(true, leaving.signal);
  leaving.abort(new Error("gone"));
  await expect(following).rejects.toThrow("gone");
});

test("the host's facts are shown as they are", () => {
  expect(world.control.extensions.hostFacts()).toMatchObject({ isolation: "emulated", architecture: "X86_64" });
});
