import { createHash, createHmac } from "node:crypto";
import { readdir } from "node:fs/promises";
import { Agent, request } from "node:http";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { AccessKey } from "../../control/request-context.ts";
import { systemClock } from "../../lib/clock.ts";
import { deriveSigningKey } from "../sigv4/canonical-request.ts";
import { signerOf } from "../sigv4/signer.fixture.ts";
import { ALICE, startServer, type TestServer } from "./server.fixture.ts";

interface Send {
  readonly method?: string;
  /** As it stands in the request line. */
  readonly path: string;
  readonly query?: Record<string, string>;
  readonly headers?: Record<string, string>;
  readonly body?: string | Uint8Array;
  readonly payload?: string;
  readonly agent?: Agent;
  readonly key?: AccessKey;
}
interface Answer {
  readonly status: number;
  readonly code: string | undefined;
  readonly body: string;
  readonly headers: NodeJS.Dict<string | string[]>;
}

const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("hex");

async function sign(at: TestServer, send: Send): Promise<{ headers: Record<string, string>; path: string }> {
  const signer = signerOf("s3", { key: send.key ?? ALICE });
  const query = send.query ?? {};
  const { headers } = await signer.sign({
    protocol: "http:",
    hostname: "127.0.0.1",
    method: send.method ?? "PUT",
    path: send.path,
    query,
    headers: {
      host: `127.0.0.1:${at.port}`,
      "x-amz-content-sha256": send.payload ?? sha256(send.body ?? ""),
      ...send.headers,
    },
  });
  const text = Object.entries(query).map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  return { headers, path: text.length === 0 ? send.path : `${send.path}?${text.join("&")}` };
}

async function send(at: TestServer, what: Send): Promise<Answer> {
  const { headers, path } = await sign(at, what);
  return await transmit(at, path, { ...what, headers });
}

async function transmit(at: TestServer, path: string, what: Omit<Send, "path">): Promise<Answer> {
  return await new Promise<Answer>((resolve, reject) => {
    const { method = "PUT", headers = {}, agent } = what;
    const outgoing = request({ host: "127.0.0.1", port: at.port, method, path, headers, ...(agent ? { agent } : {}) });
    outgoing.on("error", reject).on("response", (response) => {
      buffer(response).then((bytes) => {
        const body = bytes.toString();
        const code = /<Code>(.*)<\/Code>/.exec(body)?.[1];
        resolve({ status: response.statusCode ?? 0, code, body, headers: response.headers });
      }, reject);
    });
    outgoing.end(what.body);
  });
}

/** A body in signed chunks, the way AWS documents it. */
async function signedChunks(
  at: TestServer,
  path: string,
  chunks: readonly Uint8Array[],
  trailer?: readonly [name: string, value: string],
): Promise<{ headers: Record<string, string>; path: string; wire: Buffer[] }> {
  const decoded = chunks.reduce((n, chunk) => n + chunk.length, 0);
  const payload = `STREAMING-AWS4-HMAC-SHA256-PAYLOAD${trailer ? "-TRAILER" : ""}`;
  const announced = trailer ? { "x-amz-trailer": trailer[0] } : {};
  const signed = await sign(at, {
    path,
    payload,
    headers: { "content-encoding": "aws-chunked", "x-amz-decoded-content-length": String(decoded), ...announced },
  });
  const timestamp = signed.headers["x-amz-date"]!;
  const date = timestamp.slice(0, 8);
  const key = deriveSigningKey(ALICE.secretAccessKey, date, "us-east-1", "s3");
  let previous = /Signature=([0-9a-f]{64})/.exec(signed.headers.authorization ?? "")![1]!;
  const next = (algorithm: string, ...rest: string[]): string => {
    const scope = `${date}/us-east-1/s3/aws4_request`;
    previous = createHmac("sha256", key)
      .update([algorithm, timestamp, scope, previous, ...rest].join("\n"))
      .digest("hex");
    return previous;
  };
  const wire = [...chunks, Buffer.alloc(0)].map((data) => {
    const signature = next("AWS4-HMAC-SHA256-PAYLOAD", sha256(""), sha256(data));
    const end = data.length > 0 || !trailer ? "\r\n" : "";
    return Buffer.concat([
      Buffer.from(`${data.length.toString(16)};chunk-signature=${signature}\r\n`),
      data,
      Buffer.from(end),
    ]);
  });
  if (trailer) {
    const signature = next("AWS4-HMAC-SHA256-TRAILER", sha256(`${trailer[0]}:${trailer[1]}\n`));
    wire.push(Buffer.from(`${trailer[0]}:${trailer[1]}\r\nx-amz-trailer-signature:${signature}\r\n\r\n`));
  }
  return { ...signed, wire };
}

let at: TestServer;
beforeEach(async () => {
  at = await startServer();
  await at.store.createBucket("bucket", ALICE.accountId);
});
const stored = async (key = "k"): Promise<string | undefined> => {
  const object = await at.store
    .bucket("bucket", ALICE.accountId)
    .open(key)
    .catch(() => undefined);
  return object && (await buffer(object.stream())).toString();
};
const nothingLeft = async (): Promise<void> => {
  expect(await readdir(join(at.folder, "incoming"))).toEqual([]);
  expect(await readdir(join(at.folder, "buckets/bucket/objects"))).toEqual([]);
};

describe("a body in signed chunks", () => {
  const chunks = [Buffer.alloc(8192, "a"), Buffer.alloc(9000, "b"), Buffer.from("end")];
  const whole = Buffer.concat(chunks);
  const crc = ["x-amz-checksum-sha256", createHash("sha256").update(whole).digest("base64")] as const;

  test("is taken when every signature is right, with and without trailer", async () => {
    const plain = await signedChunks(at, "/bucket/k", chunks);
    expect(await transmit(at, plain.path, { ...plain, body: Buffer.concat(plain.wire) })).toMatchObject({
      status: 200,
    });
    expect(await stored()).toBe(whole.toString());
    const trailing = await signedChunks(at, "/bucket/t", chunks, crc);
    const answer = await transmit(at, trailing.path, { ...trailing, body: Buffer.concat(trailing.wire) });
    expect(answer).toMatchObject({ status: 200, headers: { "x-amz-checksum-sha256": crc[1] } });
    expect(await stored("t")).toBe(whole.toString());
    expect(await at.store.bucket("bucket", ALICE.accountId).head("k")).toMatchObject({ headers: [] });
  });

  test.each<[string, (wire: Buffer[]) => Buffer[], string]>([
    ["changed data", ([a, b, c, d]) => [Buffer.from(a!).fill("x", 200, 201), b!, c!, d!], "SignatureDoesNotMatch"],
    ["swapped chunks", ([a, b, c, d]) => [b!, a!, c!, d!], "SignatureDoesNotMatch"],
    ["a repeated chunk", ([a, , c, d]) => [a!, a!, c!, d!], "SignatureDoesNotMatch"],
    ["a dropped chunk", ([a, , c, d]) => [a!, c!, d!], "SignatureDoesNotMatch"],
    [
      "a wrong last signature",
      ([a, b, c]) => [a!, b!, c!, Buffer.from(`0;chunk-signature=${"0".repeat(64)}\r\n\r\n`)],
      "SignatureDoesNotMatch",
    ],
    ["no last chunk", ([a, b, c]) => [a!, b!, c!], "IncompleteBody"],
    ["no signatures", () => [Buffer.from(`4333\r\n${whole}\r\n0\r\n\r\n`)], "InvalidRequest"],
  ])("is refused with %s, and nothing is kept", async (_, change, code) => {
    const { headers, path, wire } = await signedChunks(at, "/bucket/k", chunks);
    expect(await transmit(at, path, { headers, body: Buffer.concat(change(wire)) })).toMatchObject({ code });
    await nothingLeft();
  });

  test.each<[string, (wire: Buffer[]) => Buffer[], string]>([
    [
      "another checksum",
      (w) => [...w.slice(0, -1), Buffer.from(w.at(-1)!.toString().replace(/256:./, "256:-"))],
      "SignatureDoesNotMatch",
    ],
    ["no trailer", (w) => [...w.slice(0, -1), Buffer.from("\r\n")], "MalformedTrailerError"],
    [
      "an unsigned trailer",
      (w) => [...w.slice(0, -1), Buffer.from(`${crc[0]}:${crc[1]}\r\n\r\n`)],
      "SignatureDoesNotMatch",
    ],
  ])("with a signed trailer is refused with %s", async (_, change, code) => {
    const { headers, path, wire } = await signedChunks(at, "/bucket/k", chunks, crc);
    expect(await transmit(at, path, { headers, body: Buffer.concat(change(wire)) })).toMatchObject({ code });
    await nothingLeft();
  });

  test("whose signed checksum is not that of the data is refused", async () => {
    const wrong = ["x-amz-checksum-sha256", createHash("sha256").update("other").digest("base64")] as const;
    const { headers, path, wire } = await signedChunks(at, "/bucket/k", chunks, wrong);
    expect(await transmit(at, path, { headers, body: Buffer.concat(wire) })).toMatchObject({ code: "BadDigest" });
    await nothingLeft();
  });
});

describe("a body", () => {
  const md5 = (data: string): string => createHash("md5").update(data).digest("base64");

  test("with the Content-MD5 and checksum that it claims is taken, and the checksum given back", async () => {
    const headers = { "content-md5": md5("hello"), "x-amz-checksum-crc32": "NhCmhg==" };
    const answer = await send(at, { path: "/bucket/k", body: "hello", headers });
    expect(answer).toMatchObject({ status: 200, headers: { "x-amz-checksum-crc32": "NhCmhg==" } });
    expect(answer.headers.etag).toBe('"5d41402abc4b2a76b9719d911017c592"');
  });

  test.each<[string, Partial<Send>, number, string]>([
    ["another hash than signed", { payload: sha256("other") }, 400, "XAmzContentSHA256Mismatch"],
    ["another Content-MD5", { headers: { "content-md5": md5("other") } }, 400, "BadDigest"],
    ["a Content-MD5 that is none", { headers: { "content-md5": "x" } }, 400, "InvalidDigest"],
    ["another checksum", { headers: { "x-amz-checksum-crc32": "AAAAAA==" } }, 400, "BadDigest"],
    ["a checksum that is none", { headers: { "x-amz-checksum-crc32": "AAAA" } }, 400, "InvalidRequest"],
    [
      "two checksums",
      { headers: { "x-amz-checksum-crc32": "NhCmhg==", "x-amz-checksum-sha1": "qvTGHdzF6KLavt4PO0gs2a6pQ00=" } },
      400,
      "InvalidRequest",
    ],
    [
      "an announced checksum that is not there",
      { headers: { "x-amz-sdk-checksum-algorithm": "CRC32" } },
      400,
      "InvalidRequest",
    ],
    ["an unknown algorithm", { headers: { "x-amz-sdk-checksum-algorithm": "CRC1" } }, 400, "InvalidRequest"],
    ["an unknown payload form", { payload: "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD" }, 400, "InvalidArgument"],
    ["chunks without their length", { payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER" }, 411, "MissingContentLength"],
    [
      "an unknown trailer",
      {
        payload: "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        headers: { "x-amz-trailer": "x-other", "x-amz-decoded-content-length": "5" },
      },
      400,
      "InvalidRequest",
    ],
    [
      "no length at all",
      { headers: { "transfer-encoding": "chunked" }, payload: "UNSIGNED-PAYLOAD" },
      411,
      "MissingContentLength",
    ],
  ])("is refused with %s, and nothing is kept", async (_, more, status, code) => {
    expect(await send(at, { path: "/bucket/k", body: "hello", ...more })).toMatchObject({ status, code });
    await nothingLeft();
  });

  test("with an unsigned trailer is checked against it", async () => {
    const headers = { "x-amz-trailer": "x-amz-checksum-crc32", "x-amz-decoded-content-length": "5" };
    const payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
    const wire = (sum: string): string => `5\r\nhello\r\n0\r\nx-amz-checksum-crc32:${sum}\r\n\r\n`;
    const wrong = await send(at, { path: "/bucket/k", payload, headers, body: wire("AAAAAA==") });
    expect(wrong).toMatchObject({ status: 400, code: "BadDigest" });
    await nothingLeft();
    expect(await send(at, { path: "/bucket/k", payload, headers, body: wire("NhCmhg==") })).toMatchObject({
      status: 200,
    });
    expect(await stored()).toBe("hello");
  });

  test("that was refused leaves the connection usable", async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    const sockets = new Set<Socket>();
    at.server.on("connection", (socket) => sockets.add(socket));
    const body = Buffer.alloc(3 << 20);
    expect(await send(at, { path: "/absent/k", body, agent })).toMatchObject({ code: "NoSuchBucket" });
    expect(await send(at, { path: "/bucket/k", body, agent })).toMatchObject({ status: 200 });
    expect(sockets.size).toBe(1);
  });

  test("that breaks off leaves nothing", async () => {
    const { headers, path } = await sign(at, { path: "/bucket/k", payload: "UNSIGNED-PAYLOAD" });
    const socket = connect(at.port, "127.0.0.1");
    const head = Object.entries({ ...headers, "content-length": "1000000" }).map(
      ([name, value]) => `${name}: ${value}\r\n`,
    );
    socket.write(`PUT ${path} HTTP/1.1\r\n${head.join("")}\r\n${"x".repeat(300_000)}`);
    await vi.waitFor(async () => expect(await readdir(join(at.folder, "incoming"))).toHaveLength(1), { interval: 5 });
    socket.destroy();
    await vi.waitFor(nothingLeft, { interval: 5 });
  });

  test("that is waited for with Expect is asked for only when it is wanted", async () => {
    at = await startServer({ sendContinue: true });
    await at.store.createBucket("bucket", ALICE.accountId);
    const ask = async (path: string): Promise<string> => {
      const signed = await sign(at, { path, payload: "UNSIGNED-PAYLOAD", headers: { "content-length": "2" } });
      const socket = connect(at.port, "127.0.0.1");
      onTestFinished(() => void socket.destroy());
      const head = Object.entries({ ...signed.headers, expect: "100-continue" }).map(([n, v]) => `${n}: ${v}\r\n`);
      socket.write(`PUT ${signed.path} HTTP/1.1\r\n${head.join("")}\r\n`);
      let answer = "";
      for await (const text of socket.setEncoding("utf8")) {
        answer += text;
        if (answer === "HTTP/1.1 100 Continue\r\n\r\n") socket.write("hi");
        else if (answer.includes("HTTP/1.1 200")) break;
      }
      return answer;
    };
    expect(await ask("/bucket/k")).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 /);
    expect(await stored()).toBe("hi");
    const refused = await ask("/absent/k");
    expect(refused).toMatch(/^HTTP\/1\.1 404 /);
    expect(refused).toMatch(/connection: close/i);
  });
});

describe("a path", () => {
  test.each([
    ["/bucket/../../etc/passwd", "../../etc/passwd"],
    ["/bucket/%2e%2e/x", "../x"],
    ["/bucket//x", "/x"],
    ["/bucket/a%2Fb", "a/b"],
    ["/bucket/%C3%A9", "é"],
  ])("%s is the key %s and nothing else", async (path, key) => {
    expect(await send(at, { path, body: "hello" })).toMatchObject({ status: 200 });
    expect(await stored(key)).toBe("hello");
  });

  test.each([
    ["/bucket/a%00b", "InvalidArgument"],
    ["/bucket/%ff", "InvalidURI"],
    ["/bucket/%zz", "InvalidURI"],
    ["//bucket/k", "InvalidURI"],
    ["/..%2fbucket/k", "NoSuchBucket"],
    ["/%2e%2e/k", "NoSuchBucket"],
    [`/bucket/${"x".repeat(1025)}`, "KeyTooLongError"],
    [`/bucket/${"%41".repeat(5000)}`, "KeyTooLongError"],
  ])("%s is refused", async (path, code) => {
    expect(await send(at, { path, body: "hello" })).toMatchObject({ code });
    await nothingLeft();
  });

  test("that names a resource which is not there is refused with what it named", async () => {
    for (const name of ["acl", "policy", "tagging", "lifecycle", "torrent", "restore"])
      expect(await send(at, { path: "/bucket/k", query: { [name]: "" }, body: "x" })).toMatchObject({
        status: 501,
        code: "NotImplemented",
      });
    expect(await send(at, { path: "/bucket", method: "PATCH" })).toMatchObject({
      status: 405,
      code: "MethodNotAllowed",
    });
    await nothingLeft();
  });
});

describe("a document", () => {
  const bomb = `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>`;
  const many = `<Delete>${"<Object><Key>k</Key></Object>".repeat(1001)}</Delete>`;
  test.each([
    ["an entity bomb", bomb, "MalformedXML"],
    ["another root", "<Other><Object><Key>k</Key></Object></Other>", "MalformedXML"],
    ["no key", "<Delete><Object/></Delete>", "MalformedXML"],
    ["too many keys", many, "MalformedXML"],
    ["endless depth", "<a>".repeat(100_000), "MalformedXML"],
    ["too many bytes", " ".repeat(3 * 2 ** 20), "MaxMessageLengthExceeded"],
  ])("with %s deletes nothing", async (_, body, code) => {
    await send(at, { path: "/bucket/k", body: "hello" });
    expect(await send(at, { method: "POST", path: "/bucket", query: { delete: "" }, body })).toMatchObject({ code });
    expect(await stored()).toBe("hello");
  });

  test("whose hash is not the signed one deletes nothing", async () => {
    await send(at, { path: "/bucket/k", body: "hello" });
    const body = "<Delete><Object><Key>k</Key></Object></Delete>";
    const answer = await send(at, {
      method: "POST",
      path: "/bucket",
      query: { delete: "" },
      body,
      payload: sha256("x"),
    });
    expect(answer).toMatchObject({ code: "XAmzContentSHA256Mismatch" });
    expect(await stored()).toBe("hello");
  });
});

describe("a presigned URL", () => {
  async function presign(method: string, path: string, query = {}): Promise<string> {
    const signed = await signerOf("s3", { key: ALICE }).presign(
      {
        protocol: "http:",
        hostname: "127.0.0.1",
        port: at.port,
        method,
        path,
        query,
        headers: { host: `127.0.0.1:${at.port}`, "x-amz-content-sha256": "UNSIGNED-PAYLOAD" },
      },
      { expiresIn: 60 },
    );
    return `${at.endpoint}${path}?${new URLSearchParams(signed.query as Record<string, string>).toString().replaceAll("+", "%20")}`;
  }

  test("opens one object for one method, with the headers that were signed", async () => {
    const put = await fetch(await presign("PUT", "/bucket/k"), { method: "PUT", body: "hello" });
    expect(put.status).toBe(200);
    const url = await presign("GET", "/bucket/k", { "response-content-disposition": 'attachment; filename="a b"' });
    const got = await fetch(url);
    expect(await got.text()).toBe("hello");
    expect(got.headers.get("content-disposition")).toBe('attachment; filename="a b"');
    for (const other of [
      url.replace("/k?", "/other?"),
      url.replace("filename", "filenam"),
      url.replace(/.$/, (c) => (c === "0" ? "1" : "0")),
    ])
      expect((await fetch(other)).status).toBe(403);
    expect((await fetch(url, { method: "DELETE" })).status).toBe(403);
  });

  test("ends when it was to end", async () => {
    const url = await presign("GET", "/bucket/k");
    at.server.close();
    const later = await startServer({ clock: { ...systemClock, now: () => Date.now() + 61_000 } });
    const { pathname, search } = new URL(url);
    const answer = await transmit(later, pathname + search, {
      method: "GET",
      headers: { host: `127.0.0.1:${at.port}` },
    });
    expect(answer).toMatchObject({ status: 403, code: "AccessDenied" });
    expect(answer.body).toContain("Request has expired");
  });
});

test("a request without signature, or with one of the old kind, is told so in S3's form", async () => {
  const anonymous = await transmit(at, "/bucket/k?x=<y>", { method: "GET" });
  expect(anonymous).toMatchObject({
    status: 403,
    code: "AccessDenied",
    headers: { "content-type": "application/xml" },
  });
  expect(anonymous.body).toContain(`<RequestId>${anonymous.headers["x-amz-request-id"]}</RequestId>`);
  const old = await transmit(at, "/bucket/k?AWSAccessKeyId=a&Signature=b&Expires=1", { method: "GET" });
  expect(old).toMatchObject({ status: 400, code: "InvalidRequest" });
  expect(old.body).toContain("AWS4-HMAC-SHA256");
});

test("a client that goes away while it is sent an object does no harm", async () => {
  await send(at, { path: "/bucket/k", body: Buffer.alloc(8 << 20) });
  const { headers, path } = await sign(at, { method: "GET", path: "/bucket/k" });
  await new Promise<void>((resolve) => {
    const outgoing = request({ host: "127.0.0.1", port: at.port, path, headers }, (response) => {
      response.once("data", () => response.destroy());
      response.once("close", resolve);
    });
    outgoing.on("error", () => {}).end();
  });
  expect(await send(at, { method: "HEAD", path: "/bucket/k" })).toMatchObject({ status: 200 });
});
