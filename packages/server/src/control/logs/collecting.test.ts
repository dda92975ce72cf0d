import { beforeEach, expect, test } from "vitest";
import { context, World } from "../testing/world.ts";
import type { LogLine } from "./line.ts";

const never = new AbortController().signal;
const GROUP = "/aws/lambda-microvms/demo";
let world: World;
let image: string;
beforeEach(async () => {
  world = await World.create();
  image = await world.image("demo", { logging: { disabled: {} } });
});

const logs = () => world.control.extensions.logGroups;

/** The lines of a group's stream, once there are so many. */
async function lines(group: string, count: number, stream?: string): Promise<LogLine[]> {
  const got: LogLine[] = [];
  const choice = stream === undefined ? {} : { streams: [stream] };
  for (;;) {
    try {
      for await (const line of logs().follow(context(), group, { ...choice, follow: true }, never)) {
        got.push(line);
        if (got.length === count) return got;
      }
    } catch {
      await new Promise((resolve) => setImmediate(resolve)); // there is no such group yet
    }
  }
}
const texts = async (...args: Parameters<typeof lines>) => (await lines(...args)).map(({ text }) => text);
const groups = async () => (await logs().groups(context(), {}, {})).items.map(({ name }) => name);

test("what a workload writes goes to the group and stream that the service's documents name", async () => {
  const id = await world.running(image, { logging: { cloudWatch: {} } });
  world.machine.output.say(id, "one");
  const day = new Date(world.clock.now()).toISOString().slice(0, 10).replaceAll("-", "/");
  expect(await texts(GROUP, 2, `${day}[1.0]${id}`)).toEqual([`hello from ${id}`, "one"]);
});

test("names that RunMicrovm gives are used as they are, and several microvms may share a stream", async () => {
  const logging = { cloudWatch: { logGroup: "/mine", logStream: "../../all" } };
  const [a, b] = [await world.running(image, { logging }), await world.running(image, { logging })];
  expect((await texts("/mine", 2, "../../all")).sort()).toEqual([`hello from ${a}`, `hello from ${b}`].sort());
});

test("without a word about logging, or with it disabled, no group has any of it; torpor's own log has", async () => {
  const silent = await world.running(image);
  const disabled = await world.running(image, { logging: { disabled: {} } });
  const told = await world.running(image, { logging: { cloudWatch: { logGroup: "/last" } } });
  await lines("/last", 1);
  expect(await groups()).toEqual(["/last"]);
  for (const id of [silent, disabled, told]) {
    const own: string[] = [];
    for await (const { text } of await world.control.extensions.logs(context(), id, false, never)) own.push(text);
    expect(own).toEqual([`hello from ${id}`]);
  }
});

test("a suspended and resumed microvm goes on in its stream", async () => {
  const id = await world.running(image, { logging: { cloudWatch: { logStream: "s" } } });
  await world.operations.SuspendMicrovm({ microvmIdentifier: id }, context());
  await world.settled();
  await world.operations.ResumeMicrovm({ microvmIdentifier: id }, context());
  world.machine.output.say(id, "awake");
  expect(await texts(GROUP, 2, "s")).toEqual([`hello from ${id}`, "awake"]);
});

test("the last words of a microvm are collected after its end", async () => {
  const id = await world.running(image, { logging: { cloudWatch: { logStream: "s" } } });
  await lines(GROUP, 1, "s");
  world.machine.output.say(id, "last words");
  await world.operations.TerminateMicrovm({ microvmIdentifier: id }, context());
  await world.settled();
  expect(await texts(GROUP, 2, "s")).toEqual([`hello from ${id}`, "last words"]);
});

test("a new server goes on behind what the last one collected, whether that ended well or not", async () => {
  const logging = { cloudWatch: { logGroup: "/g", logStream: "shared" } };
  const [a, b] = [await world.running(image, { logging }), await world.running(image, { logging })];
  await lines("/g", 2);
  await world.restart();
  world.machine.output.say(a, "a after a restart");
  await lines("/g", 3);
  await world.crash();
  world.machine.output.say(b, "b after a crash");
  const all = await texts("/g", 4);
  expect(all.sort()).toEqual([`hello from ${a}`, `hello from ${b}`, "a after a restart", "b after a crash"].sort());
});

test("another account's groups do not exist", async () => {
  await world.running(image, { logging: { cloudWatch: { logGroup: "/g" } } });
  await lines("/g", 1);
  const other = context("999999999999");
  expect((await logs().groups(other, {}, {})).items).toEqual([]);
  expect(() => logs().follow(other, "/g", { follow: true }, never)).toThrow("The specified log group does not exist.");
  const arn = "arn:aws:logs:us-east-1:000000000000:log-group:/g";
  await expect(logs().search(other, arn, {})).rejects.toThrow("The specified log group does not exist.");
  await expect(logs().search(context(), arn, {})).resolves.toMatchObject({ items: [{ stream: expect.any(String) }] });
});

test("build logs go to the image's group unless that is disabled", async () => {
  expect(await groups()).toEqual([]);
  await world.image("built");
  const built = await lines("/aws/lambda-microvms/built", 4);
  expect(built.map(({ text }) => text)).toContain("STEP 1/1: FROM scratch");
  expect(built[0]?.stream).toMatch(/^\d{4}\/\d{2}\/\d{2}\[1\.0\][0-9a-f-]{36}$/);
  await world.image("named", { logging: { cloudWatch: { logGroup: "/builds", logStream: "one" } } });
  expect(await texts("/builds", 4, "one")).toContain("==> container");
});

test("a follower gets streams that begin later, and only what its filter lets through", async () => {
  const logging = { cloudWatch: { logGroup: "/g" } };
  await world.running(image, { logging });
  await lines("/g", 1);
  const following = logs().follow(context(), "/g", { pattern: "ERROR -ignored", follow: true }, never);
  const next = following[Symbol.asyncIterator]();
  const first = next.next();
  const id = await world.running(image, { logging });
  for (const text of ["fine", "ERROR ignored", "ERROR one"]) world.machine.output.say(id, text);
  expect((await first).value?.text).toBe("ERROR one");
  await next.return?.();
});

test("a follower that reads slowly gets everything, once", async () => {
  const id = await world.running(image, { logging: { cloudWatch: { logGroup: "/g" } } });
  const following = logs();
  await lines("/g", 1);
  const reading = following.follow(context(), "/g", { follow: true }, never)[Symbol.asyncIterator]();
  await reading.next();
  const many = Array.from({ length: 20_000 }, (_, i) => `line ${i} ${"x".repeat(200)}`);
  for (const text of many) world.machine.output.say(id, text);
  await lines("/g", many.length + 1);
  const got: (string | undefined)[] = [];
  while (got.length < many.length) got.push((await reading.next()).value?.text);
  expect(got).toEqual(many);
  await reading.return?.();
});
