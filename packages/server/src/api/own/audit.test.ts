import type { AuditEvent } from "@torpor/protocol";
import { describe, expect, test } from "vitest";
import { AuditTrail } from "../../control/audit/trail.ts";
import { ACCOUNT, BASE_IMAGE, World } from "../../control/testing/world.ts";
import { TorporError } from "../../lib/errors.ts";
import { createLog } from "../../lib/log.ts";
import { temporaryFolder } from "../../store/testing.ts";
import { startApi } from "../api.fixture.ts";
import { EVERY_OPERATION, type Named } from "../every-operation.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";

const NAMED: Named = {
  imageArn: `arn:aws:lambda:us-east-1:${KEY.accountId}:microvm-image:demo-app`,
  microvmId: "microvm-3f0c2b7e-8a41-3d5c-9e77-1b2c3d4e5f60",
  checkpointId: "checkpoint-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60",
  accessKeyId: "AKIASUBJECTSUBJECTSU",
  accountId: KEY.accountId,
  connectorId: "nc-1",
  buildId: "b",
};
const done = async () => ({}) as never;
const EXTENSIONS = {
  keys: { create: done, list: done, update: done, rotate: done, delete: done, policy: done, putPolicy: done },
  accounts: { create: done, list: done, update: done },
  audit: { list: async function* () {} },
};

function collecting() {
  const events: AuditEvent[] = [];
  return { events, audit: { ready: async () => {}, append: async (event: AuditEvent) => void events.push(event) } };
}

test.each(EVERY_OPERATION.map((operation) => [operation.action, operation] as const))(
  "%s is written down if it changes something, and only then",
  async (action, operation) => {
    const { events, audit } = collecting();
    const api = await startApi({ audit, extensions: EXTENSIONS });
    const response = await api.send(operation.request(NAMED));
    await response.text();
    const { status } = response;
    const requestId = response.headers.get("x-amzn-requestid");
    const { accountId, accessKeyId, name: keyName } = KEY;
    expect(events).toEqual(
      operation.method === "GET"
        ? []
        : [
            {
              time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
              ...{ accountId, accessKeyId, keyName, sourceIp: "127.0.0.1", operation: action, resource: "*" },
              target: expect.toSatisfy((target) => target === null || typeof target === "string"),
              ...{ requestId, status, error: null },
            },
          ],
    );
  },
);

async function whole() {
  const folder = await temporaryFolder();
  const trail = await AuditTrail.open({ folder, maxFileBytes: 1 << 20, maxFiles: 2, log: createLog("silent") });
  const world = await World.create({ trail });
  const api = await startApi({ control: world.control, audit: trail, clock: world.clock });
  const key = await world.control.keys.rootKey(ACCOUNT);
  const send = async (method: string, path: string, body?: object) => {
    const headers = { "content-type": "application/json" };
    const sent = body === undefined ? { method, path } : { method, path, headers, body: JSON.stringify(body) };
    const response = await api.send(sent, { key });
    return { status: response.status, text: await response.text() };
  };
  const events = async (query = ""): Promise<AuditEvent[]> => {
    const [path = "", parameters] = `/torpor/v1/audit${query}`.split("?");
    const response = await api.send(
      { method: "GET", path, query: Object.fromEntries(new URLSearchParams(parameters)) },
      { key },
    );
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/x-ndjson"]);
    return (await response.text()).split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line)]));
  };
  return { world, trail, api, key, send, events };
}

describe("the trail", () => {
  test("tells what was named and made, and how it ended, but no payloads and no secrets", async () => {
    const { world, send, events } = await whole();
    const image = await world.image("demo");
    const run = await send("POST", "/2025-09-09/microvms", { imageIdentifier: image });
    const { microvmId } = JSON.parse(run.text);
    await world.settled();
    await send("POST", `/2025-09-09/microvms/${microvmId}/auth-token`, {
      expirationInMinutes: 5,
      allowedPorts: [{ port: 8080 }],
    });
    const made = await send("POST", `/torpor/v1/microvms/${microvmId}/checkpoints`, { name: "one" });
    const { checkpointId } = JSON.parse(made.text);
    const forked = JSON.parse((await send("POST", `/torpor/v1/checkpoints/${checkpointId}/fork`, { count: 2 })).text);
    await send("POST", "/2025-09-09/microvms", { imageIdentifier: image, runHookPayload: "hush-hush" });
    await send("DELETE", "/2025-09-09/microvms/microvm-aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa");
    await send("POST", "/2025-09-09/microvms", { imageIdentifier: 7, clientToken: "hush-hush" });
    await send("POST", "/2025-09-09/microvm-images", {
      name: "made",
      baseImageArn: BASE_IMAGE,
      buildRoleArn: "arn:aws:iam::999999999999:role/build",
      codeArtifact: { uri: "s3://bucket/app.zip" },
      environmentVariables: { TOKEN: "hush-hush" },
    });
    const key = JSON.parse((await send("POST", "/torpor/v1/keys", { name: "ci" })).text);
    await send("GET", `/2025-09-09/microvms/${microvmId}`);

    const found = await events();
    const forkIds = forked.items.map((fork: { microvmId: string }) => fork.microvmId);
    expect(found.map((e) => [e.operation, e.resource, e.target, e.status, e.error])).toEqual([
      ["lambda:RunMicrovm", image, `${microvmId} 1.0`, 200, null],
      ["lambda:CreateMicrovmAuthToken", image, microvmId, 200, null],
      ["torpor:CreateCheckpoint", image, `${microvmId} ${checkpointId} 1.0`, 201, null],
      ["torpor:ForkCheckpoint", image, `${checkpointId} ${microvmId} ${forkIds.join(" ")}`, 200, null],
      ["lambda:RunMicrovm", image, null, 400, "ValidationException"],
      [
        "lambda:TerminateMicrovm",
        "*",
        "microvm-aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
        404,
        "ResourceNotFoundException",
      ],
      ["lambda:RunMicrovm", null, null, 400, "SerializationException"],
      ["lambda:CreateMicrovmImage", "arn:aws:iam::999999999999:role/build", null, 403, "AccessDeniedException"],
      ["torpor:CreateAccessKey", `arn:aws:iam::${ACCOUNT}:user/ci`, key.accessKeyId, 201, null],
    ]);
    const text = JSON.stringify(found);
    expect(text).not.toContain("hush-hush");
    expect(text).not.toContain(key.secretAccessKey);
    expect(text).not.toContain("token-1");
    expect(await events("?outcome=failure&operation=lambda:run*")).toEqual([found[4], found[6]]);
  });

  test("is each account's own; the server's account sees all", async () => {
    const { world, api, send, events } = await whole();
    const { rootKey } = JSON.parse((await send("POST", "/torpor/v1/accounts", { accountId: "111111111111" })).text);
    const stranger = { ...rootKey, access: "full" as const };
    await api.send({ method: "DELETE", path: "/2025-09-09/microvms/microvm-x" }, { key: stranger });
    expect((await events("?accountId=111111111111")).map((e) => e.operation)).toEqual(["lambda:TerminateMicrovm"]);
    expect((await events()).map((e) => e.operation)).toEqual(["torpor:CreateAccount"]);
    expect((await events("?accountId=*")).length).toBe(2);
    const own = await api.send({ method: "GET", path: "/torpor/v1/audit" }, { key: stranger });
    expect((await own.text()).split("\n").filter((line) => line !== "").length).toBe(1);
    for (const accountId of [ACCOUNT, "*"]) {
      const refused = await api.send(
        { method: "GET", path: "/torpor/v1/audit", query: { accountId } },
        { key: stranger },
      );
      expect(refused.status).toBe(403);
      await refused.text();
    }
    expect((await world.store.accounts.all()).length).toBe(2);
  });

  test("is followed", async () => {
    const { world, api, key, send } = await whole();
    const response = await api.send({ method: "GET", path: "/torpor/v1/audit", query: { follow: "true" } }, { key });
    const lines = response.body!.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
    for (const name of ["a", "b"]) {
      await send("POST", "/torpor/v1/keys", { name });
      expect(JSON.parse((await lines.next()).value ?? "").resource).toBe(`arn:aws:iam::${ACCOUNT}:user/${name}`);
    }
    await lines.return?.();
    expect((await world.store.accessKeys.ofAccount(ACCOUNT)).length).toBe(3);
  });

  test.each([
    ["since=yesterday", /since: expected a time such as/],
    ["outcome=a b", /outcome: expected success, failure/],
    ["operation=%00", /operation: expected an operation/],
    ["accountId=1", /accountId: expected twelve digits/],
    ["follow=yes", /follow: expected true or false/],
  ])("is not read with %s", async (query, message) => {
    const { api, key } = await whole();
    const parameters = Object.fromEntries(new URLSearchParams(query));
    const response = await api.send({ method: "GET", path: "/torpor/v1/audit", query: parameters }, { key });
    expect(response.status).toBe(400);
    expect(await response.text()).toMatch(message);
  });
});

describe("while the trail cannot be written", () => {
  const full = () => {
    throw new TorporError("unavailable", "The audit trail cannot be written.", { retryAfterSeconds: 30 });
  };

  test("nothing is begun that changes something; reading goes on", async () => {
    const api = await startApi({
      audit: { ready: async () => full(), append: async () => full() },
      extensions: EXTENSIONS,
    });
    for (const operation of EVERY_OPERATION) {
      const before = api.calls.length;
      const response = await api.send(operation.request(NAMED));
      await response.text();
      if (operation.method === "GET") expect(response.status).toBe(200);
      else {
        expect([response.status, response.headers.get("retry-after"), api.calls.length]).toEqual([503, "30", before]);
        expect(response.headers.get("x-amzn-errortype")).toBe("ServiceUnavailableException");
      }
    }
  });

  test("what was done is not said to have been", async () => {
    const api = await startApi({ audit: { ready: async () => {}, append: async () => full() } });
    const run = EVERY_OPERATION.find(({ action }) => action === "lambda:RunMicrovm")!;
    const response = await api.send(run.request(NAMED));
    expect([response.status, api.calls.map(({ name }) => name)]).toEqual([503, ["RunMicrovm"]]);
    expect(await response.text()).not.toContain("microvmId");
  });
});

test("the answer waits for its line", async () => {
  const written = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const audit = {
    ready: async () => {},
    append: async () => {
      asked.resolve();
      await written.promise;
    },
  };
  const api = await startApi({ audit });
  const run = EVERY_OPERATION.find(({ action }) => action === "lambda:RunMicrovm")!;
  let answered = false;
  const answer = api.send(run.request(NAMED)).then(async (response) => {
    answered = true;
    return [response.status, await response.text()] as const;
  });
  await asked.promise;
  await new Promise((resolve) => setImmediate(resolve));
  expect(answered).toBe(false);
  written.resolve();
  expect((await answer)[0]).toBe(200);
});

test("who cannot prove who they are leaves no line", async () => {
  const { events, audit } = collecting();
  const api = await startApi({ audit });
  const response = await api.send(
    { method: "DELETE", path: `/2025-09-09/microvms/${NAMED.microvmId}` },
    { key: { ...KEY, secretAccessKey: "another" } },
  );
  expect([response.status, await response.text()]).toEqual([403, expect.stringContaining("signature")]);
  expect(events).toEqual([]);
});
