import * as aws from "@aws-sdk/client-lambda-microvms";
import { describe, expect, test } from "vitest";
import { exchange, IMAGE_ARN, startApi } from "../api.fixture.ts";
import { KEY, signed } from "../sigv4/signer.fixture.ts";

const RUN = "/2025-09-09/microvms";
const run = (body: string, headers: Record<string, string> = { "content-type": "application/json" }) => ({
  method: "POST",
  path: RUN,
  headers,
  body,
});

describe("a body is refused", () => {
  const deep = `{"imageIdentifier":"x","unknown":${"[".repeat(40)}${"]".repeat(40)}}`;
  test.each([
    ["that is nested too deep", deep, /nested deeper than 32/],
    ["with a member twice", '{"imageIdentifier":"x","imageIdentifier":"y"}', /"imageIdentifier" twice/],
    ["with half a surrogate pair", '{"imageIdentifier":"\\ud800"}', /surrogate/],
    ["with NUL", '{"imageIdentifier":"a\\u0000b"}', /NUL/],
    [
      "with a number beyond 2^53",
      '{"imageIdentifier":"x","maximumDurationInSeconds":9007199254740993}',
      /^NUMBER_VALUE can not be converted to an Integer$/,
    ],
    ["with a fraction for an integer", '{"imageIdentifier":"x","maximumDurationInSeconds":1.5}', /NUMBER_VALUE/],
    [
      "with a text for an integer",
      '{"imageIdentifier":"x","maximumDurationInSeconds":"60"}',
      /^STRING_VALUE can not be converted to an Integer$/,
    ],
    ["with a boolean for a text", '{"imageIdentifier":true}', /^TRUE_VALUE can not be converted to a String$/],
    ["with a list for a text", '{"imageIdentifier":[]}', /^Start of list found where not expected$/],
    ["with an object for a text", '{"imageIdentifier":{}}', /^Start of structure or map found where not expected\.$/],
    ["with a text for a list", '{"imageIdentifier":"x","egressNetworkConnectors":"y"}', /^Expected list or null$/],
    ["with a boolean for a structure", '{"imageIdentifier":"x","idlePolicy":true}', /^Expected null$/],
    ["that is a list", "[]", /^Start of list found where not expected$/],
    ["that is a text", '"x"', /^Expected null$/],
    ["that is not JSON", "{'a':1}", /not JSON/],
  ])("%s", async (_, body, message) => {
    const { send, calls } = await startApi();
    const response = await send(run(body));
    expect(response.status).toBe(400);
    expect(response.headers.get("x-amzn-errortype")).toBe("SerializationException");
    expect(await response.json()).toEqual({ Message: expect.stringMatching(message) });
    expect(calls).toEqual([]);
  });

  test("of another content type", async () => {
    const { send } = await startApi();
    const response = await send(run('{"imageIdentifier":"x"}', { "content-type": "text/xml" }));
    expect([response.status, response.headers.get("x-amzn-errortype")]).toEqual([415, "UnsupportedMediaTypeException"]);
    expect((await send(run('{"imageIdentifier":"x"}', { "content-type": "nonsense" }))).status).toBe(415);
  });

  test("of ten megabytes", async () => {
    const { send, calls } = await startApi();
    const response = await send(run(`{"imageIdentifier":"${"x".repeat(10_000_000)}"}`));
    expect([response.status, response.headers.get("x-amzn-errortype")]).toEqual([
      413,
      "RequestEntityTooLargeException",
    ]);
    expect(calls).toEqual([]);
  });

  test("that never stops", async () => {
    const { port } = await startApi({ limits: { bodyMs: 100 } });
    const chunk = `10000\r\n${"x".repeat(65536)}\r\n`;
    const answer = await exchange(
      port,
      `POST ${RUN} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n${chunk.repeat(17)}`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
  });
});

describe("accepted and harmless are", () => {
  test("__proto__, unknown members and nulls", async () => {
    const { send, calls } = await startApi();
    const body =
      '{"imageIdentifier":"x","__proto__":{"imageVersion":"9"},"constructor":null,"idlePolicy":null,"more":[1]}';
    expect((await send(run(body))).status).toBe(200);
    expect(calls.map(({ input }) => input)).toEqual([{ imageIdentifier: "x" }]);
  });

  test("bodies without a content type, and with a charset", async () => {
    const { send, calls } = await startApi();
    expect(
      (await send(run('{"imageIdentifier":"x"}', { "content-type": "application/json; charset=utf-8" }))).status,
    ).toBe(200);
    expect((await send(run('{"imageIdentifier":"x"}', { "content-type": "Application/X-Amz-Json-1.1" }))).status).toBe(
      200,
    );
    expect((await send(run('{"imageIdentifier":"x"}', {}))).status).toBe(200);
    expect(calls).toHaveLength(3);
  });
});

describe("paths", () => {
  const image = (label: string) => ({ method: "GET", path: `/2025-09-09/microvm-images/${label}` });
  test.each([
    ["an ARN that is encoded", encodeURIComponent(IMAGE_ARN), IMAGE_ARN],
    ["an ARN that is not", IMAGE_ARN, IMAGE_ARN],
    ["an encoded slash", "a%2fb", "a/b"],
    ["what was encoded twice", "a%252fb", "a%2fb"],
    ["an encoded question mark and space", "a%3Fb%20c", "a?b c"],
    ["a plus", "a+b", "a+b"],
    ["the longest identifier", "x".repeat(256), "x".repeat(256)],
  ])("are decoded once: %s", async (_, label, decoded) => {
    const { send, calls } = await startApi();
    expect((await send(image(label))).status).toBe(200);
    expect(calls).toMatchObject([{ name: "GetMicrovmImage", input: { imageIdentifier: decoded } }]);
  });

  test.each([
    ["a NUL", "a%00b", 400, "SerializationException"],
    ["what is not UTF-8", "%ff", 400, "SerializationException"],
    ["a broken escape", "%zz", 400, "SerializationException"],
    ["an identifier that is too long", "x".repeat(257), 400, "ValidationException"],
    ["a slash too many", "a/b", 404, "UnknownOperationException"],
    ["no identifier at all", "", 400, "ValidationException"],
  ])("are refused with %s", async (_, label, status, type) => {
    const { send, calls } = await startApi();
    const response = await send(image(label));
    expect([response.status, response.headers.get("x-amzn-errortype")]).toEqual([status, type]);
    expect(response.headers.get("x-amzn-requestid")).toMatch(/^[0-9a-f-]{36}$/);
    expect(calls).toEqual([]);
  });

  test("may hold encoded dots", async () => {
    const { port, calls } = await startApi();
    const path = "/2025-09-09/microvm-images/%2e%2e";
    const host = `127.0.0.1:${port}`;
    const { rawHeaders } = await signed({ method: "GET", path, headers: { host } }, "lambda", Date.now());
    const lines = rawHeaders.map((text, i) => (i % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join("");
    await exchange(port, `GET ${path} HTTP/1.1\r\n${lines}connection: close\r\n\r\n`);
    expect(calls).toMatchObject([{ name: "GetMicrovmImage", input: { imageIdentifier: ".." } }]);
  });

  test("with dot segments reach no other operation", async () => {
    const { port, calls } = await startApi();
    const answer = await exchange(port, `GET ${RUN}/x/../y HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 404 /);
    expect(calls).toEqual([]);
  });

  test("that classic Lambda knows and we do not are told as such", async () => {
    const { send } = await startApi();
    const response = await send({ method: "GET", path: "/2017-03-31/event-source-mappings" });
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({
      message: expect.stringMatching(/^There is no operation GET \/2017-03-31/),
    });
  });
});

describe("query parameters", () => {
  const list = (query: Record<string, string | string[]>) => ({ method: "GET", path: RUN, query });
  test("are refused when they come twice, are no numbers, or no UTF-8", async () => {
    const { send, calls, raw } = await startApi();
    expect(await (await send(list({ maxResults: ["1", "2"] }))).json()).toEqual({
      Message: "The query parameter 'maxResults' must be given once.",
    });
    expect(await (await send(list({ maxResults: "ten" }))).json()).toEqual({
      Message: "STRING_VALUE can not be converted to an Integer",
    });
    expect((await send(list({ maxResults: "51" }))).headers.get("x-amzn-errortype")).toBe("ValidationException");
    expect(calls).toEqual([]);
    expect(await raw(`GET ${RUN}?nextToken=%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`)).toMatch(/ 403 /);
  });

  test("that are unknown are ignored", async () => {
    const { send, calls } = await startApi();
    await send(list({ nextToken: "t", other: ["1", "2"] }));
    expect(calls[0]?.input).toEqual({ nextToken: "t" });
  });
});

describe("signatures", () => {
  const microvms = { method: "GET", path: RUN };
  const outcome = async (response: Response): Promise<unknown[]> => [
    response.status,
    response.headers.get("x-amzn-errortype"),
    await response.json(),
  ];

  test("with a wrong secret arrive as the SDK's exception", async () => {
    const { client } = await startApi();
    const sdk = client({ credentials: { accessKeyId: KEY.accessKeyId, secretAccessKey: "guess" } });
    await expect(sdk.send(new aws.ListMicrovmsCommand({}))).rejects.toMatchObject({
      name: "InvalidSignatureException",
      message: expect.stringMatching(/^The request signature we calculated does not match/),
      $metadata: { httpStatusCode: 403 },
    });
  });

  test("of an unknown key", async () => {
    const { client } = await startApi();
    const sdk = client({ credentials: { accessKeyId: "AKIADELETED", secretAccessKey: "x" } });
    await expect(sdk.send(new aws.ListMicrovmsCommand({}))).rejects.toMatchObject({
      name: "UnrecognizedClientException",
      message: "The security token included in the request is invalid.",
    });
  });

  test("for another region", async () => {
    const { client, calls } = await startApi();
    await expect(client({ region: "eu-west-1" }).send(new aws.ListMicrovmsCommand({}))).rejects.toMatchObject({
      name: "InvalidSignatureException",
      message: "Credential should be scoped to a valid region, such as 'us-east-1'.",
    });
    expect(calls).toEqual([]);
  });

  test("for another service", async () => {
    const { raw } = await startApi();
    const credential = "AKIA/20260915/us-east-1/sts/aws4_request";
    const answer = await raw(
      `GET ${RUN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-amz-date: 20260915T143000Z\r\n` +
        `authorization: AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=host, Signature=${"0".repeat(64)}\r\n\r\n`,
    );
    expect(answer).toContain("Credential should be scoped to correct service: 'lambda'.");
  });

  test("that are absent", async () => {
    const { url } = await startApi();
    expect(await outcome(await fetch(url + RUN))).toEqual([
      403,
      "MissingAuthenticationTokenException",
      { message: "Missing Authentication Token" },
    ]);
  });

  test("made by a clock that is 16 minutes off are corrected by the SDK, and refused without it", async () => {
    const late = { now: () => Date.now() + 16 * 60_000, monotonic: () => performance.now(), after: () => () => {} };
    const { client, calls } = await startApi({ clock: late });
    await expect(client({ maxAttempts: 1 }).send(new aws.ListMicrovmsCommand({}))).rejects.toMatchObject({
      name: "InvalidSignatureException",
      message: expect.stringMatching(/^Signature expired: \d{8}T\d{6}Z is now earlier than .* - 5 min\.\)$/),
    });
    expect(calls).toEqual([]);
  });

  test("of another body, its hash stated or not", async () => {
    const { url, calls } = await startApi();
    for (const applyChecksum of [true, false]) {
      const host = new URL(url).host;
      const request = run('{"imageIdentifier":"x"}', { host, "content-type": "application/json" });
      const out = await signed(request, "lambda", Date.now(), { applyChecksum });
      const headers = out.rawHeaders.map((text, i) => (i % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join("");
      const tampered = '{"imageIdentifier":"y"}';
      const answer = await exchange(
        Number(new URL(url).port),
        `POST ${RUN} HTTP/1.1\r\n${headers}connection: close\r\ncontent-length: ${tampered.length}\r\n\r\n${tampered}`,
      );
      expect(answer).toMatch(/^HTTP\/1\.1 403 [\s\S]*InvalidSignatureException/);
    }
    expect(calls).toEqual([]);
  });

  test("without a stated body hash are accepted, as boto makes them", async () => {
    const { send, calls } = await startApi();
    expect((await send(run('{"imageIdentifier":"x"}'), { applyChecksum: false })).status).toBe(200);
    expect((await send(microvms, { applyChecksum: false })).status).toBe(200);
    expect(calls).toHaveLength(2);
  });
});

describe("HTTP", () => {
  const get = (lines: string) => `GET /torpor/v1/health HTTP/1.1\r\n${lines}connection: close\r\n\r\n`;
  const post = (lines: string, body: string) => `POST ${RUN} HTTP/1.1\r\nhost: x\r\n${lines}\r\n${body}`;

  test.each([
    ["two Host lines", get("host: a\r\nHost: b\r\n"), 400],
    ["no Host", get(""), 400],
    ["an absolute target", "GET http://x/torpor/v1/health HTTP/1.1\r\nhost: x\r\n\r\n", 400],
    ["an asterisk", "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 400],
    [
      "Content-Length and Transfer-Encoding",
      post("content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
      400,
    ],
    ["two Content-Lengths", post("content-length: 5\r\ncontent-length: 6\r\n", "hello"), 400],
    ["an odd Transfer-Encoding", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400],
    ["HTTP/1.0 with chunks", `POST ${RUN} HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ["a folded header line", get("host: x\r\nx-a: 1\r\n 2\r\n"), 400],
    ["a bare line feed", "GET /torpor/v1/health HTTP/1.1\nhost: x\n\n", 400],
    ["a space before the colon", get("host : x\r\n"), 400],
    ["101 header lines", get(`host: x\r\n${"x-a: 1\r\n".repeat(100)}`), 431],
    ["40 KiB of header lines", get(`host: x\r\nx-a: ${"1".repeat(40_000)}\r\n`), 431],
    ["a target of 40 KiB", `GET /${"x".repeat(40_000)} HTTP/1.1\r\nhost: x\r\n\r\n`, 431],
    ["garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400],
  ])("with %s is refused and the connection closed", async (_, bytes, status) => {
    const { raw } = await startApi();
    const answer = await raw(bytes);
    expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(answer.match(/^HTTP\/1\.1/gm)).toHaveLength(1);
  });

  test.each([
    ["a request that is refused", `HEAD ${RUN} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n`, 400],
    ["a request that is answered", "GET /torpor/v1/health HTTP/1.1\r\nhost: x\r\n\r\nno HTTP at all\r\n\r\n", 200],
  ])("has one answer for %s, whatever follows it", async (_, bytes, status) => {
    const { raw } = await startApi();
    const answer = await raw(bytes);
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual([`HTTP/1.1 ${status}`]);
  });

  test("99 header lines are fine, and so is HTTP/1.0", async () => {
    const { raw } = await startApi();
    expect(await raw(get(`host: x\r\n${"x-a: 1\r\n".repeat(97)}`))).toMatch(/^HTTP\/1\.1 200 /);
    expect(await raw("GET /torpor/v1/health HTTP/1.0\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 /);
  });

  test("header lines that do not come to an end are cut off", async () => {
    const { raw } = await startApi({ limits: { headersMs: 200 } });
    expect(await raw("GET /torpor/v1/health HTTP/1.1\r\nhost: x\r\nx-slow")).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a body that does not come is cut off", async () => {
    const { raw, calls } = await startApi({ limits: { bodyMs: 100 } });
    expect(await raw(post("content-length: 5\r\n", "h"))).toBe("");
    expect(calls).toEqual([]);
  });

  test("a client that asks before it sends is told to go on", async () => {
    const { raw } = await startApi();
    const answer = await raw(post("expect: 100-continue\r\nconnection: close\r\ncontent-length: 2\r\n", "{}"));
    expect(answer).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 403 /);
  });
});
