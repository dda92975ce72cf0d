import { expect, onTestFinished, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { cloudWatchExporter } from "./cloudwatch.ts";
import { eventsOf, hastyClock, type Received, startCollector } from "./collector.fixture.ts";
import { Forwarder } from "./forwarder.ts";

const TARGET = { accountId: "000000000000", group: "/g", stream: "s" };
const operationOf = ({ headers }: Received): string => String(headers["x-amz-target"]).split(".")[1] ?? "";

async function forwarding() {
  const service = await startCollector();
  const log = createLog("silent");
  const exporter = cloudWatchExporter({
    region: "eu-central-1",
    endpoint: service.url,
    accessKeyId: "AKIAEXAMPLE",
    secretAccessKey: "secret",
    log,
  });
  const forwarder = new Forwarder({ exporter, clock: hastyClock(), log });
  onTestFinished(() => forwarder.close());
  return { service, forwarder };
}

const refuse = (type: string) => (_request: Received, response: Parameters<typeof answerWith>[1]) =>
  answerWith({ __type: type, message: type }, response);
function answerWith(body: object, response: import("node:http").ServerResponse): void {
  response.writeHead(400, { "content-type": "application/x-amz-json-1.1" }).end(JSON.stringify(body));
}

test("lines are put under the names that they have here, signed for the service", async () => {
  const { service, forwarder } = await forwarding();
  forwarder.add(TARGET, eventsOf(["one", "", "three"]));
  await service.count(1);
  const [request] = service.received;
  expect(operationOf(request!)).toBe("PutLogEvents");
  expect(request?.headers.authorization).toMatch(/Credential=AKIAEXAMPLE\/\d{8}\/eu-central-1\/logs\/aws4_request/);
  expect(request?.body).toEqual({
    logGroupName: "/g",
    logStreamName: "s",
    logEvents: [
      { timestamp: 1_789_483_142_000, message: "one" },
      { timestamp: 1_789_483_142_001, message: " " },
      { timestamp: 1_789_483_142_002, message: "three" },
    ],
  });
});

test("a group and a stream that are not there are made", async () => {
  const { service, forwarder } = await forwarding();
  let there = false;
  service.answer = (request, response) => {
    const operation = operationOf(request);
    if (operation === "PutLogEvents" && !there) return refuse("ResourceNotFoundException")(request, response);
    if (operation === "CreateLogGroup") return refuse("ResourceAlreadyExistsException")(request, response);
    if (operation === "CreateLogStream") there = true;
    response.writeHead(200, { "content-type": "application/x-amz-json-1.1" }).end("{}");
  };
  forwarder.add(TARGET, eventsOf(["one"]));
  await service.count(4);
  expect(service.received.map(operationOf)).toEqual([
    "PutLogEvents",
    "CreateLogGroup",
    "CreateLogStream",
    "PutLogEvents",
  ]);
});

test("throttling, wrong keys and broken connections are waited out; what is invalid is given up", async () => {
  const { service, forwarder } = await forwarding();
  const answers = [
    refuse("ThrottlingException"),
    refuse("UnrecognizedClientException"),
    (_request: Received, response: import("node:http").ServerResponse) => void response.socket?.destroy(),
  ];
  service.answer = (request, response) => {
    const next = answers.shift();
    if (next) next(request, response);
    else response.writeHead(200, { "content-type": "application/x-amz-json-1.1" }).end("{}");
  };
  forwarder.add(TARGET, eventsOf(["one"]));
  await service.count(4);
  service.answer = refuse("InvalidParameterException");
  forwarder.add(TARGET, eventsOf(["two"]));
  await service.count(5);
  service.answer = (_request, response) =>
    void response.writeHead(200, { "content-type": "application/x-amz-json-1.1" }).end("{}");
  forwarder.add(TARGET, eventsOf(["three"]));
  await service.count(6);
  const texts = service.received.map(({ body }) => JSON.stringify(body).match(/"message":"(\w+)"/)?.[1]);
  expect(texts).toEqual(["one", "one", "one", "one", "two", "three"]);
});
