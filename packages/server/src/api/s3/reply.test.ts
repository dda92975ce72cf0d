import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { type Clock, systemClock } from "../../lib/clock.ts";
import { Reply } from "./reply.ts";
import { S3Error } from "./s3-error.ts";
import { element } from "./wire/xml-write.ts";

/** One answer by a piece of work that lasts until a timer has called back `ticks` times. */
async function answerAfter(ticks: number, work: () => ReturnType<typeof element>): Promise<Response> {
  let left = ticks;
  let finish = (): void => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const clock: Clock = {
    ...systemClock,
    after: (_ms, callback) => {
      if (left-- > 0) setImmediate(callback);
      else finish();
      return () => {};
    },
  };
  const server = createServer((request, response) => {
    const reply = new Reply(request, response, clock, false);
    const slow = async (): Promise<{ markup: ReturnType<typeof element> }> => {
      await finished;
      return { markup: work() };
    };
    reply
      .whenDone(slow)
      .catch((err: unknown) => reply.error(err instanceof S3Error ? err : new S3Error("InternalError"), "/"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

const done = (): ReturnType<typeof element> => element("Done", "yes");
const refuse = (): never => {
  throw new S3Error("InvalidPart");
};

test("an answer that takes long keeps the client waiting with spaces", async () => {
  const response = await answerAfter(3, done);
  expect(response.status).toBe(200);
  expect(await response.text()).toBe('<?xml version="1.0" encoding="UTF-8"?>\n  <Done>yes</Done>');
});

test("an answer that is soon there has a length and no spaces", async () => {
  const response = await answerAfter(0, done);
  expect(response.headers.get("content-length")).toBe("55");
  expect(await response.text()).toBe('<?xml version="1.0" encoding="UTF-8"?>\n<Done>yes</Done>');
});

test("a failure after the head has gone out is told in the body, and before it by the status", async () => {
  const late = await answerAfter(2, refuse);
  expect(late.status).toBe(200);
  expect(await late.text()).toMatch(/^<\?xml[^>]*>\n <Error><Code>InvalidPart<\/Code>/);
  const soon = await answerAfter(0, refuse);
  expect(soon.status).toBe(400);
});
