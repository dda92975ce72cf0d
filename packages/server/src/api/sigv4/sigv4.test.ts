import { posix } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sha256Hex, verifyPayload } from "./payload.ts";
import { decodeBytes } from "./percent.ts";
import { SignatureError, type SignatureFailure } from "./signature-error.ts";
import { KEY, KEYS, presigned, signed, type ToSign } from "./signer.fixture.ts";
import { type AuthenticateOptions, authenticate, type SignedRequest, type SignedService } from "./sigv4.ts";

const NOW = Date.UTC(2026, 8, 15, 14, 30, 0);
const MINUTE = 60_000;
const options: AuthenticateOptions = { now: () => NOW };

const run: ToSign = {
  method: "POST",
  path: "/2025-09-09/microvms",
  headers: { "content-type": "application/json" },
  body: '{"imageIdentifier":"x"}',
};

async function refusal(request: SignedRequest, opts = options): Promise<SignatureError> {
  const outcome: unknown = await authenticate(request, KEYS, opts).catch((err: unknown) => err);
  if (!(outcome instanceof SignatureError)) throw new Error(`not refused: ${JSON.stringify(outcome)}`);
  return outcome;
}

function withHeader(request: SignedRequest, name: string, value: string | undefined): SignedRequest {
  const kept: string[] = [];
  for (let i = 0; i < request.rawHeaders.length; i += 2)
    if (request.rawHeaders[i]!.toLowerCase() !== name) kept.push(request.rawHeaders[i]!, request.rawHeaders[i + 1]!);
  return { ...request, rawHeaders: value === undefined ? kept : [...kept, name, value] };
}

function header(request: SignedRequest, name: string): string {
  return request.rawHeaders[request.rawHeaders.findIndex((text, i) => i % 2 === 0 && text === name) + 1]!;
}

const resigned = (request: SignedRequest, change: (authorization: string) => string): SignedRequest =>
  withHeader(request, "authorization", change(header(request, "authorization")));

describe("what the SDKs' signer signed", () => {
  const segment = fc.oneof(
    fc.string({ unit: "binary", maxLength: 12 }).map((text) => encode(text)),
    fc.constantFrom("arn%3Aaws%3Alambda%3Aus-east-1%3A111122223333%3Amicrovm-image%3Ademo", "a:b", "%2F", "%2e%2e"),
  );
  const path = fc.array(segment, { maxLength: 5 }).map((segments) => `/${segments.join("/")}`);
  const anyText = fc.string({ unit: "binary", maxLength: 12 });
  const query = fc.dictionary(
    anyText.filter((name) => name !== "" && name !== "__proto__" && !/^x-amz-/i.test(name)),
    fc.oneof(anyText, fc.array(anyText, { minLength: 1, maxLength: 3 })),
    { maxKeys: 4 },
  );
  const headerValue = fc.string({ maxLength: 20 }).map((text) => text.replace(/[^\t\x20-\x7e]/g, ""));
  const headers = fc.dictionary(
    fc.stringMatching(/^(x-[a-z0-9]{1,8}|x-amz-meta-[a-z]{1,4}|content-type|accept|range)$/),
    headerValue,
    { maxKeys: 4 },
  );
  const request = fc.record({
    method: fc.constantFrom("GET", "PUT", "POST", "DELETE", "PATCH"),
    path,
    query,
    headers,
    body: fc.string({ maxLength: 30 }),
  });
  const service = fc.constantFrom<SignedService>("lambda", "s3");

  test("is accepted, whatever path, query and headers it has", async () => {
    await fc.assert(
      fc.asyncProperty(request, service, fc.boolean(), async (toSign, svc, applyChecksum) => {
        const received = await signed(toSign, svc, NOW, { applyChecksum: applyChecksum || svc === "s3" });
        const result = await authenticate(received, KEYS, options);
        expect(result.key).toBe(KEY);
        expect(result.service).toBe(svc);
        expect(result.payloadHash).toBe(received.bodySha256);
      }),
      { numRuns: 1500 },
    );
  });

  test("is accepted when presigned", async () => {
    await fc.assert(
      fc.asyncProperty(request, service, async (toSign, svc) => {
        const body = svc === "s3" ? { "x-amz-content-sha256": "UNSIGNED-PAYLOAD" } : {};
        const received = await presigned({ ...toSign, headers: { ...toSign.headers, ...body } }, svc, NOW);
        const result = await authenticate(received, KEYS, options);
        expect(result.scope).toBe(`20260915/us-east-1/${svc}/aws4_request`);
      }),
      { numRuns: 1000 },
    );
  });

  test("is refused after any bit of it was flipped", async () => {
    await fc.assert(
      fc.asyncProperty(request, service, fc.nat(), fc.nat(7), async (toSign, svc, where, bit) => {
        const received = await signed(toSign, svc, NOW);
        const flipped = flip(received, where, bit);
        fc.pre(meaning(flipped, svc) !== meaning(received, svc));
        await expect(authenticate(flipped, KEYS, options)).rejects.toThrow(SignatureError);
      }),
      { numRuns: 2000 },
    );
  });

  test("is refused when presigned and any bit of the URL was flipped", async () => {
    await fc.assert(
      fc.asyncProperty(request, service, fc.nat(), fc.nat(7), async (toSign, svc, where, bit) => {
        const received = await presigned(toSign, svc, NOW);
        const flipped = { ...received, url: flipText(received.url, where, bit) };
        fc.pre(meaning(flipped, svc) !== meaning(received, svc));
        await expect(authenticate(flipped, KEYS, options)).rejects.toThrow(SignatureError);
      }),
      { numRuns: 1000 },
    );
  });

  test("does not depend on the order of the query", async () => {
    const received = await signed({ method: "GET", path: "/x", query: { b: ["2", "1"], a: "3" } }, "lambda", NOW);
    expect(received.url).toBe("/x?b=2&b=1&a=3");
    await authenticate({ ...received, url: "/x?a=3&b=1&b=2" }, KEYS, options);
    expect((await refusal({ ...received, url: "/x?a=1&b=3&b=2" })).code).toBe("mismatch");
  });

  test("covers repeated header lines and ignores spaces around and between words", async () => {
    const received = await signed({ method: "GET", path: "/", headers: { "x-list": "a b,c" } }, "lambda", NOW);
    const bare = withHeader(received, "x-list", undefined);
    await authenticate(
      { ...bare, rawHeaders: [...bare.rawHeaders, "X-List", "  a \t b", "x-list", "c "] },
      KEYS,
      options,
    );
    expect((await refusal({ ...bare, rawHeaders: [...bare.rawHeaders, "X-List", "c", "x-list", "a b"] })).code).toBe(
      "mismatch",
    );
  });
});

describe("a request is refused", () => {
  const cases: [name: string, code: SignatureFailure, make: () => Promise<SignedRequest>][] = [
    [
      "without authentication",
      "missing",
      async () => withHeader(await signed(run, "lambda", NOW), "authorization", undefined),
    ],
    ["signed 6 minutes ago", "expired", () => signed(run, "lambda", NOW - 6 * MINUTE)],
    ["signed 6 minutes ahead", "not_yet_current", () => signed(run, "lambda", NOW + 6 * MINUTE)],
    ["of S3 signed 16 minutes ago", "expired", () => signed(run, "s3", NOW - 16 * MINUTE)],
    ["of S3 signed 16 minutes ahead", "not_yet_current", () => signed(run, "s3", NOW + 16 * MINUTE)],
    ["presigned for 60 s and 61 s old", "presigned_expired", () => presigned(run, "s3", NOW - 61_000, 60)],
    ["presigned in the future", "not_yet_current", () => presigned(run, "s3", NOW + 16 * MINUTE)],
    [
      "with two Authorization headers",
      "ambiguous",
      async () => {
        const received = await signed(run, "lambda", NOW);
        return {
          ...received,
          rawHeaders: [...received.rawHeaders, "Authorization", header(received, "authorization")],
        };
      },
    ],
    [
      "signed in the header and in the query",
      "ambiguous",
      async () => {
        const received = await signed(run, "lambda", NOW);
        return { ...received, url: (await presigned(run, "lambda", NOW)).url };
      },
    ],
    [
      "with a host that is not signed",
      "unsigned_header",
      async () => resigned(await signed(run, "lambda", NOW), (text) => text.replace(/;host/, "")),
    ],
    [
      "with an x-amz- header that is not signed",
      "unsigned_header",
      async () => withHeader(await signed(run, "s3", NOW), "x-amz-acl", "public-read"),
    ],
    [
      "with a signed header that is gone",
      "mismatch",
      async () => withHeader(await signed({ ...run, headers: { "x-empty": "" } }, "lambda", NOW), "x-empty", undefined),
    ],
    ["of another method", "mismatch", async () => ({ ...(await signed(run, "lambda", NOW)), method: "DELETE" })],
    ["for another host", "mismatch", async () => withHeader(await signed(run, "lambda", NOW), "host", "other")],
    [
      "by an unknown key",
      "unknown_key",
      () => signed(run, "lambda", NOW, { key: { ...KEY, accessKeyId: "AKIADELETEDDELETED00" } }),
    ],
    [
      "with a wrong secret",
      "mismatch",
      () => signed(run, "lambda", NOW, { key: { ...KEY, secretAccessKey: "guess" } }),
    ],
    [
      "with a session token",
      "unknown_session_token",
      () => signed({ ...run, headers: { "x-amz-security-token": "t" } }, "lambda", NOW),
    ],
    [
      "scoped to another service",
      "wrong_scope",
      async () => resigned(await signed(run, "lambda", NOW), (text) => text.replace("/lambda/", "/ec2/")),
    ],
    [
      "scoped to another terminator",
      "wrong_scope",
      async () => resigned(await signed(run, "lambda", NOW), (text) => text.replace("aws4_request", "aws5_request")),
    ],
    [
      "scoped to another day",
      "wrong_scope",
      async () => resigned(await signed(run, "lambda", NOW), (text) => text.replace("/20260915/", "/20260914/")),
    ],
    [
      "moved to another region",
      "mismatch",
      async () => resigned(await signed(run, "lambda", NOW), (text) => text.replace("/us-east-1/", "/eu-west-1/")),
    ],
    [
      "moved to another service",
      "mismatch",
      async () => resigned(await signed(run, "lambda", NOW), (text) => text.replace("/lambda/", "/s3/")),
    ],
    ["of S3 without a payload hash", "bad_payload_hash", () => signed(run, "s3", NOW, { applyChecksum: false })],
    [
      "that leaves its payload open",
      "bad_payload_hash",
      () => signed({ ...run, headers: { "x-amz-content-sha256": "UNSIGNED-PAYLOAD" } }, "lambda", NOW),
    ],
    [
      "whose body is another one, the hash not stated",
      "mismatch",
      async () => ({
        ...(await signed(run, "lambda", NOW, { applyChecksum: false })),
        bodySha256: sha256Hex(Buffer.from("{}")),
      }),
    ],
    [
      "presigned for longer than a week",
      "incomplete",
      async () => {
        const received = await presigned(run, "s3", NOW);
        return { ...received, url: received.url.replace("X-Amz-Expires=900", "X-Amz-Expires=604801") };
      },
    ],
    [
      "with a query parameter of the signature twice",
      "incomplete",
      async () => {
        const received = await presigned(run, "s3", NOW);
        return { ...received, url: `${received.url}&X-Amz-Date=20260915T143000Z` };
      },
    ],
    ...[
      "Basic dXNlcjpwYXNz",
      "AWS4-HMAC-SHA512 Credential=a/b/c/d/e",
      "AWS4-HMAC-SHA256",
      "AWS4-HMAC-SHA256 nonsense",
      "AWS4-HMAC-SHA256 Credential=a/20260915/us-east-1/lambda/aws4_request, SignedHeaders=host",
      `AWS4-HMAC-SHA256 Credential=a/us-east-1/lambda, SignedHeaders=host, Signature=${"0".repeat(64)}`,
      `AWS4-HMAC-SHA256 Credential=a/b/c/d/e, Credential=a/b/c/d/e, SignedHeaders=host, Signature=${"0".repeat(64)}`,
      `AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=x-b;host, Signature=${"0".repeat(64)}`,
      `AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=Host, Signature=${"0".repeat(64)}`,
      `AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host;host, Signature=${"0".repeat(64)}`,
      "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=beef",
    ].map((text): [string, SignatureFailure, () => Promise<SignedRequest>] => [
      `whose Authorization is "${text.slice(0, 60)}…"`,
      "incomplete",
      async () => resigned(await signed(run, "lambda", NOW), () => text),
    ]),
    ...["", "yesterday", "20260931T143000Z", "2026-09-15T14:30:00Z", "20260915T143000Z,20260915T143000Z"].map(
      (text): [string, SignatureFailure, () => Promise<SignedRequest>] => [
        `dated "${text}"`,
        "incomplete",
        async () => withHeader(await signed(run, "lambda", NOW), "x-amz-date", text),
      ],
    ),
  ];
  test.each(cases)("%s: %s", async (_, code, make) => {
    expect((await refusal(await make())).code).toBe(code);
  });

  test("from another region or service than the one that answers", async () => {
    const received = await signed(run, "lambda", NOW, { region: "eu-west-1" });
    expect((await refusal(received, { ...options, expectedRegion: "us-east-1" })).code).toBe("wrong_scope");
    expect((await refusal(received, { ...options, expectedService: "s3" })).code).toBe("wrong_scope");
    await authenticate(received, KEYS, { ...options, expectedRegion: "eu-west-1", expectedService: "lambda" });
  });

  test("in AWS's words", async () => {
    expect((await refusal(await signed(run, "lambda", NOW - 6 * MINUTE))).message).toBe(
      "Signature expired: 20260915T142400Z is now earlier than 20260915T142500Z (20260915T143000Z - 5 min.)",
    );
    expect((await refusal(await signed(run, "lambda", NOW + 6 * MINUTE))).message).toBe(
      "Signature not yet current: 20260915T143600Z is still later than 20260915T143500Z (20260915T143000Z + 5 min.)",
    );
    const wrong = await signed(run, "lambda", NOW, { key: { ...KEY, secretAccessKey: "guess" } });
    expect((await refusal(wrong)).message).toBe(
      "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access " +
        "Key and signing method. Consult the service documentation for details.",
    );
  });

  test("without its Authorization header or the secret in the message", async () => {
    const received = resigned(await signed(run, "lambda", NOW), () => "AWS4-HMAC-SHA256 my-secret-by-mistake");
    expect((await refusal(received)).message).not.toContain("my-secret-by-mistake");
  });
});

test("a Date header serves where X-Amz-Date is absent", async () => {
  const received = await signed({ method: "GET", path: "/" }, "lambda", NOW);
  const bare = withHeader(
    resigned(received, (t) => t.replace(";x-amz-date", "")),
    "x-amz-date",
    undefined,
  );
  expect((await refusal(withHeader(bare, "date", "Tue, 15 Sep 2026 14:20:00 GMT"))).code).toBe("expired");
  expect((await refusal(withHeader(bare, "date", "Tue, 15 Sep 2026 14:30:00 GMT"))).code).toBe("mismatch");
});

test("S3 takes a path that was sent with fewer escapes than it was signed with", async () => {
  const received = await signed({ method: "GET", path: "/bucket/a%28b%29%2Fc" }, "s3", NOW);
  await authenticate({ ...received, url: "/bucket/a(b)%2fc" }, KEYS, options);
  expect((await refusal({ ...received, url: "/bucket/a(b)/c" })).code).toBe("mismatch");
});

test("a body is held against the hash that was signed", async () => {
  const received = await authenticate(await signed(run, "lambda", NOW), KEYS, options);
  verifyPayload(received, sha256Hex(Buffer.from(run.body ?? "")));
  expect(() => verifyPayload(received, sha256Hex(Buffer.from('{"imageIdentifier":"y"}')))).toThrow(SignatureError);
  expect(() => verifyPayload({ payloadHash: "UNSIGNED-PAYLOAD" }, sha256Hex(Buffer.from("")))).toThrow(SignatureError);
});

// ---- flipping ------------------------------------------------------------------------------------------------

function flipText(text: string, where: number, bit: number): string {
  const i = where % text.length;
  return text.slice(0, i) + String.fromCharCode(text.charCodeAt(i) ^ (1 << bit)) + text.slice(i + 1);
}

/** One bit of the method, the URL, a header's value or the body's hash. */
function flip(request: SignedRequest, where: number, bit: number): SignedRequest {
  const values = request.rawHeaders.map((_, i) => i).filter((i) => i % 2 === 1 && request.rawHeaders[i] !== "");
  const target = where % (values.length + 2);
  const at = Math.floor(where / (values.length + 2));
  if (target === 0) return { ...request, method: flipText(request.method, at, bit) };
  if (target === 1) return { ...request, url: flipText(request.url, at, bit) };
  const i = values[target - 2]!;
  return { ...request, rawHeaders: request.rawHeaders.with(i, flipText(request.rawHeaders[i]!, at, bit)) };
}

/** Equal for requests that ask for the same thing: only those may share a signature. */
function meaning(request: SignedRequest, service: SignedService): string {
  const [path = "", ...rest] = request.url.split("?");
  const segments = path.split("/");
  const query = rest
    .join("?")
    .split("&")
    .filter((part) => part !== "")
    .map((part) =>
      [part.includes("=") ? part : `${part}=`].map((p) =>
        [p.slice(0, p.indexOf("=")), p.slice(p.indexOf("=") + 1)].map(decodeBytes),
      ),
    );
  return JSON.stringify([
    request.method,
    service === "s3" ? segments.map(decodeBytes) : posix.normalize(path),
    query.map((pair) => JSON.stringify(pair)).sort(),
    request.rawHeaders.map((value) => value.replace(/[ \t]+/g, " ").trim()),
  ]);
}

function encode(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
