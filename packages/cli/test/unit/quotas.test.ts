import { expect, test } from "vitest";
import { listen, torpor } from "./torpor.ts";

const quota = (name: string, value: number | null, more: Readonly<Record<string, unknown>> = {}) => ({
  name,
  describe: "images that there are",
  unit: "images",
  scope: "account",
  code: null,
  adjustable: true,
  value,
  used: 3,
  source: "default",
  ...more,
});
const QUOTAS = {
  accountId: "000000000000",
  items: [quota("images", 100), quota("allocated-memory-mib", null, { used: null, source: "account" })],
};

test("quotas is a table, or one JSON document", async () => {
  await using server = await listen(() => QUOTAS);
  const ran = await torpor(["quotas"], server.env);
  expect(ran.stdout.split("\n").map((line) => line.split(/ {2,}/))).toEqual([
    ["QUOTA", "USED", "LIMIT", "SET BY", "WHAT IT BOUNDS"],
    ["images", "3", "100 images", "default", "images that there are"],
    ["allocated-memory-mib", "-", "unlimited", "account", "images that there are"],
    [""],
  ]);
  const json = await torpor(["quotas", "--account", "111122223333", "--json"], server.env);
  expect(JSON.parse(json.stdout)).toEqual(QUOTAS);
  expect(server.asked).toEqual(["GET /torpor/v1/quotas", "GET /torpor/v1/quotas?accountId=111122223333"]);
});

test("a quota is set for the key's own account or another one, and reset", async () => {
  const bodies: string[] = [];
  await using server = await listen(({ method, body }) => {
    if (method === "PUT") bodies.push(body);
    return method === "GET" ? QUOTAS : {};
  });
  expect(await torpor(["quotas", "set", "images", "7"], server.env)).toEqual({
    code: 0,
    stdout: "000000000000 images 7\n",
    stderr: "",
  });
  const other = ["quotas", "set", "images", "unlimited", "--account", "111122223333", "--json"];
  expect(JSON.parse((await torpor(other, server.env)).stdout)).toEqual({
    accountId: "111122223333",
    name: "images",
    value: null,
  });
  expect((await torpor(["quotas", "reset", "images"], server.env)).stdout).toBe("000000000000 images 100\n");
  expect(bodies).toEqual(['{"value":7}', '{"value":null}']);
  expect(server.asked).toEqual([
    "GET /torpor/v1/quotas",
    "PUT /torpor/v1/accounts/000000000000/quotas/images",
    "PUT /torpor/v1/accounts/111122223333/quotas/images",
    "GET /torpor/v1/quotas",
    "DELETE /torpor/v1/accounts/000000000000/quotas/images",
    "GET /torpor/v1/quotas?accountId=000000000000",
  ]);
});

test.each([
  [["quotas", "set", "pictures", "7"], "torpor quotas lists them"],
  [["quotas", "set", "images", "many"], "from 0 to"],
  [["quotas", "set", "auth-token-minutes", "unlimited"], "from 1 to 1440"],
])("%j cannot be right", async (args, message) => {
  await using server = await listen(() => QUOTAS);
  const ran = await torpor(args, server.env);
  expect([ran.code, server.asked]).toEqual([2, []]);
  expect(ran.stderr).toContain(message);
});

test("a refusal beyond a quota says where quotas are seen", async () => {
  await using server = await listen((_, response) => {
    response.writeHead(402, { "x-amzn-errortype": "ServiceQuotaExceededException" });
    response.end('{"message":"The base maximum allocated memory limit has been reached for this account."}');
  });
  const ran = await torpor(["run", "demo", "--no-wait"], server.env);
  expect(ran.code).toBe(1);
  expect(ran.stderr).toMatch(/maximum allocated memory limit .*\n.*try: torpor quotas/);
});
