import { describe, expect, test } from "vitest";
import { TorporClient } from "../../src/index.ts";
import { KEY, listen, type Seen, signatureIsRight } from "./server.ts";

const ACCESS_KEY = {
  accessKeyId: "AKIACICICICICICICICI",
  accountId: "000000000000",
  name: "ci",
  principalArn: "arn:aws:iam::000000000000:user/ci",
  status: "ACTIVE",
  access: "policy",
  createdAt: "2027-01-01T00:00:00.000Z",
  expiresAt: null,
  lastUsedAt: null,
};
const ACCOUNT = { accountId: "111111111111", name: null, enabled: true, server: false, createdAt: "2027" };
const EVENT = {
  time: "2027-01-01T00:00:00.000Z",
  accountId: "000000000000",
  accessKeyId: "AKIACI",
  keyName: "ci",
  sourceIp: "127.0.0.1",
  operation: "lambda:RunMicrovm",
  resource: null,
  target: null,
  requestId: "r",
  status: 200,
  error: null,
};
const admin = (endpointUrl: string) => new TorporClient({ endpointUrl, region: "eu-test-1", credentials: KEY }).admin;

test("keys and policies are looked after, signed", async () => {
  await using server = await listen(({ method, url }, response) => {
    const policy = url.endsWith("/policy") ? { policy: { Version: "x" } } : undefined;
    const list = method === "GET" && !policy ? { items: [ACCESS_KEY] } : undefined;
    response.end(JSON.stringify(policy ?? list ?? { ...ACCESS_KEY, secretAccessKey: "s" }));
  });
  const torpor = admin(server.url);
  const { accessKeyId } = ACCESS_KEY;
  expect(await torpor.createKey({ name: "ci", expiresAt: new Date(0) })).toEqual({
    ...ACCESS_KEY,
    secretAccessKey: "s",
  });
  expect(await torpor.keys({ accountId: "111111111111" })).toEqual([ACCESS_KEY]);
  expect(await torpor.updateKey(accessKeyId, { enabled: false, expiresAt: null })).toEqual(ACCESS_KEY);
  expect((await torpor.rotateKey(accessKeyId)).secretAccessKey).toBe("s");
  expect(await torpor.policy(accessKeyId)).toEqual({ Version: "x" });
  await torpor.setPolicy(accessKeyId, { Version: "y" });
  await torpor.setPolicy(accessKeyId, null);
  await torpor.deleteKey(accessKeyId);
  expect(server.seen.map(({ method, url, body }) => `${method} ${url} ${body}`)).toEqual([
    'POST /torpor/v1/keys {"name":"ci","expiresAt":"1970-01-01T00:00:00.000Z"}',
    "GET /torpor/v1/keys?accountId=111111111111 ",
    `PATCH /torpor/v1/keys/${accessKeyId} {"enabled":false,"expiresAt":null}`,
    `POST /torpor/v1/keys/${accessKeyId}/rotate `,
    `GET /torpor/v1/keys/${accessKeyId}/policy `,
    `PUT /torpor/v1/keys/${accessKeyId}/policy {"Version":"y"}`,
    `DELETE /torpor/v1/keys/${accessKeyId}/policy `,
    `DELETE /torpor/v1/keys/${accessKeyId} `,
  ]);
  for (const seen of server.seen) expect(await signatureIsRight(seen as Seen, "lambda")).toBe(true);
});

test("accounts are made, listed and disabled", async () => {
  await using server = await listen(({ method }, response) =>
    response.end(
      JSON.stringify(
        method === "GET" ? { items: [ACCOUNT] } : { ...ACCOUNT, rootKey: { ...ACCESS_KEY, secretAccessKey: "s" } },
      ),
    ),
  );
  const torpor = admin(server.url);
  expect((await torpor.createAccount({ name: "b" })).rootKey.secretAccessKey).toBe("s");
  expect(await torpor.accounts()).toEqual([ACCOUNT]);
  expect(await torpor.setAccountEnabled("111111111111", false)).toEqual(ACCOUNT);
});

test("the trail is read line by line", async () => {
  await using server = await listen((_, response) =>
    response.end(`${JSON.stringify(EVENT)}\n${JSON.stringify(EVENT)}\n`),
  );
  const events = await Array.fromAsync(admin(server.url).audit({ accountId: "*", since: new Date(0), follow: true }));
  expect(events).toEqual([EVENT, EVENT]);
  expect(decodeURIComponent(server.seen[0]?.url ?? "")).toBe(
    "/torpor/v1/audit?accountId=*&since=1970-01-01T00:00:00.000Z&follow=true",
  );
});

describe("an answer that is something else", () => {
  test.each([
    ["a key", (url: string) => admin(url).rotateKey("AKIA")],
    ["keys", (url: string) => admin(url).keys()],
    ["an account", (url: string) => admin(url).setAccountEnabled("1", true)],
    ["a line", (url: string) => Array.fromAsync(admin(url).audit())],
  ])("than %s is refused", async (_what, ask) => {
    await using server = await listen((_, response) => response.end('{"status":7}'));
    await expect(ask(server.url)).rejects.toMatchObject({ type: "BadResponse" });
  });
});
