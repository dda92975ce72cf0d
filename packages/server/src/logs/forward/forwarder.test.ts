import { expect, onTestFinished, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { eventsOf, hastyClock } from "./collector.fixture.ts";
import { BusyError, type Exporter, type ForwardedEvent, Forwarder, RefusedError } from "./forwarder.ts";

const at = (stream: string) => ({ accountId: "000000000000", group: "g", stream });

/** An exporter whose answers are the test's. */
function fake(send: Exporter["send"], mostMs = 1e9) {
  const sent: string[][] = [];
  const waiting: (() => void)[] = [];
  const exporter: Exporter = {
    name: "fake",
    mostMs,
    keyOf: ({ stream }) => stream,
    close: () => {},
    send: async (events, signal) => {
      await send(events, signal);
      sent.push(events.map(({ event }) => event.text));
      for (const check of waiting) check();
    },
  };
  const count = (n: number) =>
    new Promise<void>((done) => {
      const check = () => sent.flat().length >= n && done();
      waiting.push(check);
      check();
    });
  return { exporter, sent, count };
}

function start(exporter: Exporter, bufferBytes?: number) {
  const clock = hastyClock();
  const forwarder = new Forwarder({
    exporter,
    clock,
    log: createLog("silent"),
    random: () => 1,
    ...(bufferBytes && { bufferBytes }),
  });
  onTestFinished(() => forwarder.close());
  return { forwarder, clock };
}

test("events of a stream are sent in order and in bounded batches", async () => {
  const { exporter, sent, count } = fake(async () => {});
  const { forwarder } = start(exporter);
  const texts = Array.from({ length: 2500 }, (_, i) => String(i));
  forwarder.add(at("a"), eventsOf(texts));
  await count(2500);
  expect(sent.flat()).toEqual(texts);
  expect(sent.map((batch) => batch.length)).toEqual([1000, 1000, 500]);
  const large = Array.from({ length: 10 }, () => "x".repeat(200_000));
  forwarder.add(at("b"), eventsOf(large));
  await count(2510);
  expect(sent.slice(3).map((batch) => batch.length)).toEqual([2, 2, 2, 2, 2]);
});

test("a batch does not span more time than the service takes", async () => {
  const { exporter, sent, count } = fake(async () => {}, 1000);
  const { forwarder } = start(exporter);
  forwarder.add(at("a"), [...eventsOf(["1", "2"], 0), ...eventsOf(["3"], 1001)]);
  await count(3);
  expect(sent).toEqual([["1", "2"], ["3"]]);
});

test("an outage is waited out with growing pauses, and nothing is lost or doubled", async () => {
  let failures = 5;
  const { exporter, sent, count } = fake(async () => {
    if (failures-- > 0) throw new BusyError("away");
  });
  const { forwarder, clock } = start(exporter);
  forwarder.add(at("a"), eventsOf(["1"]));
  await count(1);
  forwarder.add(at("a"), eventsOf(["2", "3"]));
  await count(3);
  expect(sent.flat()).toEqual(["1", "2", "3"]);
  expect(clock.pauses.slice(1, 6)).toEqual([1000, 2000, 4000, 8000, 16_000]);
});

test("a service that says when to come back is not asked before", async () => {
  let failures = 1;
  const { exporter, count } = fake(async () => {
    if (failures-- > 0) throw new BusyError("busy", 20_000);
  });
  const { forwarder, clock } = start(exporter);
  forwarder.add(at("a"), eventsOf(["1"]));
  await count(1);
  expect(clock.pauses).toContain(20_000);
});

test("what is refused for good does not hold up what follows", async () => {
  const { exporter, sent, count } = fake(async (events) => {
    if (events.some(({ event }) => event.text === "bad")) throw new RefusedError("no");
  });
  const { forwarder } = start(exporter);
  forwarder.add(at("a"), eventsOf(["bad"]));
  forwarder.add(at("b"), eventsOf(["good"]));
  await count(1);
  expect(sent).toEqual([["good"]]);
});

test("during an outage the buffer is bounded: the oldest go, and adding never waits", async () => {
  const gate = Promise.withResolvers<void>();
  const { exporter, sent, count } = fake(() => gate.promise);
  const { forwarder } = start(exporter, 10_000);
  for (let i = 0; i < 1000; i++) forwarder.add(at("a"), eventsOf([`${i} ${"x".repeat(100)}`]));
  gate.resolve();
  await count(40);
  const got = sent.flat().map((text) => Number(text.split(" ")[0]));
  expect(got.at(-1)).toBe(999);
  expect(got.length).toBeLessThan(100);
  expect(got).toEqual(got.toSorted((a, b) => a - b));
});

test("a stream that is stuck does not hold up others", async () => {
  const { exporter, sent, count } = fake(async (events, signal) => {
    if (events[0]?.target.stream === "stuck") await new Promise((_, no) => signal.addEventListener("abort", no));
  });
  const { forwarder } = start(exporter);
  forwarder.add(at("stuck"), eventsOf(["never"]));
  forwarder.add(at("a"), eventsOf(["1"]));
  await count(1);
  expect(sent).toEqual([["1"]]);
});

test("what waits at the end is sent, unless the service does not answer", async () => {
  const { exporter, sent } = fake(async () => {});
  const { forwarder } = start(exporter);
  forwarder.add(at("a"), eventsOf(["1", "2"]));
  await forwarder.close();
  expect(sent.flat()).toEqual(["1", "2"]);
  const stuck: ForwardedEvent[] = [];
  const dead = fake(async (events) => {
    stuck.push(...events);
    throw new BusyError("away");
  });
  const second = start(dead.exporter);
  second.forwarder.add(at("a"), eventsOf(["3"]));
  await second.forwarder.close();
  expect(dead.sent).toEqual([]);
});
