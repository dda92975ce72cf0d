import { describe, expect, test } from "vitest";
import { CHECKPOINT, MICROVM, startApi } from "../api.fixture.ts";

const { checkpointId } = CHECKPOINT;
const AT = { microvm: `/torpor/v1/microvms/${MICROVM}`, checkpoint: `/torpor/v1/checkpoints/${checkpointId}` };
const json = { "content-type": "application/json" };
const post = (path: string, body?: string, headers: Record<string, string> = json) => ({
  method: "POST",
  path,
  headers,
  ...(body !== undefined && { body }),
});
const EVERY = [
  post(`${AT.microvm}/checkpoints`),
  { method: "GET", path: `${AT.microvm}/checkpoints` },
  { method: "GET", path: "/torpor/v1/checkpoints" },
  { method: "GET", path: AT.checkpoint },
  { method: "DELETE", path: AT.checkpoint },
  post(`${AT.checkpoint}/fork`),
  post(`${AT.microvm}/fork`),
  post(`${AT.microvm}/rollback`, JSON.stringify({ checkpointId })),
  { method: "GET", path: `${AT.microvm}/lineage` },
];

test.each(EVERY)("$method $path needs a signature", async ({ method, path }) => {
  const { url, calls } = await startApi();
  const response = await fetch(url + path, { method });
  expect([response.status, await response.json()]).toEqual([403, { message: "Missing Authentication Token" }]);
  expect(calls).toEqual([]);
});

test("each operation is asked for what the request says, by whom the signature says", async () => {
  const { send, calls } = await startApi();
  const statuses: number[] = [];
  for (const request of EVERY) statuses.push((await send(request)).status);
  expect(statuses).toEqual([201, 200, 200, 200, 200, 200, 200, 200, 200]);
  expect(calls.map(({ name, input }) => [name, input])).toEqual([
    ["create", [MICROVM, null, { previous: false }]],
    ["list", [MICROVM, {}]],
    ["list", [undefined, {}]],
    ["get", [checkpointId]],
    ["delete", [checkpointId]],
    ["forkCheckpoint", [checkpointId, {}]],
    ["forkMicrovm", [MICROVM, {}]],
    ["rollback", [MICROVM, checkpointId]],
    ["lineage", [MICROVM]],
  ]);
  expect(new Set(calls.map(({ context }) => context.accountId))).toEqual(new Set(["111122223333"]));
});

test("answers are JSON as the protocol has it", async () => {
  const { send } = await startApi();
  const made = await send(post(`${AT.microvm}/checkpoints`, '{"name":"before"}'));
  expect(made.headers.get("content-type")).toMatch(/^application\/json/);
  expect(await made.json()).toEqual(CHECKPOINT);
  const listed = await send({ method: "GET", path: `${AT.microvm}/checkpoints`, query: { maxResults: "1" } });
  expect(await listed.json()).toEqual({ items: [CHECKPOINT], nextToken: "more" });
  expect(await (await send(post(`${AT.microvm}/fork`))).json()).toMatchObject({ items: [{ state: "RUNNING" }] });
  expect(await (await send({ method: "DELETE", path: AT.checkpoint })).json()).toEqual({});
});

test("a fork is told everything that the request has, and null means nothing", async () => {
  const { send, calls } = await startApi();
  const options = {
    count: 100,
    clientToken: "t",
    executionRoleArn: "arn:aws:iam::000000000000:role/run",
    idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 0, autoResumeEnabled: false },
    logging: { cloudWatch: { logGroup: "group" } },
    maximumDurationInSeconds: 28_800,
    runHookPayload: "x".repeat(4096),
  };
  await send(post(`${AT.checkpoint}/fork`, JSON.stringify(options)));
  await send(post(`${AT.microvm}/fork`, '{"count":null,"logging":null}'));
  expect(calls.map(({ input }) => input)).toEqual([
    [checkpointId, options],
    [MICROVM, { count: null, logging: null }],
  ]);
});

describe("refused with a message that says what is wrong", () => {
  test.each([
    ["fork", '{"count":0}', "count: expected a whole number from 1 to 100, got 0"],
    ["fork", '{"count":101}', "count: expected a whole number from 1 to 100, got 101"],
    ["fork", '{"count":1.5}', "count: expected a whole number from 1 to 100, got 1.5"],
    ["fork", '{"count":"2"}', 'count: expected a whole number from 1 to 100, got "2"'],
    ["fork", '{"cuont":2}', 'Unrecognized key: "cuont"'],
    ["fork", '{"__proto__":{"count":2}}', 'Unrecognized key: "__proto__"'],
    ["fork", '{"clientToken":""}', "clientToken: expected a token of 1 to 128 characters"],
    ["fork", '{"maximumDurationInSeconds":31622401}', "from 1 to 31622400, got 31622401"],
    ["fork", '{"executionRoleArn":"arn:aws:iam::1:user/x"}', "executionRoleArn: expected the ARN of a role"],
    ["fork", '{"idlePolicy":{"maxIdleDurationSeconds":59}}', "idlePolicy.maxIdleDurationSeconds: expected a whole"],
    ["fork", '{"idlePolicy":true}', "idlePolicy: "],
    ["fork", '{"logging":{"cloudWatch":{"logGroup":"a b"}}}', "logging.cloudWatch.logGroup: expected the name"],
    ["fork", '{"runHookPayload":"a\\u0000b"}', "runHookPayload: holds NUL"],
    ["fork", '{"runHookPayload":"\\ud800"}', "runHookPayload: holds NUL or half of a surrogate pair"],
    ["fork", "[]", "expected object"],
    ["checkpoints", '{"name":"with space"}', "name: expected 1 to 64 letters, digits, hyphens and underscores"],
    ["checkpoints", '{"name":""}', "name: expected 1 to 64"],
    ["checkpoints", `{"name":"${"x".repeat(65)}"}`, "name: expected 1 to 64"],
    ["checkpoints", '{"name":7}', "name: expected a text"],
    ["rollback", "{}", "checkpointId: expected a checkpoint's id"],
    ["rollback", '{"checkpointId":"latest"}', "checkpointId: expected checkpoint- and a UUID in lower case"],
  ])("%s with %s", async (what, body, message) => {
    const { send, calls } = await startApi();
    const response = await send(post(`${AT.microvm}/${what}`, body));
    expect([response.status, response.headers.get("x-amzn-errortype")]).toEqual([400, "ValidationException"]);
    expect(await response.json()).toEqual({ message: expect.stringContaining(message) });
    expect(calls).toEqual([]);
  });

  test("a payload, which is a secret, without repeating it", async () => {
    const { send } = await startApi();
    const response = await send(post(`${AT.microvm}/fork`, JSON.stringify({ runHookPayload: "s3cret".repeat(1000) })));
    expect(await response.json()).toEqual({ message: "runHookPayload: expected a text of 0 to 4096 characters" });
  });

  test.each([
    ["that is not JSON", "{'name':1}", 400, "SerializationException"],
    ["with a member twice", '{"name":"a","name":"b"}', 400, "SerializationException"],
    ["that is larger than any", `{"name":"${"x".repeat(2_000_000)}"}`, 413, "RequestEntityTooLargeException"],
  ])("a body %s", async (_, body, status, type) => {
    const { send, calls } = await startApi();
    const response = await send(post(`${AT.microvm}/checkpoints`, body));
    expect([response.status, response.headers.get("x-amzn-errortype")]).toEqual([status, type]);
    expect(calls).toEqual([]);
  });

  test("a body of another content type", async () => {
    const { send } = await startApi();
    const response = await send(post(`${AT.microvm}/fork`, "{}", { "content-type": "text/plain" }));
    expect([response.status, response.headers.get("x-amzn-errortype")]).toEqual([415, "UnsupportedMediaTypeException"]);
  });

  test.each([
    { method: "GET", path: "/torpor/v1/checkpoints/checkpoint-1" },
    { method: "DELETE", path: `/torpor/v1/checkpoints/${MICROVM}` },
    post("/torpor/v1/checkpoints/x/fork"),
    post("/torpor/v1/microvms/x/fork"),
    { method: "GET", path: "/torpor/v1/checkpoints", query: { maxResults: "51" } },
    { method: "GET", path: "/torpor/v1/checkpoints", query: { maxResults: ["1", "2"] } },
    { method: "GET", path: `${AT.microvm}/checkpoints`, query: { maxResults: "0" } },
  ])("$method $path with ids and parameters that are none", async (request) => {
    const { send, calls } = await startApi();
    const response = await send(request);
    expect([response.status, response.headers.get("x-amzn-errortype")]).toEqual([400, "ValidationException"]);
    expect(calls).toEqual([]);
  });
});
