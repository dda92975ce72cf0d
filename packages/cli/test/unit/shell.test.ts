import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type WebSocket, WebSocketServer } from "ws";
import { ID, listen, microvm, torpor } from "./torpor.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-shell-"));
  const files = ["-keyout", join(dir, "key.pem"), "-out", join(dir, "ca.pem")];
  const name = ["-subj", "/CN=test", "-addext", "subjectAltName=DNS:*.lambda-microvm.eu-west-1.localhost"];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
  execFileSync("openssl", ["req", ...kind, ...files, ...name], { stdio: "ignore" });
});
afterAll(() => rm(dir, { recursive: true }));

interface Init {
  readonly type: string;
  readonly torpor: { command: string[]; terminal: boolean; cols: number; rows: number; term: string };
}
/** What a test's shell does with one message. */
interface Talk {
  readonly socket: WebSocket;
  readonly init: Init;
  readonly request: IncomingMessage;
  shows(text: string, stream?: 1 | 2): void;
  exits(code: number): void;
}
type Script = (talk: Talk, message: { readonly text: string; readonly binary: boolean } | undefined) => void;

/** A microvm's endpoint with a shell, and the API that leads there. `script` gets undefined first, then each message. */
async function endpoint(script: Script | { readonly status: number }, vm: Parameters<typeof microvm> = ["RUNNING"]) {
  const server = createServer({ key: await readFile(join(dir, "key.pem")), cert: await readFile(join(dir, "ca.pem")) });
  if (typeof script === "function") {
    const sockets = new WebSocketServer({ server });
    sockets.on("connection", (socket, request) => {
      socket.once("message", (first) => {
        const init = JSON.parse(String(first)) as Init;
        const talk: Talk = {
          socket,
          init,
          request,
          shows: (text, stream = 1) =>
            socket.send(Buffer.concat([Buffer.from(init.torpor.terminal ? [] : [stream]), Buffer.from(text)])),
          exits: (code) => {
            socket.send(JSON.stringify({ type: "exit", code }));
            socket.close(1000, "shell exited");
          },
        };
        socket.on("message", (data, binary) => script(talk, { text: String(data), binary }));
        script(talk, undefined);
      });
    });
  } else
    server.on("upgrade", (_req, socket) =>
      socket.end(
        `HTTP/1.1 ${script.status} x\r\nx-aws-proxy-error: MICROVM_CONNECT_FAILED\r\nContent-Length: 0\r\n\r\n`,
      ),
    );
  await once(server.listen(0, "127.0.0.1"), "listening");
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const [state, more] = vm;
  const api = await listen(({ method, path, body }, response) => {
    if (method === "GET")
      return microvm(state, { endpoint: `9a41.lambda-microvm.eu-west-1.localhost:${port}`, ...more });
    if (path.endsWith("/shell-auth-token") && JSON.parse(body).expirationInMinutes === 1)
      return { authToken: { "X-aws-proxy-auth": "the.token" } };
    return response.writeHead(404).end();
  });
  return {
    api,
    env: api.env,
    [Symbol.asyncDispose]: async () => {
      await api[Symbol.asyncDispose]();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
const shell = (...args: string[]): string[] => ["shell", ID, "--ca-file", join(dir, "ca.pem"), ...args];

test("a command has this process's input, outputs and exit code", async () => {
  let typed = "";
  await using vm = await endpoint((talk, message) => {
    if (!message) {
      expect(talk.request.url).toBe("/shell");
      expect(talk.request.headers["x-aws-proxy-auth"]).toBe("the.token");
      expect(talk.init).toMatchObject({
        type: "session_init",
        torpor: { command: ["cat", "-n", "a b"], terminal: false },
      });
    } else if (message.binary) typed += message.text;
    else {
      expect(JSON.parse(message.text)).toEqual({ type: "eof" });
      talk.shows("out\n");
      talk.shows("err\n", 2);
      talk.shows(typed.toUpperCase());
      talk.exits(7);
    }
  });
  const ran = await torpor(shell("--", "cat", "-n", "a b"), vm.env, "~.typed\n~.");
  expect(ran).toEqual({ code: 7, stdout: "out\n~.TYPED\n~.", stderr: "err\n" });
});

test("much output is whole, also when it is read slowly", async () => {
  const chunk = "0123456789abcdef".repeat(2048);
  await using vm = await endpoint((talk, message) => {
    if (message) return;
    for (let n = 0; n < 200; n++) talk.shows(chunk);
    talk.exits(0);
  });
  const ran = await torpor(shell("--", "yes"), vm.env);
  expect([ran.code, ran.stdout.length, ran.stdout === chunk.repeat(200)]).toEqual([0, 200 * chunk.length, true]);
});

test.each([
  [1001, "the microvm has stopped running", "the microvm has stopped running\ntry: torpor show"],
  [1011, "the connection to the guest broke", "the connection to the guest broke"],
  [1000, "shell exited", "shell exited"], // without having said with which code
])("a shell that is ended from elsewhere (%d) is no success", async (code, reason, said) => {
  await using vm = await endpoint((talk) => talk.socket.close(code, reason));
  const ran = await torpor(shell(), vm.env);
  expect(ran).toMatchObject({ code: 255, stderr: expect.stringContaining(said) });
});

test("a connection that breaks, and a server that talks nonsense, are no success", async () => {
  await using vm = await endpoint((talk) => {
    for (const text of ["{", "null", '{"type":"exit","code":"0"}', '{"type":"exit","code":256}'])
      talk.socket.send(text);
    talk.socket.send(Buffer.alloc(0));
    talk.socket.terminate();
  });
  const ran = await torpor(shell(), vm.env);
  expect(ran).toMatchObject({ code: 255, stdout: "", stderr: expect.stringContaining("the connection broke") });
});

test("why there is no shell is said, and what to do", async () => {
  await using vm = await endpoint((talk) => {
    talk.socket.send(JSON.stringify({ type: "error", reason: "incompatible", message: "the image is too old" }));
    talk.socket.close(1011, "no shell");
  });
  const ran = await torpor(shell(), vm.env);
  expect(ran.code).toBe(255);
  expect(ran.stderr).toBe(
    "torpor: the image is too old\ntry: torpor image update DIR, and torpor run with its next version\n",
  );
});

test("one that is suspended and does not wake by itself is not asked for a shell", async () => {
  const idlePolicy = { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 60, autoResumeEnabled: false };
  await using vm = await endpoint({ status: 502 }, ["SUSPENDED", { idlePolicy }]);
  const ran = await torpor(shell(), vm.env);
  expect(ran).toMatchObject({
    code: 255,
    stderr: `torpor: ${ID} is suspended, and does not wake by itself\ntry: torpor resume ${ID}, and the same command again\n`,
  });
  expect(vm.api.asked).toHaveLength(1);
});

test("a refusal of the endpoint is said with its reason", async () => {
  await using vm = await endpoint({ status: 502 });
  const ran = await torpor(shell(), vm.env);
  expect(ran.code).toBe(255);
  expect(ran.stderr).toContain("the endpoint answered 502 (MICROVM_CONNECT_FAILED)\ntry: torpor show");
});

test("a microvm that lets no shells in says how to start one that does", async () => {
  await using api = await listen(({ method }, response) => {
    if (method === "GET") return microvm("RUNNING");
    const message = "Shell access requires SHELL_INGRESS to be configured on the MicroVM";
    return response.writeHead(400, { "x-amzn-errortype": "ValidationException" }).end(JSON.stringify({ message }));
  });
  const ran = await torpor(shell(), api.env);
  expect(ran).toMatchObject({ code: 255, stderr: expect.stringContaining("try: torpor run IMAGE --shell-ingress") });
});

test("run --shell-ingress lets shells in, and requests as before", async () => {
  await using server = await listen(({ method, body }) => {
    if (method === "GET") return microvm("RUNNING");
    expect(JSON.parse(body).ingressNetworkConnectors).toEqual(
      ["HTTP_INGRESS", "SHELL_INGRESS"].map(
        (name) => `arn:aws:lambda:eu-west-1:aws:network-connector:aws-network-connector:${name}`,
      ),
    );
    return microvm("PENDING");
  });
  const ran = await torpor(["run", "demo", "--shell-ingress"], server.env);
  expect(ran).toMatchObject({ code: 0, stderr: `next: torpor shell ${ID}\n` });
});

/** The program on a terminal of its own (that of `script`), 90 by 30. Its settings before and after are printed. */
async function onTerminal(
  vm: { readonly env: NodeJS.ProcessEnv },
  keys: (screen: () => string) => AsyncGenerator<string>,
  beside = "",
) {
  const command = [process.execPath, "--disable-warning=ExperimentalWarning", MAIN, ...shell()]
    .map((w) => `'${w}'`)
    .join(" ");
  const inner = `stty cols 90 rows 30; stty -g; ${beside} ${command}; echo "code=$?"; stty -g`;
  const child = spawn(
    "script",
    ["-q", "-e", "-c", `sh -c ${JSON.stringify(inner).replaceAll("$", "\\$")}`, "/dev/null"],
    {
      env: {
        PATH: process.env.PATH,
        HOME: "/nonexistent",
        TORPOR_DATA_DIR: "/nonexistent",
        TERM: "xterm-256color",
        ...vm.env,
      },
    },
  );
  let screen = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    screen += text;
  });
  const done = once(child, "close");
  void (async () => {
    for await (const key of keys(() => screen)) child.stdin.write(key);
  })();
  await done;
  const settings = [...screen.matchAll(/^[0-9a-f]+(?::[0-9a-f]+){10,}/gm)].map(([line]) => line);
  return { screen, settings, code: Number(/code=(\d+)/.exec(screen)?.[1]) };
}

/** Waits until the screen shows it. */
async function shown(screen: () => string, text: string): Promise<void> {
  while (!screen().includes(text)) await new Promise((resolve) => setTimeout(resolve, 10));
}

test("on a terminal keys go through as they are pressed, the size is told, and the terminal is given back", async () => {
  const typed: string[] = [];
  const seen: Init["torpor"][] = [];
  await using vm = await endpoint((talk, message) => {
    if (!message) {
      seen.push(talk.init.torpor);
      talk.shows("ready$ ");
    } else if (message.binary) {
      typed.push(message.text);
      if (message.text.includes("\x03")) talk.shows("interrupted\r\n");
      if (message.text.includes("q")) talk.exits(42);
    }
  });
  const { screen, settings, code } = await onTerminal(vm, async function* (now) {
    await shown(now, "ready$ ");
    yield "\x03";
    await shown(now, "interrupted");
    yield "q";
  });
  expect(code, screen).toBe(42);
  expect(seen).toEqual([{ command: [], terminal: true, cols: 90, rows: 30, term: "xterm-256color" }]);
  expect(typed).toEqual(["\x03", "q"]);
  expect(settings).toHaveLength(2);
  expect(settings[0]).toBe(settings[1]);
});

test("a terminal that changes its size says so", async () => {
  // stty sets one after the other: a size in between may be told, too.
  const said = '{"type":"resize","cols":120,"rows":40}';
  await using vm = await endpoint((talk, message) => {
    if (!message) talk.shows("ready$ ");
    else if (!message.binary && message.text === said) talk.exits(0);
  });
  const go = join(dir, "resize");
  const resize = `(while [ ! -e '${go}' ]; do sleep 0.05; done; stty cols 120 rows 40 </dev/tty) &`;
  const { code, screen } = await onTerminal(
    vm,
    async function* (now) {
      await shown(now, "ready$ ");
      await writeFile(go, "");
      yield* [];
    },
    resize,
  );
  expect(code, screen).toBe(0);
});

test("~. ends the connection and gives the terminal back, ~? helps", async () => {
  const closed = Promise.withResolvers<void>();
  await using vm = await endpoint((talk, message) => {
    if (message) return;
    talk.socket.once("close", () => closed.resolve());
    talk.shows("ready$ ");
  });
  const { screen, settings, code } = await onTerminal(vm, async function* (now) {
    await shown(now, "ready$ ");
    yield "~?";
    await shown(now, "ends the connection");
    yield "~.";
  });
  await closed.promise;
  expect(code, screen).toBe(255);
  expect(screen).toContain(`connection to ${ID} ended`);
  expect(settings[0]).toBe(settings[1]);
});

test("a terminal is given back when the connection breaks", async () => {
  await using vm = await endpoint((talk, message) => {
    if (message) talk.socket.terminate();
    else talk.shows("ready$ ");
  });
  const { screen, settings, code } = await onTerminal(vm, async function* (now) {
    await shown(now, "ready$ ");
    yield "x";
  });
  expect(code, screen).toBe(255);
  expect(screen).toContain("torpor: the connection broke");
  expect(settings[0]).toBe(settings[1]);
});
