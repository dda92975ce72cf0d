import { describe, expect, test } from "vitest";
import { parsePolicy } from "../../control/identity/policy.ts";
import type { AccessKey } from "../../control/request-context.ts";
import { startApi, type TestApi } from "../api.fixture.ts";
import { KEY, presigned, signed } from "../sigv4/signer.fixture.ts";

const QUESTION = "Action=GetCallerIdentity&Version=2011-06-15";
const FORM = { "content-type": "application/x-www-form-urlencoded; charset=utf-8" };

/** As SDKs send it. */
async function ask(
  api: TestApi,
  body = QUESTION,
  options: Parameters<typeof signed>[3] = {},
  service: "sts" | "lambda" = "sts",
) {
  const headers = { host: `127.0.0.1:${api.port}`, ...FORM };
  const out = await signed({ method: "POST", path: "/", headers, body }, service, Date.now(), options);
  const { host: _host, ...sent } = out.headers as Record<string, string>;
  return await answerOf(await fetch(api.url, { method: "POST", headers: sent, body }));
}

async function answerOf(response: Response) {
  const text = await response.text();
  const element = (name: string): string | undefined => new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1];
  return {
    status: response.status,
    type: response.headers.get("content-type"),
    text,
    element,
    requestId: response.headers.get("x-amzn-requestid"),
  };
}

test("the caller is told who it is", async () => {
  const api = await startApi();
  const { status, type, text, requestId } = await ask(api);
  expect([status, type]).toEqual([200, "text/xml"]);
  expect(text.replace(/^<\?xml.*\n/, "")).toBe(
    `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>${KEY.principalArn}</Arn><UserId>${KEY.accountId}</UserId><Account>${KEY.accountId}</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>${requestId}</RequestId></ResponseMetadata></GetCallerIdentityResponse>`,
  );
});

test("in the query too, signed in the header or presigned", async () => {
  const api = await startApi();
  const query = { Action: "GetCallerIdentity", Version: "2011-06-15" };
  const request = { method: "GET", path: "/", query, headers: { host: `127.0.0.1:${api.port}` } };
  const out = await signed(request, "sts", Date.now());
  const { host: _host, ...headers } = out.headers as Record<string, string>;
  expect((await answerOf(await fetch(api.url + out.url, { headers }))).element("Account")).toBe(KEY.accountId);
  const { url } = await presigned(request, "sts", Date.now());
  expect((await answerOf(await fetch(api.url + url))).element("Account")).toBe(KEY.accountId);
});

test("whatever the region, and whatever the policy", async () => {
  const denied = parsePolicy({ Version: "2012-10-17", Statement: { Effect: "Deny", Action: "*", Resource: "*" } });
  const key: AccessKey = { ...KEY, name: "ci", principalArn: `arn:aws:iam::${KEY.accountId}:user/ci`, access: denied };
  const api = await startApi({ keys: { find: async () => key, used: () => {} } });
  const first = await ask(api, QUESTION, { region: "eu-central-1" });
  expect(first.element("Arn")).toBe(key.principalArn);
  expect(first.element("UserId")).toMatch(/^AIDA[A-Z2-7]{17}$/);
  expect((await ask(api)).element("UserId")).toBe(first.element("UserId"));
});

describe("it is refused", () => {
  const cases: readonly [what: string, status: number, code: string, make: (api: TestApi) => ReturnType<typeof ask>][] =
    [
      ["another action", 400, "InvalidAction", (api) => ask(api, "Action=AssumeRole&Version=2011-06-15")],
      ["another version", 400, "InvalidAction", (api) => ask(api, "Action=GetCallerIdentity&Version=2020-01-01")],
      ["no action", 400, "MissingAction", (api) => ask(api, "")],
      [
        "a wrong secret",
        403,
        "SignatureDoesNotMatch",
        (api) => ask(api, QUESTION, { key: { ...KEY, secretAccessKey: "x" } }),
      ],
      [
        "an unknown key",
        403,
        "InvalidClientTokenId",
        (api) => ask(api, QUESTION, { key: { ...KEY, accessKeyId: "AKIAUNKNOWN" } }),
      ],
      ["too large a body", 413, "RequestEntityTooLarge", (api) => ask(api, `${QUESTION}&x=${"y".repeat(1_100_000)}`)],
    ];
  test.each(cases)("with %s", async (_what, status, code, make) => {
    const answer = await make(await startApi());
    expect([answer.status, answer.type, answer.element("Code"), answer.element("Type")]).toEqual([
      status,
      "text/xml",
      code,
      "Sender",
    ]);
    expect(answer.element("RequestId")).toBe(answer.requestId);
  });

  test("with another body than the one that was signed", async () => {
    const api = await startApi();
    const headers = { host: `127.0.0.1:${api.port}`, ...FORM };
    const out = await signed({ method: "POST", path: "/", headers, body: QUESTION }, "sts", Date.now());
    const { host: _host, ...sent } = out.headers as Record<string, string>;
    const answer = await answerOf(await fetch(api.url, { method: "POST", headers: sent, body: `${QUESTION}&x=1` }));
    expect([answer.status, answer.element("Code")]).toEqual([403, "SignatureDoesNotMatch"]);
  });

  test("when it has expired, which only who has the secret learns", async () => {
    const key: AccessKey = { ...KEY, expiresAt: new Date(Date.now() - 1) };
    const api = await startApi({ keys: { find: async () => key, used: () => {} } });
    expect((await ask(api)).element("Code")).toBe("ExpiredToken");
    expect((await ask(api, QUESTION, { key: { ...KEY, secretAccessKey: "x" } })).element("Code")).toBe(
      "SignatureDoesNotMatch",
    );
    const other = await api.send({ method: "GET", path: "/2025-09-09/microvms" });
    expect([other.status, other.headers.get("x-amzn-errortype"), await other.json()]).toEqual([
      403,
      "ExpiredTokenException",
      { message: "The security token included in the request is expired" },
    ]);
  });

  test("with what it says spelled out safely", async () => {
    const answer = await ask(await startApi(), `Action=${encodeURIComponent("<b>\u0000\n&")}&Version=1`);
    expect(answer.element("Message")).toBe("Could not find operation &lt;b&gt;??&amp; for version 1");
  });
});

test("a request that is signed for Lambda is none for STS", async () => {
  const api = await startApi();
  const { status, text } = await ask(api, QUESTION, {}, "lambda");
  expect([status, JSON.parse(text)]).toEqual([404, { message: "There is no operation POST / here." }]);
});
