import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Answer, listen, torpor } from "./torpor.ts";

const ROOT = "AKIAROOTROOTROOTROOT";
const CI = "AKIACICICICICICICICI";
const key = (accessKeyId: string, name: string, more: Readonly<Record<string, unknown>> = {}) => ({
  accessKeyId,
  accountId: "000000000000",
  name,
  principalArn: `arn:aws:iam::000000000000:${name === "root" ? name : `user/${name}`}`,
  status: "ACTIVE",
  access: name === "root" ? "full" : "policy",
  createdAt: new Date(Date.now() - 300_000).toISOString(),
  expiresAt: null,
  lastUsedAt: null,
  ...more,
});
const KEYS = { items: [key(ROOT, "root"), key(CI, "ci")] };
const POLICY = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "lambda:Get*", Resource: "*" }] };

/** A server with two keys; what else it is asked for, `more` answers. */
async function server(more: Answer = () => ({})) {
  const bodies: unknown[] = [];
  const listening = await listen((request, response) => {
    if (request.body !== "") bodies.push(JSON.parse(request.body));
    if (request.method === "GET" && request.path.startsWith("/torpor/v1/keys?")) return KEYS;
    return request.method === "GET" && request.path === "/torpor/v1/keys" ? KEYS : more(request, response);
  });
  return Object.assign(listening, { bodies });
}

async function file(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "torpor-cli-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "policy.json"), text);
  return join(folder, "policy.json");
}

describe("key", () => {
  test("create prints what a shell takes over, and says that it is the only time", async () => {
    await using torporServer = await server(() => key(CI, "ci", { secretAccessKey: "a/b+c's" }));
    const { env, asked, bodies } = torporServer;
    const before = Date.now();
    const args = ["key", "create", "ci", "--policy", await file(JSON.stringify(POLICY)), "--expires", "12h"];
    const ran = await torpor(args, env);
    expect(ran).toMatchObject({ code: 0, stderr: "the secret is not shown again\n" });
    expect(ran.stdout).toBe(
      `export AWS_ACCESS_KEY_ID=${CI}\nexport AWS_SECRET_ACCESS_KEY='a/b+c'\\''s'\nexport AWS_ACCOUNT_ID=000000000000\n`,
    );
    expect(asked).toEqual(["POST /torpor/v1/keys"]);
    const [{ expiresAt, ...rest }] = bodies as [{ expiresAt: string }];
    expect(rest).toEqual({ name: "ci", policy: POLICY });
    expect(Date.parse(expiresAt) - before).toBeGreaterThanOrEqual(12 * 3_600_000);
  });

  test("ls shows whom they are for and what they may, never a secret", async () => {
    await using torporServer = await server();
    const ran = await torpor(["key", "ls", "--account", "111111111111"], torporServer.env);
    expect(ran.stdout.split("\n").map((line) => line.split(/ {2,}/))).toEqual([
      ["KEY", "NAME", "STATUS", "MAY", "CREATED", "LAST USED", "EXPIRES"],
      [ROOT, "root", "ACTIVE", "everything", "5 min ago", "never", "never"],
      [CI, "ci", "ACTIVE", "its policy", "5 min ago", "never", "never"],
      [""],
    ]);
    expect(torporServer.asked).toEqual(["GET /torpor/v1/keys?accountId=111111111111"]);
  });

  test("rotate is for the root key unless another one is named", async () => {
    await using torporServer = await server(() => key("AKIANEW", "root", { secretAccessKey: "s" }));
    const ran = await torpor(["key", "rotate"], torporServer.env);
    expect(ran.stderr).toContain(`${ROOT} is still valid: torpor key rm ${ROOT}`);
    await torpor(["key", "rotate", "ci"], torporServer.env);
    expect(torporServer.asked.filter((line) => line.startsWith("POST"))).toEqual([
      `POST /torpor/v1/keys/${ROOT}/rotate`,
      `POST /torpor/v1/keys/${CI}/rotate`,
    ]);
  });

  test("policy is shown, set and removed", async () => {
    await using torporServer = await server(({ method }) => (method === "GET" ? { policy: POLICY } : {}));
    const { env, asked, bodies } = torporServer;
    expect(JSON.parse((await torpor(["key", "policy", "ci"], env)).stdout)).toEqual(POLICY);
    await torpor(["key", "policy", CI, "-"], env, JSON.stringify(POLICY));
    const removed = await torpor(["key", "policy", "ci", "--remove"], env);
    expect(removed.stdout).toBe("ci may do everything in its account\n");
    expect(asked.filter((line) => line.includes("policy"))).toEqual([
      `GET /torpor/v1/keys/${CI}/policy`,
      `PUT /torpor/v1/keys/${CI}/policy`,
      `DELETE /torpor/v1/keys/${CI}/policy`,
    ]);
    expect(bodies).toEqual([POLICY]);
  });

  test("expire, disable, enable and rm change the key that is meant", async () => {
    await using torporServer = await server(() => key(CI, "ci", { status: "DISABLED" }));
    const { env, asked, bodies } = torporServer;
    await torpor(["key", "expire", "ci", "2099-01-31"], env);
    await torpor(["key", "expire", "ci", "never"], env);
    expect((await torpor(["key", "disable", "ci"], env)).stdout).toBe(`${CI} (ci) DISABLED\n`);
    await torpor(["key", "enable", "ci"], env);
    expect((await torpor(["key", "rm", "ci", ROOT], env)).stdout).toBe(`${CI} (ci) deleted\n${ROOT} (root) deleted\n`);
    expect(bodies).toEqual([
      { expiresAt: "2099-01-31T00:00:00.000Z" },
      { expiresAt: null },
      { enabled: false },
      { enabled: true },
    ]);
    expect(asked.filter((line) => !line.startsWith("GET"))).toEqual([
      ...Array(4).fill(`PATCH /torpor/v1/keys/${CI}`),
      `DELETE /torpor/v1/keys/${CI}`,
      `DELETE /torpor/v1/keys/${ROOT}`,
    ]);
  });

  test("what cannot be meant is said, and nothing is sent", async () => {
    await using torporServer = await server();
    const { env, asked } = torporServer;
    const cases: readonly [args: string[], code: number, message: RegExp][] = [
      [["key", "rm", "nobody"], 1, /there is no key nobody\ntry: torpor key ls/],
      [["key", "create", "x", "--expires", "soon"], 2, /expected a date such as/],
      [["key", "create", "x", "--policy", await file("{")], 2, /policy.json is not JSON/],
      [["key", "policy", "ci", await file("{}"), "--remove"], 2, /cannot be given together/],
    ];
    for (const [args, code, message] of cases) {
      const ran = await torpor(args, env);
      expect([ran.code, ran.stderr], args.join(" ")).toEqual([code, expect.stringMatching(message)]);
    }
    expect(asked.filter((line) => !line.startsWith("GET"))).toEqual([]);
  });
});

test("account makes, lists and disables accounts", async () => {
  const account = { accountId: "111111111111", name: "b", enabled: true, server: false, createdAt: "2027" };
  await using torporServer = await server(({ method }) =>
    method === "POST"
      ? { ...account, rootKey: { ...key("AKIAB", "root"), accountId: "111111111111", secretAccessKey: "s" } }
      : method === "PATCH"
        ? { ...account, enabled: false }
        : { items: [account] },
  );
  const { env, asked, bodies } = torporServer;
  const made = await torpor(["account", "create", "111111111111", "--name", "b"], env);
  expect(made.stdout).toBe(
    "export AWS_ACCESS_KEY_ID=AKIAB\nexport AWS_SECRET_ACCESS_KEY=s\nexport AWS_ACCOUNT_ID=111111111111\n",
  );
  expect((await torpor(["account", "ls"], env)).stdout).toMatch(/111111111111 +b +enabled +2027/);
  expect((await torpor(["account", "disable", "111111111111"], env)).stdout).toBe("111111111111 disabled\n");
  expect((await torpor(["account", "disable", "b"], env)).code).toBe(2);
  expect(asked).toEqual([
    "POST /torpor/v1/accounts",
    "GET /torpor/v1/accounts",
    "PATCH /torpor/v1/accounts/111111111111",
  ]);
  expect(bodies).toEqual([{ accountId: "111111111111", name: "b" }, { enabled: false }]);
});

describe("audit", () => {
  const event = {
    time: "2027-01-01T00:00:00.000Z",
    accountId: "000000000000",
    accessKeyId: CI,
    keyName: "ci",
    sourceIp: "127.0.0.1",
    operation: "lambda:TerminateMicrovm",
    resource: "*",
    target: "microvm-\u001b[31m",
    requestId: "r",
    status: 404,
    error: "ResourceNotFoundException",
  };

  test("shows lines for people, safe on a terminal, and the lines themselves for programs", async () => {
    await using torporServer = await listen((_, response) => response.end(`${JSON.stringify(event)}\n`));
    const { stdout } = await torpor(["audit"], torporServer.env);
    expect(stdout).toBe(
      `2027-01-01T00:00:00.000Z  lambda:TerminateMicrovm  404 ResourceNotFoundException  microvm-\\u001b[31m  000000000000/ci (${CI}) from 127.0.0.1\n`,
    );
    expect(JSON.parse((await torpor(["audit", "--json"], torporServer.env)).stdout)).toEqual(event);
  });

  test("asks for what the flags say", async () => {
    await using torporServer = await listen((_, response) => response.end());
    const flags = ["--account", "all", "--operation", "s3:*", "--outcome", "failure", "-f", "--since", "2027-01-01"];
    expect((await torpor(["audit", ...flags], torporServer.env)).code).toBe(0);
    expect(torporServer.asked).toEqual([
      "GET /torpor/v1/audit?accountId=*&operation=s3:*&outcome=failure&since=2027-01-01T00:00:00.000Z&follow=true",
    ]);
    expect((await torpor(["audit", "--account", "some"], torporServer.env)).code).toBe(2);
  });
});
