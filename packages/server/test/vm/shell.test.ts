import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { CreateMicrovmShellAuthTokenCommand } from "@aws-sdk/client-lambda-microvms";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { AWAKE_ON_REQUEST, buildImage, HELLO, microvmState, RunningMicrovm, suspend, terminate } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";

const CLI = fileURLToPath(new URL("../../../cli/src/main.ts", import.meta.url));
const WITH_SHELLS = {
  ...AWAKE_ON_REQUEST,
  ingressNetworkConnectors: ["HTTP_INGRESS", "SHELL_INGRESS"].map(
    (name) => `arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:${name}`,
  ),
};

let server: TestServer;
let image: string;
let vm: RunningMicrovm;
beforeAll(async () => {
  server = await TestServer.start();
  image = await buildImage(server, "hello", HELLO);
  vm = await RunningMicrovm.run(server, image, WITH_SHELLS);
});
afterAll(() => server?.[Symbol.asyncDispose]());

/** A client of the service's: what it knows, and no more. */
class Terminal {
  readonly socket: WebSocket;
  readonly closed: Promise<{ code: number; reason: string }>;
  shown = "";

  private constructor(socket: WebSocket) {
    this.socket = socket;
    this.closed = new Promise((resolve) =>
      socket.once("close", (code, reason) => resolve({ code, reason: reason.toString() })),
    );
    socket.on("error", () => {});
    socket.on("message", (data, binary) => {
      expect(binary).toBe(true);
      this.shown += String(data);
    });
  }

  static async open(): Promise<Terminal> {
    const { authToken } = await server.api.send(
      new CreateMicrovmShellAuthTokenCommand({ microvmIdentifier: vm.id, expirationInMinutes: 5 }),
    );
    const socket = new WebSocket(`wss://${vm.endpoint}/shell`, {
      headers: authToken!,
      ca: await readFile(server.credentials.caFile),
      lookup: (_name, lookup, done) =>
        lookup.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4),
    });
    const terminal = new Terminal(socket);
    await once(socket, "open");
    socket.send(JSON.stringify({ type: "session_init", session_id: crypto.randomUUID() }));
    return terminal;
  }

  /** Waits until the terminal shows it. What is typed is shown too: ask for what only running it makes. */
  async shows(what: string): Promise<void> {
    await eventually(`${what} on the terminal, which shows ${JSON.stringify(this.shown)}`, async () =>
      this.shown.includes(what) ? true : undefined,
    );
    this.shown = "";
  }

  types(keys: string): void {
    this.socket.send(keys);
  }
}

/** The CLI as users start it. */
async function torpor(args: readonly string[], input = ""): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", CLI, ...args], {
    env: { ...process.env, TORPOR_DATA_DIR: server.dataDir },
  });
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close") as Promise<[number]>,
  ]);
  return { code, stdout, stderr };
}

/** How many processes of that command line there are in the container. */
async function running(commandLine: string): Promise<number> {
  const list = "for c in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$c; echo; done 2>/dev/null";
  const { stdout } = await torpor(["shell", vm.id, "--", "sh", "-c", `${list} | grep -c '^${commandLine}'`]);
  return Number(stdout);
}

test("a shell has a prompt, a terminal with a size, job control, and an end", async () => {
  const terminal = await Terminal.open();
  await terminal.shows("# "); // root's prompt
  terminal.types("stty -echo; echo at $(tty), $(id -u), $TERM, size $(stty size)\n");
  await terminal.shows("at /dev/pts/0, 0, xterm, size 0 0");
  terminal.types('{"type":"resize","cols":120,"rows":40}');
  terminal.types("echo size $(stty size)\n");
  await terminal.shows("size 40 120");
  terminal.types("sh -c 'echo begun; exec sleep 1000'\n");
  await terminal.shows("begun");
  terminal.types("\x03");
  terminal.types("echo code $?\n");
  await terminal.shows("code 130");
  terminal.types("tr '\\0' ' ' </proc/1/cmdline; echo\n"); // in the workload's container
  await terminal.shows("python3");
  terminal.types("exit 5\n");
  expect(await terminal.closed).toEqual({ code: 1000, reason: "shell exited" });
});

test("a command has its input, its outputs and its exit code", async () => {
  const ran = await torpor(["shell", vm.id, "--", "sh", "-c", "cat; echo error >&2; exit 9"], "in\0put");
  expect(ran).toEqual({ code: 9, stdout: "in\0put", stderr: "error\n" });
  expect(await torpor(["shell", vm.id, "--", "no-such-program"])).toMatchObject({
    code: 255,
    stderr: expect.stringContaining('cannot run "no-such-program"'),
  });
});

test("what a shell has started ends with its connection", async () => {
  const terminal = await Terminal.open();
  await terminal.shows("# ");
  terminal.types("stty -echo; sleep 4242 & nohup sleep 4243 >/dev/null 2>&1 & sleep 4244\n");
  await eventually("three processes", async () => ((await running("sleep 424[234]")) === 3 ? true : undefined));
  terminal.socket.terminate();
  await eventually("their end", async () => ((await running("sleep 424[234]")) === 0 ? true : undefined));
  expect((await vm.hello()).memory).toBeGreaterThan(0); // the workload goes on
});

test("a suspend ends shells, and a shell wakes what sleeps", async () => {
  const terminal = await Terminal.open();
  await terminal.shows("# ");
  terminal.types("echo before > /dev/shm/note; sleep 4245\n");
  await eventually("the note", async () => ((await running("sleep 4245")) === 1 ? true : undefined));
  await suspend(server, vm);
  expect(await terminal.closed).toEqual({ code: 1001, reason: "the microvm has stopped running" });
  const ran = await torpor(["shell", vm.id, "--", "cat", "/dev/shm/note"]);
  expect(ran).toEqual({ code: 0, stdout: "before\n", stderr: "" });
  expect(await microvmState(server, vm.id)).toBe("RUNNING");
  await eventually("the end of what ran then", async () => ((await running("sleep 4245")) === 0 ? true : undefined));
  await terminate(server, vm);
});

test("one that does not wake by itself is left asleep, and one that lets no shells in says how to", async () => {
  const asleep = await RunningMicrovm.run(server, image, {
    ...WITH_SHELLS,
    idlePolicy: { ...AWAKE_ON_REQUEST.idlePolicy, autoResumeEnabled: false },
  });
  await asleep.hello(); // it runs
  await suspend(server, asleep);
  expect(await torpor(["shell", asleep.id])).toMatchObject({
    code: 255,
    stderr: expect.stringContaining(`try: torpor resume ${asleep.id}`),
  });
  expect(await microvmState(server, asleep.id)).toBe("SUSPENDED");
  const closed = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  expect(await torpor(["shell", closed.id])).toMatchObject({
    code: 255,
    stderr: expect.stringContaining("torpor run IMAGE --shell-ingress"),
  });
  await terminate(server, asleep, closed);
});
