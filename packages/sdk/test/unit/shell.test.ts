import { once } from "node:events";
import type { AddressInfo } from "node:net";
import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { type WebSocket, WebSocketServer } from "ws";
import { openShell, type ShellEvent, type ShellOptions, type ShellSession } from "../../src/shell.ts";
import { parseServerText } from "../../src/shell-messages.ts";

const never = new AbortController().signal;
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const f of undo.splice(0).reverse()) await f();
});

/** A shell, and the server's end of it. */
async function open(
  options: ShellOptions = {},
  signal = never,
): Promise<{ shell: ShellSession; server: WebSocket; init: unknown }> {
  const sockets = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  undo.push(() => new Promise((resolve) => sockets.close(resolve)));
  await once(sockets, "listening");
  const arrived = once(sockets, "connection");
  const url = new URL(`ws://127.0.0.1:${(sockets.address() as AddressInfo).port}/shell`);
  const shell = await openShell({ url, token: "the.token" }, options, signal);
  undo.push(() => shell[Symbol.dispose]());
  const [server, request] = (await arrived) as [WebSocket, { headers: Record<string, string> }];
  undo.push(() => server.terminate());
  expect(request.headers["x-aws-proxy-auth"]).toBe("the.token");
  const [first] = (await once(server, "message")) as [Buffer];
  return { shell, server, init: JSON.parse(String(first)) };
}
const all = (shell: ShellSession): Promise<ShellEvent[]> => Array.fromAsync(shell.events());

test("a session says what it wants, and its outputs are apart without a terminal", async () => {
  const { shell, server, init } = await open({ command: ["ls"], terminal: false, term: "\x1b[2J" });
  expect(init).toMatchObject({
    type: "session_init",
    torpor: { command: ["ls"], terminal: false, cols: 0, rows: 0, term: "xterm" },
  });
  for (const text of ["\x01out", "\x02err", "\x03?"]) server.send(Buffer.from(text));
  server.send('{"type":"exit","code":3}');
  server.close(1000, "shell exited");
  const shown = (await all(shell)).map((e) =>
    e.kind === "exit" ? e.code : [e.stream, Buffer.from(e.bytes).toString()],
  );
  expect(shown).toEqual([["stdout", "out"], ["stderr", "err"], ["stdout", "?"], 3]);
});

test("on a terminal bytes are what they are; keys, sizes and an end go the other way", async () => {
  const { shell, server, init } = await open({ columns: 80, rows: 24, term: "xterm-256color" });
  expect(init).toMatchObject({ torpor: { terminal: true, cols: 80, rows: 24, term: "xterm-256color" } });
  const heard: [string, boolean][] = [];
  const three = new Promise<void>((resolve) =>
    server.on("message", (data, binary) => heard.push([String(data), binary]) === 3 && resolve()),
  );
  await shell.write(Buffer.from("\x03"));
  await shell.resize(120, 40);
  await shell.endInput();
  await three;
  expect(heard).toEqual([
    ["\x03", true],
    ['{"type":"resize","cols":120,"rows":40}', false],
    ['{"type":"eof"}', false],
  ]);
  server.send(Buffer.from("\x02x"));
  server.send('{"type":"exit","code":0}');
  expect(await all(shell)).toMatchObject([{ stream: "stdout", bytes: Buffer.from("\x02x") }, { code: 0 }]);
});

test("what nobody asks for waits at the server", async () => {
  const { shell, server } = await open();
  const chunk = Buffer.alloc(64 * 1024);
  for (let n = 0; n < 1000; n++) server.send(chunk);
  await new Promise((resolve) => setTimeout(resolve, 100)); // there is no event for what does not happen
  expect(server.bufferedAmount).toBeGreaterThan(500 * chunk.length); // the kernel holds the rest
  server.send('{"type":"exit","code":0}');
  expect(await all(shell)).toHaveLength(1001);
});

test("an abort ends it with its reason, and a disposal for good", async () => {
  const abort = new AbortController();
  const { shell, server } = await open({}, abort.signal);
  const over = once(server, "close");
  const hearing = all(shell);
  abort.abort(new Error("enough"));
  await expect(hearing).rejects.toThrow("enough");
  await over;
  await shell.write(Buffer.from("to nobody"));

  const other = await open();
  const gone = once(other.server, "close");
  other.shell[Symbol.dispose]();
  await gone;
  await expect(all(other.shell)).rejects.toMatchObject({ name: "ShellError", reason: "broken" });
});

test("an endpoint that is not there is unreachable", async () => {
  const door = { url: new URL("ws://127.0.0.1:1/shell"), token: "t" };
  await expect(openShell(door, {}, never)).rejects.toMatchObject({ name: "UnreachableError" });
  await expect(openShell(door, {}, AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
});

test("no text of a server's breaks its client, and codes are codes", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.record({ type: fc.constant("exit"), code: fc.anything() }).map((v) => JSON.stringify(v) ?? ""),
      ),
      (text) => {
        const said = parseServerText(text);
        if (said && "kind" in said)
          expect(Number.isInteger(said.code) && said.code >= 0 && said.code <= 255).toBe(true);
      },
    ),
    { numRuns: 1000 },
  );
});
