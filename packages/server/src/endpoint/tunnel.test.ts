import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { createServer as createTcpServer, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type ClientOptions, WebSocket, WebSocketServer } from "ws";
import {
  ask,
  type Bench,
  connectRaw,
  DOMAIN,
  hostOf,
  readAll,
  serveApp,
  startBench,
  tokenFor,
  until,
} from "./testing/bench.ts";
import type { StubMicrovm } from "./testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let token: string;
beforeAll(async () => {
  bench = await startBench({ enterTimeoutMs: 200 });
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  token = await tokenFor(bench, vm);
  return async () => {
    await until(vm, "left", () => vm.left === vm.entered);
    await until(vm, "streamClosed", () => vm.streams.size === 0);
  };
});

const auth = () => ({ "X-aws-proxy-auth": token });
const viaProtocols = (...more: string[]) => ["lambda-microvms", `lambda-microvms.authentication.${token}`, ...more];

interface App extends AsyncDisposable {
  readonly requests: IncomingMessage[];
  readonly sockets: WebSocketServer;
}
/** A WebSocket app that sends back what it gets; it chooses a subprotocol if it knows one. */
async function echoApp(known: string[] = []): Promise<App> {
  const app = createServer((_req, res) => res.writeHead(426).end("upgrade, please"));
  const requests: IncomingMessage[] = [];
  const handleProtocols = (offered: Set<string>) => known.find((protocol) => offered.has(protocol)) ?? false;
  const sockets = new WebSocketServer({ server: app, handleProtocols, maxPayload: 64 << 20 });
  sockets.on("connection", (socket, req) => {
    requests.push(req);
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.on("error", () => {});
  });
  const serving = await serveApp(vm, app);
  return { requests, sockets, [Symbol.asyncDispose]: () => serving[Symbol.asyncDispose]() };
}

function dial(protocols: string[], options: ClientOptions & { path?: string } = {}): WebSocket {
  const { path = "/", ...rest } = options;
  return new WebSocket(`wss://${hostOf(vm)}:${bench.server.address.port}${path}`, protocols, {
    ca: bench.ca,
    perMessageDeflate: false,
    lookup: (_name, lookup, callback) =>
      lookup.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4),
    ...rest,
  });
}
async function opened(socket: WebSocket): Promise<WebSocket> {
  await once(socket, "open");
  return socket;
}
/** The answer that came instead of a switch. */
async function refusal(socket: WebSocket): Promise<{ status: number; body: string; error: unknown }> {
  const [, message] = (await once(socket, "unexpected-response")) as [unknown, IncomingMessage];
  let body = "";
  for await (const chunk of message) body += String(chunk);
  return { status: message.statusCode ?? 0, body, error: message.headers["x-aws-proxy-error"] };
}
async function closed(socket: WebSocket): Promise<void> {
  const done = once(socket, "close");
  socket.close();
  await done;
}

test("a WebSocket with header authentication echoes", async () => {
  await using app = await echoApp();
  const socket = await opened(dial([], { headers: auth(), path: "/chat?room=1" }));
  expect(socket.protocol).toBe("");
  socket.send("hello");
  expect(String((await once(socket, "message"))[0])).toBe("hello");
  await closed(socket);
  expect(app.requests[0]?.url).toBe("/chat?room=1");
  expect(app.requests[0]?.headers).toMatchObject({ host: `${hostOf(vm)}:${bench.server.address.port}` });
  expect(JSON.stringify(app.requests[0]?.rawHeaders)).not.toContain("x-aws-proxy");
  expect(app.requests[0]?.headers["x-amzn-requestid"]).toMatch(/^[0-9a-f-]{36}$/);
});

test("ten megabytes in one message come back whole", async () => {
  await using _ = await echoApp();
  const socket = await opened(dial([], { headers: auth(), maxPayload: 64 << 20 }));
  const data = randomBytes(10 << 20);
  socket.send(data);
  const [back] = (await once(socket, "message")) as [Buffer];
  expect(createHash("sha256").update(back).digest("hex")).toBe(createHash("sha256").update(data).digest("hex"));
  await closed(socket);
});

test("text, binary, empty and fragmented messages, pings, pongs and close codes pass as they are", async () => {
  await using app = await echoApp();
  const socket = await opened(dial([], { headers: auth() }));
  const [atApp] = app.sockets.clients;
  for (const [sent, isBinary] of [
    ["h\u00e9llo", false],
    [Buffer.from([0, 255, 128]), true],
    ["", false],
  ] as const) {
    socket.send(sent);
    const [back, binary] = await once(socket, "message");
    expect([Buffer.from(back), binary]).toEqual([Buffer.from(sent as string), isBinary]);
  }
  socket.send("in ", { fin: false });
  socket.send("parts", { fin: true });
  expect(String((await once(socket, "message"))[0])).toBe("in parts");
  socket.ping("to the app");
  expect(String((await once(socket, "pong"))[0])).toBe("to the app");
  atApp?.ping("to the client");
  expect(String((await once(atApp ?? socket, "pong"))[0])).toBe("to the client");
  const atClient = once(socket, "close");
  atApp?.close(4001, "app's own reason");
  const [code, reason] = await atClient;
  expect([code, String(reason)]).toEqual([4001, "app's own reason"]);
  const second = await opened(dial([], { headers: auth() }));
  const seen = once([...app.sockets.clients].at(-1) ?? second, "close");
  second.close(1000);
  expect((await seen)[0]).toBe(1000);
});

test("a stream to the guest need not be a socket", async () => {
  await using _ = await echoApp();
  vm.distant = true;
  const socket = await opened(dial([], { headers: auth() }));
  socket.send("hello");
  expect(String((await once(socket, "message"))[0])).toBe("hello");
  await closed(socket);
});

test("a browser's WebSocket authenticates by subprotocol, and the app sees none of it", async () => {
  await using app = await echoApp();
  const socket = await opened(dial(viaProtocols()));
  expect(socket.protocol).toBe("lambda-microvms");
  await closed(socket);
  expect(app.requests[0]?.headers).not.toHaveProperty("sec-websocket-protocol");
});

test("the app sees its own subprotocols and its choice counts", async () => {
  await using app = await echoApp(["v2"]);
  const socket = await opened(dial(["v1", ...viaProtocols("lambda-microvms.port.8080"), "v2"]));
  expect(socket.protocol).toBe("v2");
  await closed(socket);
  expect(app.requests[0]?.headers["sec-websocket-protocol"]).toBe("v1, v2");
});

test("an app that chooses nothing: our marker where it was offered, nothing otherwise", async () => {
  await using _ = await echoApp();
  const marked = await opened(dial(["v1", ...viaProtocols()]));
  expect(marked.protocol).toBe("lambda-microvms");
  await closed(marked);
  const unmarked = dial(["v1"], { headers: auth() });
  const [err] = (await once(unmarked, "error")) as [Error];
  expect(err.message).toBe("Server sent no subprotocol"); // as from the app itself
});

test("the port comes from the header, then the subprotocol, then is 8080", async () => {
  await using _ = await echoApp();
  vm.ports.set(9001, vm.ports.get(8080) ?? 0);
  vm.ports.delete(8080);
  token = await tokenFor(bench, vm, { ports: [{ from: 9001, to: 9001 }] });
  const denied = { status: 403, body: "Access to port denied", error: "UNAUTHORIZED" };
  await closed(await opened(dial(viaProtocols("lambda-microvms.port.9001"))));
  const header = { "X-aws-proxy-port": "9001" };
  await closed(await opened(dial(viaProtocols("lambda-microvms.port.1"), { headers: header })));
  const wrong = { "X-aws-proxy-port": "1" };
  expect(await refusal(dial(viaProtocols("lambda-microvms.port.9001"), { headers: wrong }))).toEqual(denied);
  expect(await refusal(dial(viaProtocols()))).toEqual(denied);
});

test("the header token wins over the subprotocol's", async () => {
  await using _ = await echoApp();
  const other = await tokenFor(bench, bench.gate.add());
  expect(await refusal(dial(viaProtocols(), { headers: { "X-aws-proxy-auth": other } }))).toMatchObject({
    body: "Token authentication failed",
  });
  expect(await refusal(dial(viaProtocols(), { headers: { "X-aws-proxy-auth": "" } }))).toMatchObject({
    body: "Request missing authentication",
  });
  const good = ["lambda-microvms", `lambda-microvms.authentication.${other}`];
  await closed(await opened(dial(good, { headers: auth() })));
});

test("refusals come at the HTTP stage and wake nothing", async () => {
  const missing = { status: 403, body: "Request missing authentication", error: "UNAUTHORIZED" };
  const failed = { ...missing, body: "Token authentication failed" };
  expect(await refusal(dial([]))).toEqual(missing);
  expect(await refusal(dial(["lambda-microvms"]))).toEqual(missing);
  expect(await refusal(dial(["lambda-microvms", "lambda-microvms.authentication.x"]))).toEqual(missing);
  // Without the marker the other two mean nothing; two tokens are none.
  expect(await refusal(dial([`lambda-microvms.authentication.${token}`]))).toEqual(missing);
  const second = await tokenFor(bench, vm);
  expect(await refusal(dial(viaProtocols(`lambda-microvms.authentication.${second}`)))).toEqual(missing);
  const other = await tokenFor(bench, bench.gate.add());
  expect(await refusal(dial(["lambda-microvms", `lambda-microvms.authentication.${other}`]))).toEqual(failed);
  for (const port of ["x", "0", "65536"])
    expect(await refusal(dial(viaProtocols(`lambda-microvms.port.${port}`)))).toMatchObject({ status: 400 });
  const twice = viaProtocols("lambda-microvms.port.8080", "lambda-microvms.port.8081");
  expect(await refusal(dial(twice))).toMatchObject({ status: 400 });
  expect(vm.entered).toBe(0);
});

test("no app, or no microvm: 502 with its reason", async () => {
  vm.ports.set(8080, 1);
  expect(await refusal(dial(viaProtocols()))).toEqual({ status: 502, body: "", error: "APP_CONNECT_FAILED" });
  vm.state = "suspended";
  expect(await refusal(dial(viaProtocols()))).toEqual({ status: 502, body: "", error: "MICROVM_CONNECT_FAILED" });
  vm.state = "waking"; // for ever
  expect(await refusal(dial(viaProtocols()))).toEqual({ status: 502, body: "", error: "MICROVM_CONNECT_FAILED" });
});

test("an upgrade wakes the microvm, too", async () => {
  await using _ = await echoApp();
  vm.state = "waking";
  vm.once("entered", () => setImmediate(() => vm.wake()));
  await closed(await opened(dial(viaProtocols())));
});

test("a client that gives up while the microvm wakes is noticed", async () => {
  vm.state = "waking";
  const socket = dial(viaProtocols());
  socket.on("error", () => {});
  await once(vm, "entered");
  socket.terminate();
  await until(vm, "left", () => vm.left === 1);
});

test("an app that declines to switch is heard", async () => {
  const app = createServer((_req, res) => res.end());
  app.on("upgrade", (_req, socket) => socket.end("HTTP/1.1 401 Who\r\nX-App: 1\r\nContent-Length: 4\r\n\r\nwho?"));
  await using _ = await serveApp(vm, app);
  expect(await refusal(dial(viaProtocols()))).toEqual({ status: 401, body: "who?", error: undefined });
});

test("an app that cannot switch answers like to any request", async () => {
  await using _ = await serveApp(
    vm,
    createServer((_req, res) => res.writeHead(200).end("plain")),
  );
  expect(await refusal(dial(viaProtocols()))).toMatchObject({ status: 200, body: "plain" });
});

test("a microvm that leaves RUNNING, and an app that dies, cut the tunnel", async () => {
  await using app = await echoApp();
  const first = await opened(dial([], { headers: auth() }));
  const firstClosed = once(first, "close");
  vm.stop("running");
  expect((await firstClosed)[0]).toBe(1006);
  const second = await opened(dial([], { headers: auth() }));
  const secondClosed = once(second, "close");
  for (const client of app.sockets.clients) client.terminate();
  expect((await secondClosed)[0]).toBe(1006);
});

test("a client that vanishes takes the app's side with it", async () => {
  await using app = await echoApp();
  const socket = await opened(dial([], { headers: auth() }));
  const [atApp] = app.sockets.clients;
  const gone = once(atApp ?? socket, "close");
  socket.terminate();
  await gone;
});

test("both directions count as activity", async () => {
  await using app = await echoApp();
  const socket = await opened(dial([], { headers: auth() }));
  const [atApp] = app.sockets.clients;
  for (const ping of [() => socket.ping(), () => atApp?.ping()]) {
    const before = vm.touched;
    ping();
    await until(vm, "touched", () => vm.touched > before);
  }
  await closed(socket);
});

/** An app that switches to whatever it is asked for and then hands its socket over. */
const switchingApp = (then: (socket: Socket) => void) =>
  serveApp(
    vm,
    createTcpServer({ allowHalfOpen: true }, (socket) => {
      socket.on("error", () => {});
      socket.once("data", () => {
        socket.write("HTTP/1.1 101 Sure\r\nConnection: Upgrade\r\nUpgrade: bytes\r\nX-aws-proxy-x: 1\r\n\r\nfirst ");
        then(socket);
      });
    }),
  );
const upgradeTo = (protocol: string, more = "") =>
  `GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n${more}\r\n`;

/** Resolves when the text has come; ended earlier, Node's TLS client would drop what came with it. */
async function heard(socket: TLSSocket, text: string): Promise<void> {
  let so = "";
  while (!so.includes(text)) so += (await once(socket, "data"))[0];
}

test("any protocol is tunnelled, with what was sent too early, and each side ends by itself", async () => {
  await using _ = await switchingApp((socket) => {
    let text = "";
    socket.on("data", (chunk) => {
      text += chunk;
    });
    socket.on("end", () => socket.end(`you said ${text}`));
  });
  const client = await connectRaw(bench, hostOf(vm));
  client.write(`${upgradeTo("bytes")}early `);
  const all = readAll(client);
  await heard(client, "first ");
  client.end("late");
  expect(await all).toBe(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: bytes\r\nConnection: Upgrade\r\n\r\nfirst you said early late",
  );
});

test("a tunnel that is half closed and silent is ended", async () => {
  await using hasty = await startBench({ halfClosedTimeoutMs: 50 });
  hasty.gate.microvms.push(vm);
  token = await tokenFor(hasty, vm);
  await using _ = await switchingApp((socket) => socket.resume());
  const client = await connectRaw(hasty, hostOf(vm));
  client.write(upgradeTo("bytes"));
  const all = readAll(client);
  await heard(client, "first ");
  client.end();
  expect(await all).toContain("first ");
});

test("a request with a body does not switch: it is relayed as it would be without", async () => {
  await using _ = await serveApp(
    vm,
    createServer((req, res) => {
      res.setHeader("X-Upgrade", String(req.headers.upgrade));
      req.pipe(res);
    }),
  );
  const client = await connectRaw(bench, hostOf(vm));
  const head = upgradeTo("bytes", "Content-Length: 5\r\n")
    .replace("GET", "POST")
    .replace("Upgrade\r", "Upgrade, close\r");
  client.write(`${head}hello`);
  expect(await readAll(client)).toMatch(/^HTTP\/1.1 200 .*X-Upgrade: undefined\r\n.*hello/s);
});

test("an upgrade behind an unanswered request ends the connection", async () => {
  await using _ = await serveApp(
    vm,
    createServer(() => {}),
  );
  const client = await connectRaw(bench, hostOf(vm));
  client.write(`GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nX-aws-proxy-auth: ${token}\r\n\r\n${upgradeTo("bytes")}`);
  expect(await readAll(client)).toBe("");
});

test("a client that talks on before it is let in is cut off", async () => {
  vm.state = "waking";
  const client = await connectRaw(bench, hostOf(vm));
  client.write(upgradeTo("bytes"));
  await once(vm, "entered");
  client.write(Buffer.alloc(1 << 20));
  expect(await readAll(client)).toBe("");
});

test("malformed upgrades are refused like other requests", async () => {
  const client = await connectRaw(bench, hostOf(vm));
  client.write(upgradeTo("bytes", `Host: ${DOMAIN}\r\n`));
  expect(await readAll(client)).toMatch(/^HTTP\/1.1 400 /);
  expect(await ask(bench, vm, { headers: auth(), servername: hostOf(bench.gate.add()) })).toMatchObject({
    status: 421,
  });
});
