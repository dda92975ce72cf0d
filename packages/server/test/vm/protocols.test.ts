import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect as netConnect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as tlsConnect } from "node:tls";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { CreateMicrovmAuthTokenCommand } from "@aws-sdk/client-lambda-microvms";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { AWAKE_ON_REQUEST, buildImage, RunningMicrovm, suspend } from "./fixtures.ts";
import { TestServer } from "./server.ts";

const APP = fileURLToPath(new URL("protocols", import.meta.url));
const DOCKERFILE = `FROM public.ecr.aws/lambda/microvms:al2023-minimal
COPY app /srv/app
RUN chmod 755 /srv/app
EXPOSE 8080
CMD ["/srv/app"]
`;
const run = promisify(execFile);
/** Older ones have no cleartext HTTP/2 in their standard library. */
const goSpeaksHttp2 = Number(/go1\.(\d+)/.exec(execFileSync("go", ["env", "GOVERSION"]).toString())?.[1]) >= 24;

let server: TestServer;
let vm: RunningMicrovm;
let token: string;
let ca: Buffer;
let host: string;
let port: number;
beforeAll(async () => {
  const folder = await mkdtemp(join(tmpdir(), "torpor-protocols-"));
  try {
    const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-trimpath", GO111MODULE: "off" };
    await run("go", ["build", "-ldflags=-s -w", "-o", join(folder, "app"), "."], { env, cwd: APP });
    await writeFile(join(folder, "Dockerfile"), DOCKERFILE);
    server = await TestServer.start();
    const image = await buildImage(server, "protocols", folder);
    vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  } finally {
    await rm(folder, { recursive: true });
  }
  const request = { microvmIdentifier: vm.id, expirationInMinutes: 60, allowedPorts: [{ allPorts: {} }] };
  const { authToken } = await server.api.send(new CreateMicrovmAuthTokenCommand(request));
  token = authToken!["X-aws-proxy-auth"]!;
  ca = await readFile(server.credentials.caFile);
  ({ hostname: host } = new URL(`https://${vm.endpoint}`));
  port = server.credentials.endpointPort;
});
afterAll(() => server?.[Symbol.asyncDispose]());

interface Seen {
  readonly protocol: string;
  readonly from: string;
  readonly host: string;
  readonly target: string;
  readonly headers: Readonly<Record<string, string[]>>;
}

async function curl(...args: string[]): Promise<{ readonly version: string; readonly status: string; body: string }> {
  const { stdout } = await run("curl", [
    ...["--silent", "--show-error", "--cacert", server.credentials.caFile, "--resolve", `${host}:${port}:127.0.0.1`],
    ...["--write-out", "\n%{http_version} %{http_code}", "--header", `X-aws-proxy-auth: ${token}`, "--max-time", "60"],
    ...args,
  ]);
  const at = stdout.lastIndexOf("\n");
  const [version = "", status = ""] = stdout.slice(at + 1).split(" ");
  return { version, status, body: stdout.slice(0, at) };
}

async function session(): Promise<ClientHttp2Session> {
  const client = connectHttp2(`https://${vm.endpoint}`, {
    createConnection: () =>
      tlsConnect({ socket: netConnect(port, "127.0.0.1"), servername: host, ca, ALPNProtocols: ["h2"] }),
  });
  client.on("error", () => {});
  await once(client, "connect");
  return client;
}
async function get(client: ClientHttp2Session, headers: Record<string, string> = {}): Promise<[unknown, string]> {
  const stream = client.request({ "x-aws-proxy-auth": token, ...headers });
  const response = once(stream, "response");
  const body = Buffer.concat(await stream.toArray()).toString();
  return [(await response)[0][":status"], body];
}

test("curl in HTTP/2 and in HTTP/1.1: the app on loopback sees HTTP/1.1, or HTTP/2 when forced", async () => {
  const url = `https://${vm.endpoint}/a?b=c`;
  for (const [option, version, more, protocol] of [
    ["--http2", "2", "X-Nothing: 1", "HTTP/1.1"],
    ["--http1.1", "1.1", "X-Nothing: 1", "HTTP/1.1"],
    ...(goSpeaksHttp2
      ? ([
          ["--http2", "2", "X-aws-proxy-force-h2: true", "HTTP/2.0"],
          ["--http1.1", "1.1", "X-aws-proxy-force-h2: true", "HTTP/2.0"],
        ] as const)
      : []),
  ] as const) {
    const answer = await curl(option, "--header", more, url);
    expect(answer).toMatchObject({ version, status: "200" });
    const seen = JSON.parse(answer.body) as Seen;
    expect(seen).toMatchObject({ protocol, from: "127.0.0.1", host: vm.endpoint, target: "/a?b=c" });
    const names = Object.keys(seen.headers).map((name) => name.toLowerCase());
    expect(names).toContain("x-amzn-requestid");
    expect(names.filter((name) => name.startsWith("x-aws-proxy") || name.startsWith("x-forwarded"))).toEqual([]);
  }
});

test("curl uploads and downloads megabytes, in both protocols", async () => {
  const bytes = 20 << 20;
  const file = join(server.dataDir, "upload");
  await writeFile(file, Buffer.alloc(bytes));
  for (const option of ["--http2", "--http1.1"]) {
    const down = await curl(option, "--output", "/dev/null", `https://${vm.endpoint}/zeros?bytes=${bytes}`);
    expect(down.status).toBe("200");
    const up = await curl(option, "--data-binary", `@${file}`, `https://${vm.endpoint}/count`);
    expect(up.body).toBe(`${bytes} true`);
  }
});

test("an HTTP/2 connection of node carries many requests, events, and outlives a suspend", async () => {
  const client = await session();
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => get(client, { ":path": `/${i}` })));
  for (const [i, [status, body]] of answers.entries())
    expect([status, (JSON.parse(body) as Seen).target]).toEqual([200, `/${i}`]);
  const events = client.request({ "x-aws-proxy-auth": token, ":path": "/events" });
  events.on("error", () => {}).setEncoding("utf8");
  let text = "";
  for (; !text.includes("data: 4\n\n"); ) text += (await once(events, "data"))[0];
  events.destroy();
  const forced: Record<string, string> = goSpeaksHttp2 ? { "x-aws-proxy-force-h2": "true" } : {};
  expect((await get(client, forced))[0]).toBe(200);
  await suspend(server, vm);
  expect((await get(client))[0]).toBe(200); // woken by it
  expect((await get(client, forced))[0]).toBe(200);
  client.close();
});

test.runIf(goSpeaksHttp2)("gRPC calls of all four kinds", async () => {
  const text = {
    requestSerialize: (value: string) => Buffer.from(value),
    responseDeserialize: (bytes: Buffer) => bytes.toString(),
  };
  const channel = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createSsl(ca), {
    "grpc.ssl_target_name_override": host,
    "grpc.default_authority": vm.endpoint,
  });
  const metadata = new grpc.Metadata();
  metadata.set("x-aws-proxy-auth", token);
  const { requestSerialize: out, responseDeserialize: back } = text;
  const reply = Promise.withResolvers<string | undefined>();
  const done =
    ({ resolve, reject }: PromiseWithResolvers<string | undefined>) =>
    (err: Error | null, value?: string) =>
      err ? reject(err) : resolve(value);
  channel.makeUnaryRequest("/test.Echo/Unary", out, back, "hello", metadata, done(reply));
  expect(await reply.promise).toBe("hello!");
  const down = channel.makeServerStreamRequest("/test.Echo/Down", out, back, "go", metadata);
  expect(await down.toArray()).toEqual(Array.from({ length: 10 }, (_, i) => String(i)));
  const sum = Promise.withResolvers<string | undefined>();
  const up = channel.makeClientStreamRequest("/test.Echo/Up", out, back, metadata, done(sum));
  for (let i = 1; i <= 10; i++) up.write(String(i));
  up.end();
  expect(await sum.promise).toBe("55");
  const both = channel.makeBidiStreamRequest("/test.Echo/Both", out, back, metadata);
  for (let i = 0; i < 5; i++) {
    both.write(String(i));
    expect(await once(both, "data")).toEqual([`${i}!`]);
  }
  both.end();
  both.resume();
  await once(both, "end");
  channel.close();
});

test("a WebSocket of a browser's kind: text, ten megabytes, ping, close", async () => {
  const protocols = ["lambda-microvms", `lambda-microvms.authentication.${token}`, "lambda-microvms.port.8080"];
  const socket = new WebSocket(`wss://${vm.endpoint}/socket`, protocols, {
    ca,
    perMessageDeflate: false,
    lookup: (_name, lookup, callback) =>
      lookup.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4),
  });
  await once(socket, "open");
  expect(socket.protocol).toBe("lambda-microvms");
  socket.send("hello");
  expect(String((await once(socket, "message"))[0])).toBe("hello");
  const large = Buffer.alloc(10 << 20, "x");
  socket.send(large);
  expect(large.equals((await once(socket, "message"))[0] as Buffer)).toBe(true);
  socket.ping("are you there");
  expect(String((await once(socket, "pong"))[0])).toBe("are you there");
  const closed = once(socket, "close");
  socket.close(4321, "done");
  const [code, reason] = await closed;
  expect([code, String(reason)]).toEqual([4321, "done"]);
});
