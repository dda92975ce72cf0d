import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CloudWatchLogsClient,
  type CloudWatchLogsClientConfig,
  CreateLogGroupCommand,
  DescribeLogGroupsCommand,
  DescribeLogStreamsCommand,
  type FilteredLogEvent,
  FilterLogEventsCommand,
  type FilterLogEventsCommandInput,
  GetLogEventsCommand,
  InvalidParameterException,
  paginateDescribeLogGroups,
  paginateDescribeLogStreams,
  paginateFilterLogEvents,
  ResourceNotFoundException,
  StartLiveTailCommand,
} from "@aws-sdk/client-cloudwatch-logs";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { LogReading } from "../../../control/logs/reading.ts";
import { systemClock } from "../../../lib/clock.ts";
import { createLog } from "../../../lib/log.ts";
import { LogStore } from "../../../logs/log-store.ts";
import { startApi, type TestApi } from "../../api.fixture.ts";
import { KEY } from "../../sigv4/signer.fixture.ts";

/** The SDK of CloudWatch Logs, unmodified, against the API over real files. */

const REGION = "us-east-1";
const GROUP = "/aws/lambda-microvms/demo";
const { accountId: ACCOUNT } = KEY;
let api: TestApi;
let store: LogStore;
let client: CloudWatchLogsClient;
let now = Date.now() - 100_000;

beforeEach(async () => {
  const dir = await mkdtemp(join(tmpdir(), "torpor-logs-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const clock = { ...systemClock, now: () => now };
  store = await LogStore.open(dir, { clock, log: createLog("silent"), retentionMs: 1e12, maxBytes: 1 << 30 });
  onTestFinished(() => store.close());
  api = await startApi({ extensions: { logGroups: new LogReading({ region: REGION, logs: store }) } });
  client = clientWith({});
});

function clientWith(config: CloudWatchLogsClientConfig): CloudWatchLogsClient {
  const { accessKeyId, secretAccessKey } = KEY;
  const credentials = { accessKeyId, secretAccessKey };
  const made = new CloudWatchLogsClient({ endpoint: api.url, region: REGION, maxAttempts: 1, credentials, ...config });
  onTestFinished(() => made.destroy());
  return made;
}

/** One after the other, a millisecond apart. */
async function write(stream: string, texts: readonly string[], group = GROUP, accountId = ACCOUNT): Promise<void> {
  for (const text of texts) {
    now++;
    await store.append({ accountId, group, stream }, { time: now, text });
  }
  await store.settled();
}

async function filter(input: Partial<FilterLogEventsCommandInput>): Promise<FilteredLogEvent[]> {
  const events: FilteredLogEvent[] = [];
  for await (const page of paginateFilterLogEvents({ client }, { logGroupName: GROUP, ...input }))
    events.push(...(page.events ?? []));
  return events;
}
const messages = async (input: Partial<FilterLogEventsCommandInput>) => (await filter(input)).map((e) => e.message);

describe("DescribeLogGroups", () => {
  test("lists the account's own groups by name, with what the model says of them", async () => {
    await write("s", ["x"], "/b");
    await write("s", ["x"], "/a");
    await write("s", ["x"], "/theirs", "999999999999");
    const { logGroups } = await client.send(new DescribeLogGroupsCommand({}));
    expect(logGroups?.map(({ logGroupName }) => logGroupName)).toEqual(["/a", "/b"]);
    expect(logGroups?.[0]).toMatchObject({
      arn: `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:/a:*`,
      logGroupArn: `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:/a`,
      storedBytes: expect.any(Number),
      creationTime: expect.any(Number),
      logGroupClass: "STANDARD",
    });
  });

  test("pages, by prefix or pattern", async () => {
    for (let i = 10; i < 30; i++) await write("s", ["x"], `/one/${i}`);
    await write("s", ["x"], "/two/ONE");
    const names: (string | undefined)[] = [];
    for await (const page of paginateDescribeLogGroups({ client, pageSize: 7 }, { logGroupNamePrefix: "/one/" }))
      names.push(...(page.logGroups ?? []).map(({ logGroupName }) => logGroupName));
    expect(names).toEqual(Array.from({ length: 20 }, (_, i) => `/one/${i + 10}`));
    const { logGroups } = await client.send(new DescribeLogGroupsCommand({ logGroupNamePattern: "two/one" }));
    expect(logGroups?.map(({ logGroupName }) => logGroupName)).toEqual(["/two/ONE"]);
  });

  test("what is not supported is refused, and not ignored", async () => {
    const both = new DescribeLogGroupsCommand({ logGroupNamePrefix: "/a", logGroupNamePattern: "a" });
    await expect(client.send(both)).rejects.toBeInstanceOf(InvalidParameterException);
    const named = new DescribeLogGroupsCommand({ logGroupIdentifiers: ["/a"] });
    await expect(client.send(named)).rejects.toThrow("logGroupIdentifiers is not supported");
    const others = new DescribeLogGroupsCommand({ accountIdentifiers: ["999999999999"] });
    expect((await client.send(others)).logGroups).toEqual([]);
  });
});

describe("DescribeLogStreams", () => {
  test("orders by name, or by the newest event, in pages", async () => {
    for (const name of ["b", "c", "a"]) await write(name, ["x"]);
    await write("c", ["newest"]);
    const names = async (input: object) => {
      const found: (string | undefined)[] = [];
      for await (const page of paginateDescribeLogStreams({ client, pageSize: 2 }, { logGroupName: GROUP, ...input }))
        found.push(...(page.logStreams ?? []).map(({ logStreamName }) => logStreamName));
      return found;
    };
    expect(await names({})).toEqual(["a", "b", "c"]);
    expect(await names({ descending: true })).toEqual(["c", "b", "a"]);
    expect(await names({ orderBy: "LastEventTime", descending: true })).toEqual(["c", "a", "b"]);
    expect(await names({ orderBy: "LastEventTime" })).toEqual(["b", "a", "c"]);
    expect(await names({ logStreamNamePrefix: "b" })).toEqual(["b"]);
    const { logStreams } = await client.send(new DescribeLogStreamsCommand({ logGroupName: GROUP, limit: 1 }));
    expect(logStreams?.[0]).toMatchObject({
      arn: `arn:aws:logs:${REGION}:${ACCOUNT}:log-group:${GROUP}:log-stream:a`,
      firstEventTimestamp: expect.any(Number),
      lastEventTimestamp: expect.any(Number),
    });
  });

  test("a group is also found by its ARN, and another account's is not", async () => {
    await write("s", ["x"]);
    await write("s", ["x"], GROUP, "999999999999");
    const arn = (account: string) => `arn:aws:logs:${REGION}:${account}:log-group:${GROUP}`;
    const own = new DescribeLogStreamsCommand({ logGroupIdentifier: arn(ACCOUNT) });
    expect((await client.send(own)).logStreams).toHaveLength(1);
    const foreign = new DescribeLogStreamsCommand({ logGroupIdentifier: arn("999999999999") });
    await expect(client.send(foreign)).rejects.toThrow("The specified log group does not exist.");
  });
});

describe("GetLogEvents", () => {
  const get = (input: object) =>
    client.send(new GetLogEventsCommand({ logGroupName: GROUP, logStreamName: "s", ...input }));
  const texts = (page: { readonly events?: readonly { readonly message?: string | undefined }[] | undefined }) =>
    page.events?.map(({ message }) => message);

  test("the newest come first without startFromHead; tokens lead both ways and end where there is no more", async () => {
    await write("s", ["1", "2", "3", "4", "5"]);
    const end = await get({ limit: 2 });
    expect(texts(end)).toEqual(["4", "5"]);
    const before = await get({ limit: 2, nextToken: end.nextBackwardToken });
    expect(texts(before)).toEqual(["2", "3"]);
    const first = await get({ limit: 2, nextToken: before.nextBackwardToken });
    expect(texts(first)).toEqual(["1"]);
    const none = await get({ limit: 2, nextToken: first.nextBackwardToken });
    expect(texts(none)).toEqual([]);
    expect(none.nextBackwardToken).toBe(first.nextBackwardToken);

    const after = await get({ nextToken: end.nextForwardToken });
    expect(texts(after)).toEqual([]);
    expect(after.nextForwardToken).toBe(end.nextForwardToken);
    await write("s", ["6"]);
    expect(texts(await get({ nextToken: after.nextForwardToken }))).toEqual(["6"]);
  });

  test("from the head, within a time; what is as late as the end is not in it", async () => {
    const from = now + 1;
    await write("s", ["1", "2", "3", "4"]);
    expect(texts(await get({ startFromHead: true, limit: 3 }))).toEqual(["1", "2", "3"]);
    expect(texts(await get({ startTime: from + 1, endTime: from + 3 }))).toEqual(["2", "3"]);
    expect(texts(await get({ startTime: from + 100 }))).toEqual([]);
  });

  test("a page is bounded in bytes, and pages together are everything", async () => {
    const lines = Array.from({ length: 30 }, (_, i) => `${i} ${"x".repeat(100_000)}`);
    await write("s", lines);
    const got: (string | undefined)[] = [];
    let pages = 0;
    for (let page = await get({ startFromHead: true }); ; pages++) {
      got.push(...(texts(page) ?? []));
      const next = await get({ nextToken: page.nextForwardToken, startFromHead: true });
      if (next.nextForwardToken === page.nextForwardToken) break;
      page = next;
    }
    expect(got).toEqual(lines);
    expect(pages).toBeGreaterThan(1);
  });

  test("what does not exist, and tokens that are none, in the service's words", async () => {
    await expect(get({})).rejects.toThrow(ResourceNotFoundException);
    await expect(get({})).rejects.toThrow("The specified log group does not exist.");
    await write("other", ["x"]);
    await expect(get({})).rejects.toThrow("The specified log stream does not exist.");
    await write("s", ["x"]);
    for (const nextToken of ["x", "f/1/s", `f/${"9".repeat(56)}/s`])
      await expect(get({ nextToken })).rejects.toThrow("The specified nextToken is invalid.");
  });
});

describe("FilterLogEvents", () => {
  test("interleaves streams by time, with ids that are stable and differ", async () => {
    await write("a", ["a1"]);
    await write("b", ["b1"]);
    await write("a", ["a2"]);
    const events = await filter({});
    expect(events.map(({ message, logStreamName }) => [message, logStreamName])).toEqual([
      ["a1", "a"],
      ["b1", "b"],
      ["a2", "a"],
    ]);
    expect(new Set(events.map(({ eventId }) => eventId)).size).toBe(3);
    expect((await filter({})).map(({ eventId }) => eventId)).toEqual(events.map(({ eventId }) => eventId));
  });

  test("streams by name or prefix, times, patterns and small pages", async () => {
    const from = now + 1;
    await write("web-1", ["GET /", "ERROR one"]);
    await write("web-2", ["ERROR two", '{"level":"error","ms":7}']);
    await write("db", ["ERROR three"]);
    expect(await messages({ logStreamNames: ["db"] })).toEqual(["ERROR three"]);
    expect(await messages({ logStreamNamePrefix: "web", filterPattern: "ERROR" })).toEqual(["ERROR one", "ERROR two"]);
    expect(await messages({ filterPattern: '{ $.level = "error" && $.ms > 5 }' })).toHaveLength(1);
    expect(await messages({ startTime: from + 1, endTime: from + 2 })).toEqual(["ERROR one", "ERROR two"]);
    expect(await messages({ filterPattern: "ERROR", limit: 1 })).toEqual(["ERROR one", "ERROR two", "ERROR three"]);
    const whole = await client.send(new FilterLogEventsCommand({ logGroupName: GROUP, limit: 2 }));
    expect(whole.searchedLogStreams).toEqual([]);
    expect(whole.nextToken).toBeDefined();
  });

  test("calls as `aws logs tail --follow` makes them get every line once", async () => {
    await write("a", ["1", "2"]);
    let startTime = 0;
    const seen = new Set<string>();
    const told: (string | undefined)[] = [];
    const look = async () => {
      const input = { logGroupName: GROUP, interleaved: true, startTime, limit: 100 };
      for await (const page of paginateFilterLogEvents({ client }, input))
        for (const event of page.events ?? []) {
          if (seen.has(event.eventId ?? "")) continue;
          seen.add(event.eventId ?? "");
          startTime = Math.max(startTime, event.timestamp ?? 0);
          told.push(event.message);
        }
    };
    await look();
    await write("b", ["3"]);
    await look();
    await write("a", ["4", "5"]);
    await look();
    expect(told).toEqual(["1", "2", "3", "4", "5"]);
  });

  test.each([
    [{ filterPattern: "[a, b]" }, "space-delimited"],
    [{ filterPattern: "%a%" }, "Regular expressions"],
    [{ filterPattern: "a-b" }, "Invalid character(s) in term 'a-b'"],
    [{ logStreamNames: ["s"], logStreamNamePrefix: "s" }, "mutually exclusive"],
    [{ logGroupIdentifier: GROUP }, "mutually exclusive"],
    [{ logGroupName: undefined }, "Either LogGroup name or LogGroup identifier must be given"],
    [{ nextToken: "bm9uc2Vuc2U" }, "nextToken is not valid"],
    [
      { limit: 0 },
      "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1",
    ],
    [{ logGroupName: "a b" }, "Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+"],
    [{ startTime: -1 }, "greater than or equal to 0"],
  ])("%j is refused", async (input, reason) => {
    await write("s", ["x"]);
    const sent = client.send(new FilterLogEventsCommand({ logGroupName: GROUP, ...input }));
    await expect(sent).rejects.toThrow(InvalidParameterException);
    await expect(client.send(new FilterLogEventsCommand({ logGroupName: GROUP, ...input }))).rejects.toThrow(reason);
  });

  test("a page token of one question is none for another", async () => {
    await write("s", ["1", "2"]);
    const { nextToken } = await client.send(new FilterLogEventsCommand({ logGroupName: GROUP, limit: 1 }));
    const other = new FilterLogEventsCommand({ logGroupName: GROUP, limit: 1, filterPattern: "2", nextToken });
    await expect(client.send(other)).rejects.toThrow("nextToken is not valid");
  });

  test("streams that are not there are named as such", async () => {
    await write("s", ["x"]);
    await expect(filter({ logStreamNames: ["s", "t"] })).rejects.toThrow("The specified log stream does not exist.");
  });
});

describe("everything else", () => {
  test("StartLiveTail is refused with its reason", async () => {
    const tail = new StartLiveTailCommand({ logGroupIdentifiers: [`arn:aws:logs:${REGION}:${ACCOUNT}:log-group:x`] });
    const plain = clientWith({ disableHostPrefix: true });
    await expect(plain.send(tail)).rejects.toThrow(/StartLiveTail is not available here.*FilterLogEvents/);
  });

  test("operations that write are not there", async () => {
    await expect(client.send(new CreateLogGroupCommand({ logGroupName: "x" }))).rejects.toMatchObject({
      name: "UnknownOperationException",
      message: expect.stringContaining("CreateLogGroup is not available here"),
    });
  });

  test("a signature for another service is not looked at, and one that is wrong is refused as this service does", async () => {
    const headers = {
      "x-amz-target": "Logs_20140328.DescribeLogGroups",
      "content-type": "application/x-amz-json-1.1",
    };
    const lambda = await api.send({ method: "POST", path: "/", headers, body: "{}" });
    expect(await lambda.json()).toMatchObject({ message: "There is no operation POST / here." });
    const wrong = clientWith({ credentials: { accessKeyId: KEY.accessKeyId, secretAccessKey: "wrong" } });
    await expect(wrong.send(new DescribeLogGroupsCommand({}))).rejects.toMatchObject({
      name: "InvalidSignatureException",
      $metadata: { httpStatusCode: 400 },
    });
  });
});
