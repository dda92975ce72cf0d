import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { type Shell, ShellError, type ShellEvent, type ShellSpec } from "../host-client.ts";
import { Agent } from "./agent.ts";
import { AGENT_PORT } from "./connection.ts";
import { ANSWER, encodeFrame, FAILURE, type Frame, FrameDecoder, REQUEST, SHELL_FRAME } from "./frames.ts";

/** Ours alone on this machine: the agent's port is fixed. */
const ADDRESS = "127.46.99.11";
const never = new AbortController().signal;
const SPEC: ShellSpec = { command: [], terminal: true, columns: 80, rows: 24, term: "xterm" };
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const f of undo.splice(0).reverse()) await f();
});

/** An agent's side of a shell's connection, as a test scripts it. */
class Guest {
  readonly frames: Frame[] = [];
  readonly sockets: Socket[] = [];
  reading = true;
  #more = Promise.withResolvers<void>();

  /** @param answers to the SHELL request */
  static async start(...answers: readonly Buffer[]): Promise<Guest> {
    const guest = new Guest();
    const server = createServer((socket) => {
      guest.sockets.push(socket);
      undo.push(() => socket.destroy());
      const decoder = new FrameDecoder();
      socket.on("error", () => {});
      socket.on("close", () => guest.#told());
      socket.on("data", (chunk: Buffer) => {
        decoder.add(chunk);
        for (let frame = decoder.next(); frame; frame = decoder.next()) {
          guest.frames.push(frame);
          if (frame.type === REQUEST.shell) for (const answer of answers) socket.write(answer);
        }
        if (!guest.reading) socket.pause();
        guest.#told();
      });
    }).listen(AGENT_PORT, ADDRESS);
    undo.push(() => new Promise((resolve) => server.close(resolve)));
    await once(server, "listening");
    return guest;
  }

  #told(): void {
    this.#more.resolve();
    this.#more = Promise.withResolvers();
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await this.#more.promise;
  }
}

const RUNS = encodeFrame(REQUEST.shell | ANSWER);
const exit = (code: number): Buffer => {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(code);
  return encodeFrame(SHELL_FRAME.exit, payload);
};
const failure = (code: string, error: string): Buffer =>
  encodeFrame(FAILURE, Buffer.from(JSON.stringify({ code, error })));

async function open(spec: Partial<ShellSpec> = {}): Promise<Shell> {
  const agent = new Agent(ADDRESS);
  undo.push(() => agent.close());
  const shell = await agent.openShell({ ...SPEC, ...spec }, never);
  undo.push(() => shell[Symbol.dispose]());
  return shell;
}
const all = async (shell: Shell): Promise<ShellEvent[]> => await Array.fromAsync(shell.events());

test("a shell is asked for as it is wanted, typed to, resized, heard and ends with its exit code", async () => {
  const output = encodeFrame(SHELL_FRAME.output, Buffer.from("out"));
  const errors = encodeFrame(SHELL_FRAME.errors, Buffer.from("err"));
  const guest = await Guest.start(RUNS, output, errors);
  const shell = await open({ command: ["ls", "-l"], terminal: false, term: "xterm-256color" });
  await shell.write(Buffer.from("typed"));
  await shell.resize(120, 40);
  await shell.endInput();
  await guest.until(() => guest.frames.length === 4);
  expect(JSON.parse(guest.frames[0]!.payload.toString())).toEqual({
    command: ["ls", "-l"],
    terminal: false,
    cols: 80,
    rows: 24,
    term: "xterm-256color",
  });
  expect(guest.frames.slice(1).map(({ type, payload }) => [type, payload.toString("latin1")])).toEqual([
    [SHELL_FRAME.input, "typed"],
    [SHELL_FRAME.resize, "\0x\0("],
    [SHELL_FRAME.inputEnd, ""],
  ]);
  guest.sockets[0]!.end(exit(137));
  expect(await all(shell)).toEqual([
    { kind: "output", bytes: Buffer.from("out") },
    { kind: "errors", bytes: Buffer.from("err") },
    { kind: "exit", code: 137 },
  ]);
});

test("a shell that is disposed of is cut off, also while the guest does not read", async () => {
  const guest = await Guest.start(RUNS);
  guest.reading = false;
  const shell = await open();
  const writing = shell.write(Buffer.alloc(32 << 20));
  await guest.until(() => guest.frames.length >= 1);
  shell[Symbol.dispose]();
  await expect(writing).rejects.toThrow("closed");
  guest.reading = true;
  guest.sockets[0]!.resume();
  await guest.until(() => guest.sockets[0]!.destroyed);
  await expect(all(shell)).rejects.toThrow("closed");
  const whole = guest.frames.reduce((sum, { payload }) => sum + payload.length, 0);
  expect(whole).toBeLessThan(32 << 20);
});

test("what nobody asks for is not read", async () => {
  const guest = await Guest.start(RUNS);
  const shell = await open();
  const socket = guest.sockets[0]!;
  const frame = encodeFrame(SHELL_FRAME.output, Buffer.alloc(32 << 10));
  for (let n = 0; n < 2000; n++) socket.write(frame);
  await new Promise((resolve) => setTimeout(resolve, 100)); // there is no event for what does not happen
  expect(socket.writableLength).toBeGreaterThan(1000 * frame.length); // the kernel holds the rest
  let heard = 0;
  for await (const event of shell.events()) if (event.kind === "output" && ++heard === 2000) break;
  expect(socket.writableLength).toBe(0);
});

test.each([
  ["unknown_request", "request type 0x0b is not known", "incompatible", /before there were shells: build it anew/],
  ["no_shell", "neither of them", "no_shell", /neither of them/],
  ["exec_failed", "cannot run x", "no_command", /cannot run x/],
  ["too_many", "16 are open", "too_many", /16/],
  ["not_running", "it has ended", "unreachable", /ended/],
  ["setup_failed", "namespaces", "failed", /namespaces/],
  ["constructor", "of Object", "failed", /of Object/],
])("a guest's %s is told as it is", async (code, said, reason, message) => {
  await Guest.start(failure(code, said));
  const err = await open().catch((failed: unknown) => failed);
  expect(err).toBeInstanceOf(ShellError);
  expect(err).toMatchObject({ reason, message: expect.stringMatching(message) });
});

test.each([
  ["a frame of another kind", encodeFrame(REQUEST.hello | ANSWER)],
  ["an exit code that there is not", exit(256)],
  ["an exit without a code", encodeFrame(SHELL_FRAME.exit)],
  ["a frame that is too long", Buffer.from([0xff, 0xff, 0xff, 0xff, 0x90])],
])("%s among a shell's is refused", async (_, frame) => {
  await Guest.start(RUNS, frame);
  await expect(all(await open())).rejects.toThrow(/frame/);
});

test("a guest that goes without an exit is no exit", async () => {
  const guest = await Guest.start(RUNS);
  const shell = await open();
  guest.sockets[0]!.destroy();
  await expect(all(shell)).rejects.toThrow("closed the connection");
});

test("whoever gives up waits no longer", async () => {
  const guest = await Guest.start();
  const agent = new Agent(ADDRESS);
  const abort = new AbortController();
  const opening = agent.openShell(SPEC, abort.signal);
  await guest.until(() => guest.frames.length === 1);
  abort.abort(new Error("enough"));
  await expect(opening).rejects.toThrow("enough");
  await guest.until(() => guest.sockets[0]!.destroyed);
});
