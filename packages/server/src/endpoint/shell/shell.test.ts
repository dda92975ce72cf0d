import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type ClientOptions, type RawData, WebSocket } from "ws";
import { ShellError } from "../../host/host-client.ts";
import type { ScriptShell } from "../../host/testing/script-shell.ts";
import { ask, type Bench, connectRaw, hostOf, readAll, startBench, tokenFor, until } from "../testing/bench.ts";
import type { StubMicrovm } from "../testing/stub-gate.ts";

let bench: Bench;
let vm: StubMicrovm;
let token: string;
beforeAll(async () => {
  bench = await startBench({ enterTimeoutMs: 300, headerTimeoutMs: 400, lingerMs: 300, maxConnectionsPerMicrovm: 3 });
});
afterAll(() => bench[Symbol.asyncDispose]());
beforeEach(async () => {
  vm = bench.gate.add();
  token = await tokenFor(bench, vm, { kind: "shell", ports: [] });
  return async () => {
    await until(vm, "left", () => vm.left === vm.entered); // nothing is kept
    for (const shell of vm.shells) expect(shell.disposed).toBe(true);
  };
});

type Received = { readonly text?: string; readonly bytes?: string };

/** The user's side. */
class User {
  readonly socket: WebSocket;
  readonly received: Received[] = [];
  readonly opened: Promise<unknown>;
  readonly closed: Promise<{ code: number; reason: string }>;
  #more = Promise.withResolvers<void>();

  constructor(protocols: string[], options: ClientOptions & { path?: string } = {}) {
    const { path = "/shell", ...rest } = options;
    this.socket = new WebSocket(`wss://${hostOf(vm)}:${bench.server.address.port}${path}`, protocols, {
      ca: bench.ca,
      perMessageDeflate: false,
      lookup: (_name, lookup, callback) =>
        lookup.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4),
      ...rest,
    });
    this.socket.on("error", () => {});
    this.opened = once(this.socket, "open");
    this.opened.catch(() => {});
    this.closed = new Promise((resolve) =>
      this.socket.once("close", (code, reason) => resolve({ code, reason: String(reason) })),
    );
    this.socket.on("message", (data: RawData, binary) => {
      this.received.push(binary ? { bytes: String(data) } : { text: String(data) });
      this.#more.resolve();
      this.#more = Promise.withResolvers();
    });
  }

  async has(messages: number): Promise<void> {
    while (this.received.length < messages) await this.#more.promise;
  }

  /** Begins a session; resolves with its shell. */
  async begin(torpor?: object): Promise<ScriptShell> {
    await this.opened;
    const shells = vm.shells.length;
    this.socket.send(JSON.stringify({ type: "session_init", session_id: "s", ...(torpor && { torpor }) }));
    await until(vm, "shell", () => vm.shells.length > shells);
    return vm.shells.at(-1)!;
  }
}

const withHeader = (more: ClientOptions & { path?: string } = {}): User =>
  new User([], { headers: { "X-aws-proxy-auth": token }, ...more });
async function refused(user: User): Promise<{ status: number; body: string; error: unknown }> {
  const [, message] = (await once(user.socket, "unexpected-response")) as [unknown, IncomingMessage];
  let body = "";
  for await (const chunk of message) body += String(chunk);
  return { status: message.statusCode ?? 0, body, error: message.headers["x-aws-proxy-error"] };
}

test("a client of the service types, resizes, reads bytes and is told when the shell has ended", async () => {
  const user = withHeader();
  const shell = await user.begin();
  expect(user.socket.protocol).toBe("");
  expect(shell.spec).toEqual({ command: [], terminal: true, columns: 0, rows: 0, term: "xterm" });
  shell.says("$ ");
  user.socket.send("ls\n");
  user.socket.send(Buffer.from("\x03"));
  user.socket.send('{"type":"resize","cols":120,"rows":40}');
  user.socket.send('{"type":"eof"}');
  user.socket.send('{"type":"resize","cols":0}');
  const typed = 'ls\n\x03{"type":"eof"}{"type":"resize","cols":0}';
  await shell.until("typed", () => shell.typed === typed);
  expect(shell.sizes).toEqual([[120, 40]]);
  expect(shell.inputEnded).toBe(false);
  shell.says("bye", "errors");
  shell.exits(3);
  expect(await user.closed).toEqual({ code: 1000, reason: "shell exited" });
  expect(user.received).toEqual([{ bytes: "$ " }, { bytes: "bye" }]);
});

test("a browser authenticates by subprotocol, at any path, and a port that it names is no matter", async () => {
  const protocols = ["lambda-microvms", `lambda-microvms.authentication.${token}`, "lambda-microvms.port.8022"];
  for (const path of ["/shell", "/", "/any?where"]) {
    const user = new User(protocols, { path });
    const shell = await user.begin();
    expect(user.socket.protocol).toBe("lambda-microvms");
    shell.exits(0);
    expect((await user.closed).code).toBe(1000);
  }
});

test("who says torpor says what to run, and hears two outputs and the exit code", async () => {
  const user = withHeader();
  const shell = await user.begin({ command: ["cat", "-"], terminal: false });
  expect(shell.spec).toMatchObject({ command: ["cat", "-"], terminal: false });
  user.socket.send(Buffer.from('{"type":"eof"}'));
  user.socket.send('{"type":"eof"}');
  await shell.until("ended", () => shell.inputEnded);
  expect(shell.typed).toBe('{"type":"eof"}'); // bytes are input, whatever they look like
  shell.says("out");
  shell.says("err", "errors");
  shell.exits(7);
  expect(await user.closed).toEqual({ code: 1000, reason: "shell exited" });
  expect(user.received).toEqual([{ bytes: "\x01out" }, { bytes: "\x02err" }, { text: '{"type":"exit","code":7}' }]);
});

test("on a terminal bytes are what they are for who says torpor too", async () => {
  const user = withHeader();
  const shell = await user.begin({ cols: 80, rows: 24, term: "xterm-256color" });
  expect(shell.spec).toEqual({ command: [], terminal: true, columns: 80, rows: 24, term: "xterm-256color" });
  shell.says("$ ");
  shell.exits(130);
  await user.closed;
  expect(user.received).toEqual([{ bytes: "$ " }, { text: '{"type":"exit","code":130}' }]);
});

test("a shell ends with its client, however it goes", async () => {
  for (const goes of [(socket: WebSocket) => socket.close(), (socket: WebSocket) => socket.terminate()]) {
    const user = withHeader();
    const shell = await user.begin();
    goes(user.socket);
    await shell.until("disposed", () => shell.disposed);
  }
  const user = withHeader();
  await user.opened; // before its session began
  user.socket.terminate();
  await user.closed;
});

test("a microvm that leaves RUNNING ends its shells, and says so", async () => {
  const users = [withHeader(), withHeader()];
  await users[0]!.begin();
  await users[1]!.opened; // its session has not begun
  vm.stop();
  for (const user of users)
    expect(await user.closed).toEqual({ code: 1001, reason: "the microvm has stopped running" });
});

test("a client that does not answer a close is cut off, and so is its shell", async () => {
  const user = withHeader();
  const shell = await user.begin();
  user.socket.pause();
  vm.stop();
  await shell.until("disposed", () => shell.disposed);
  await until(vm, "left", () => vm.left === vm.entered);
  user.socket.resume();
  await user.closed;
});

test("a guest that is gone is told as a failure", async () => {
  const user = withHeader();
  const shell = await user.begin();
  shell.breaks();
  expect(await user.closed).toEqual({ code: 1011, reason: "the connection to the guest broke" });
});

test("why there is no shell is said on the terminal, and in the close", async () => {
  vm.noShell = new ShellError("incompatible", "the image is from before there were shells\x1b[2J: build it anew");
  const user = withHeader();
  await user.opened;
  user.socket.send('{"type":"session_init","session_id":"s"}');
  const said = "no shell: the image is from before there were shells�[2J: build it anew";
  expect(await user.closed).toEqual({ code: 1011, reason: said });
  expect(user.received).toEqual([{ bytes: `torpor: ${said}\r\n` }]);

  vm.noShell = new ShellError("no_command", `cannot run ${"x".repeat(200)}`);
  const program = withHeader();
  await program.opened;
  program.socket.send('{"type":"session_init","torpor":{}}');
  const { code, reason } = await program.closed;
  expect([code, reason.length]).toEqual([1011, 123]);
  expect(JSON.parse(program.received[0]?.text ?? "")).toEqual({
    type: "error",
    reason: "no_command",
    message: `cannot run ${"x".repeat(200)}`,
  });
});

test("a fault of ours is not shown", async () => {
  vm.noShell = new Error("secret");
  const user = withHeader();
  await user.opened;
  user.socket.send('{"type":"session_init"}');
  expect(await user.closed).toEqual({ code: 1011, reason: "the connection to the guest broke" });
  expect(user.received).toEqual([]);
});

test("what is no session_init, or none in time, opens no shell", async () => {
  for (const first of ["ls\n", '{"type":"resize","cols":1,"rows":1}', Buffer.from('{"type":"session_init"}')]) {
    const user = withHeader();
    await user.opened;
    user.socket.send(first);
    expect(await user.closed).toEqual({ code: 1002, reason: "the first message is to be a session_init" });
  }
  const silent = withHeader();
  expect(await silent.closed).toEqual({ code: 1002, reason: "no session_init came" });
  expect(vm.shells).toEqual([]);
});

test("a message that is too long, or broken, ends the session", async () => {
  const user = withHeader();
  await user.begin();
  user.socket.send(Buffer.alloc(1024 * 1024 + 1));
  expect((await user.closed).code).toBe(1009);

  const other = withHeader();
  await other.begin();
  const { _socket: raw } = other.socket as unknown as { _socket: { write(bytes: Buffer): void } };
  raw.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
  expect((await other.closed).code).toBe(1002);
});

test("a shell that takes no more has its client wait", async () => {
  const user = withHeader();
  const shell = await user.begin();
  const { promise, resolve } = Promise.withResolvers<void>();
  shell.full = promise;
  const chunk = Buffer.alloc(64 * 1024, "x");
  for (let n = 0; n < 400; n++) user.socket.send(chunk);
  await shell.until("typed", () => shell.typed.length > 0);
  await new Promise((done) => setTimeout(done, 100)); // there is no event for what does not happen
  expect(shell.typed.length).toBe(chunk.length);
  expect(user.socket.bufferedAmount).toBeGreaterThan(0);
  resolve();
  await shell.until("typed", () => shell.typed.length === 400 * chunk.length);
  user.socket.close();
  await user.closed;
});

test("a client that takes no more has its shell wait", async () => {
  const user = withHeader();
  const shell = await user.begin();
  user.socket.pause();
  const chunk = Buffer.alloc(32 * 1024);
  for (let n = 0; n < 4000; n++) shell.says(chunk);
  let before = -1;
  while (shell.taken !== before) {
    before = shell.taken;
    await new Promise((done) => setTimeout(done, 50)); // there is no event for what does not happen
  }
  expect(shell.taken).toBeLessThan(2000);
  user.socket.resume();
  shell.exits(0);
  await user.closed;
  expect(shell.taken).toBe(4001);
});

test("bytes of both ways are activity, pings are none", async () => {
  const user = withHeader();
  const shell = await user.begin();
  const touched = vm.touched;
  user.socket.ping();
  await once(user.socket, "pong");
  expect(vm.touched).toBe(touched);
  user.socket.send("x");
  await shell.until("typed", () => shell.typed === "x");
  shell.says("y");
  await user.has(1);
  expect(vm.touched).toBe(touched + 2);
  user.socket.close();
  await user.closed;
});

test("what is sent before the answer is not lost", async () => {
  vm.state = "waking";
  const socket = await connectRaw(bench, hostOf(vm));
  const lines = [
    "GET /shell HTTP/1.1",
    `Host: ${hostOf(vm)}`,
    `X-aws-proxy-auth: ${token}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
  ];
  const frame = (text: string): Buffer => {
    const data = Buffer.from(text);
    return Buffer.concat([Buffer.from([0x81, 0x80 | data.length, 0, 0, 0, 0]), data]);
  };
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  socket.write(frame('{"type":"session_init"}'));
  await until(vm, "entered", () => vm.entered === 1);
  socket.write(frame("ls\n"));
  vm.wake();
  await until(vm, "shell", () => vm.shells.length === 1);
  const shell = vm.shells[0]!;
  await shell.until("typed", () => shell.typed === "ls\n");
  shell.exits(0);
  expect(await readAll(socket)).toContain("shell exited");
});

test("a suspended microvm that wakes is waited for; one that does not is a 502", async () => {
  vm.state = "waking";
  const user = withHeader();
  await until(vm, "entered", () => vm.entered === 1);
  vm.wake();
  const shell = await user.begin();
  shell.exits(0);
  await user.closed;
  for (const state of ["suspended", "terminated", "waking"] as const) {
    vm.state = state;
    expect(await refused(withHeader())).toEqual({ status: 502, body: "", error: "MICROVM_CONNECT_FAILED" });
  }
});

test("without a token for a shell of this microvm nothing is woken or opened", async () => {
  const failed = { status: 403, body: "Token authentication failed", error: "UNAUTHORIZED" };
  const other = bench.gate.add();
  const good = token;
  token = await tokenFor(bench, other, { kind: "shell", ports: [] });
  expect(await refused(withHeader())).toEqual(failed);
  token = await tokenFor(bench, vm, { kind: "shell", ports: [], expiresAt: new Date(Date.now() - 1) });
  expect(await refused(withHeader())).toEqual(failed);
  token = good;
  vm.ingress = { http: true, shell: false };
  expect(await refused(withHeader())).toEqual(failed);
  expect(await refused(new User([]))).toMatchObject({ status: 403, body: "Request missing authentication" });
  expect(vm.entered).toBe(0);
});

test("what is no WebSocket's handshake gets an empty 502 and wakes nothing", async () => {
  const nothing = { status: 502, body: "" };
  expect(await ask(bench, vm, { path: "/shell", headers: { "X-aws-proxy-auth": token } })).toMatchObject(nothing);
  for (const headers of [
    { Upgrade: "h2c" },
    { Upgrade: "websocket", "Sec-WebSocket-Version": "12", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==" },
    { Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "short" },
  ])
    expect(
      await ask(bench, vm, { headers: { "X-aws-proxy-auth": token, Connection: "Upgrade", ...headers } }),
    ).toMatchObject(nothing);
  expect(vm.entered).toBe(0);
});

test("shells are connections of the microvm: there is an end to them", async () => {
  const users = [withHeader(), withHeader(), withHeader()];
  for (const user of users) await user.begin();
  expect(await refused(withHeader())).toMatchObject({ status: 429 });
  for (const user of users) user.socket.close();
  for (const user of users) await user.closed;
});
