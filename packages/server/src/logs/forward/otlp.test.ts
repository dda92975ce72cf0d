import { expect, onTestFinished, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { eventsOf, hastyClock, startCollector } from "./collector.fixture.ts";
import { Forwarder } from "./forwarder.ts";
import { otlpExporter, parseOtlpHeaders } from "./otlp.ts";

const TARGET = { accountId: "000000000000", group: "/aws/lambda-microvms/demo", stream: "2026/09/15[1.0]microvm-1" };

async function forwarding(headers: Record<string, string> = {}) {
  const collector = await startCollector();
  const log = createLog("silent");
  const endpoint = `${collector.url}/v1/logs`;
  const exporter = otlpExporter({ endpoint, headers, region: "us-east-1", log });
  const forwarder = new Forwarder({ exporter, clock: hastyClock(), log });
  onTestFinished(() => forwarder.close());
  return { collector, forwarder, exporter };
}

const bodies = (value: unknown): string[] =>
  [...JSON.stringify(value).matchAll(/"body":\{"stringValue":"([^"]*)"/g)].map((match) => match[1]!);

test("lines arrive as OTLP/HTTP says: JSON, a resource a stream, times in nanoseconds as text", async () => {
  const { collector, forwarder } = await forwarding({ authorization: "Bearer x" });
  forwarder.add(TARGET, eventsOf(["one", "two"]));
  forwarder.add({ ...TARGET, stream: "other" }, eventsOf(["three"]));
  await collector.count(1);
  const [request] = collector.received;
  expect(request).toMatchObject({
    path: "/v1/logs",
    headers: { "content-type": "application/json", authorization: "Bearer x" },
    body: {
      resourceLogs: [
        {
          resource: {
            attributes: [
              { key: "service.name", value: { stringValue: TARGET.group } },
              { key: "cloud.region", value: { stringValue: "us-east-1" } },
              { key: "cloud.account.id", value: { stringValue: TARGET.accountId } },
              { key: "aws.log.group.names", value: { arrayValue: { values: [{ stringValue: TARGET.group }] } } },
              { key: "aws.log.stream.names", value: { arrayValue: { values: [{ stringValue: TARGET.stream }] } } },
            ],
          },
          scopeLogs: [
            {
              scope: { name: "torpor" },
              logRecords: [
                {
                  timeUnixNano: "1789483142000000000",
                  observedTimeUnixNano: "1789483142005000000",
                  body: { stringValue: "one" },
                },
                { body: { stringValue: "two" } },
              ],
            },
          ],
        },
        { scopeLogs: [{ logRecords: [{ body: { stringValue: "three" } }] }] },
      ],
    },
  });
});

test("an outage of the collector is waited out, whether it answers 503, breaks connections or is gone", async () => {
  const { collector, forwarder } = await forwarding();
  let failures = 4;
  collector.answer = (_request, response) => {
    if (failures-- <= 0) response.end("{}");
    else if (failures % 2 === 0) response.socket?.destroy();
    else response.writeHead(503, { "retry-after": "1" }).end();
  };
  forwarder.add(TARGET, eventsOf(["one"]));
  await collector.count(5);
  forwarder.add(TARGET, eventsOf(["two"]));
  await collector.count(6);
  expect(collector.received.flatMap(({ body }) => bodies(body))).toEqual([...Array(5).fill("one"), "two"]);
});

test("what the collector refuses for good is given up, and what follows is sent", async () => {
  const { collector, forwarder } = await forwarding();
  collector.answer = (_request, response) => void response.writeHead(400).end("bad");
  forwarder.add(TARGET, eventsOf(["one"]));
  await collector.count(1);
  collector.answer = (_request, response) =>
    void response.end('{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"x"}}');
  forwarder.add(TARGET, eventsOf(["two"]));
  await collector.count(2);
  expect(collector.received.flatMap(({ body }) => bodies(body))).toEqual(["one", "two"]);
});

test("redirects are not followed, and an endless answer is not read", async () => {
  const { collector, exporter } = await forwarding();
  const send = () => exporter.send([{ target: TARGET, event: eventsOf(["one"])[0]! }], AbortSignal.timeout(10_000));
  collector.answer = (_request, response) => void response.writeHead(307, { location: `${collector.url}/other` }).end();
  await expect(send()).rejects.toThrow("does not answer");
  expect(collector.received).toHaveLength(1);
  collector.answer = (_request, response) => {
    const more = (): void => {
      while (response.write("x".repeat(65_536))) if (response.destroyed) return;
    };
    response.on("drain", more);
    more();
  };
  await send();
});

test("headers are read as OTEL_EXPORTER_OTLP_HEADERS is", () => {
  expect(parseOtlpHeaders("")).toEqual({});
  expect(parseOtlpHeaders("Authorization=Bearer%20x, a=b=c,")).toEqual({ authorization: "Bearer x", a: "b=c" });
  expect(() => parseOtlpHeaders("novalue")).toThrow("expected name=value");
  expect(() => parseOtlpHeaders("a b=c")).toThrow("expected name=value");
  expect(() => parseOtlpHeaders("a=%zz")).toThrow("percent-encoded");
});
