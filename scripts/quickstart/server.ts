import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Connection, resolveConnection } from "../../packages/cli/src/connection.ts";
import { TorporClient } from "../../packages/sdk/src/index.ts";

const SERVER_MAIN = fileURLToPath(new URL("../../packages/server/src/main.ts", import.meta.url));
const API_PORT = 4700;
const ENDPOINT_PORT = 4743;
/** The first start may have to find out whether KVM works, by booting a guest. */
const START_TIMEOUT_MS = 180_000;
/** Longer than the server takes to let requests end. */
const STOP_TIMEOUT_MS = 30_000;

export interface Server {
  readonly connection: Connection;
  readonly client: TorporClient;
  /** True when an earlier `--keep` had left it running: then it is not ours to stop. */
  readonly wasRunning: boolean;
  readonly logFile: string;
  stop(): Promise<void>;
}

/** A server of the quickstart's own: the one that still runs on its data directory, or a new one. */
export async function startServer(dataDir: string, say: (text: string) => void, signal: AbortSignal): Promise<Server> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const logFile = join(dataDir, "server.log");
  const pidFile = join(dataDir, "server.pid");
  const running = await findRunning(dataDir, signal);
  if (running !== undefined) {
    say(`a server runs already, on ${running.connection.endpointUrl}`);
    return { ...running, wasRunning: true, logFile, stop: async () => {} };
  }
  const apiPort = await choosePort("API", API_PORT, say);
  const endpointPort = await choosePort("endpoint", ENDPOINT_PORT, say);
  await using log = await open(logFile, "w", 0o600);
  const args = ["--disable-warning=ExperimentalWarning", SERVER_MAIN, "serve", "--data-dir", dataDir];
  const child = spawn(
    process.execPath,
    [...args, "--api-port", String(apiPort), "--endpoint-port", String(endpointPort)],
    // A session of its own: Ctrl-C is for us, and we end the microvms before we end the server.
    { stdio: ["ignore", log.fd, log.fd], detached: true },
  );
  const stop = async (): Promise<void> => {
    await stopProcess(child);
    await rm(pidFile, { force: true });
  };
  try {
    await writeFile(pidFile, `${child.pid}\n`);
    const found = await untilHealthy(child, dataDir, logFile, signal);
    child.unref();
    return { ...found, wasRunning: false, logFile, stop };
  } catch (err) {
    await stop();
    throw err;
  }
}

/** The server that answers to this data directory's own key: another one may have taken its port meanwhile. */
async function findRunning(
  dataDir: string,
  signal: AbortSignal,
): Promise<Pick<Server, "connection" | "client"> | undefined> {
  try {
    const connection = connectionOf(dataDir);
    const client = clientOf(connection);
    await client.host(AbortSignal.any([signal, AbortSignal.timeout(3000)]));
    return { connection, client };
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

/** From the credentials file alone, whatever the environment says. */
function connectionOf(dataDir: string): Connection {
  return resolveConnection(
    { dataDir },
    {
      endpointUrl: undefined,
      s3EndpointUrl: undefined,
      region: undefined,
      accessKeyId: undefined,
      secretAccessKey: undefined,
      sessionToken: undefined,
      accountId: undefined,
      dataDir: undefined,
      home: undefined,
      term: undefined,
      path: "",
      noColor: true,
    },
    false,
  );
}

const clientOf = ({ endpointUrl, region, credentials }: Connection): TorporClient =>
  new TorporClient({ endpointUrl, region, credentials });

async function untilHealthy(child: ChildProcess, dataDir: string, logFile: string, signal: AbortSignal) {
  const ended = new Promise<never>((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code, by) => {
      reject(new Error(`the server ended while it started (${by ?? `exit status ${code}`})`));
    });
  });
  ended.catch(() => {}); // it will end one day
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
  const healthy = (async () => {
    for (;;) {
      const found = await findRunning(dataDir, deadline);
      if (found !== undefined) return found;
      await sleep(100, undefined, { signal: deadline });
    }
  })();
  healthy.catch(() => {}); // when the server ends first
  try {
    return await Promise.race([healthy, ended]);
  } catch (err) {
    signal.throwIfAborted();
    const tail = (await readFile(logFile, "utf8")).trimEnd().split("\n").slice(-15).join("\n");
    throw new Error(`${err instanceof Error ? err.message : String(err)}; the end of ${logFile}:\n${tail}`);
  }
}

async function choosePort(what: string, preferred: number, say: (text: string) => void): Promise<number> {
  const port = (await tryPort(preferred)) ?? (await tryPort(0));
  if (port === undefined) throw new Error(`no free port for the ${what}`);
  if (port !== preferred) say(`port ${preferred} is in use: the ${what} takes ${port}`);
  return port;
}

/** The port, when it is free now. */
async function tryPort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" ? address?.port : undefined));
    });
  });
}

/** SIGTERM, and SIGKILL for a server that does not end in time. */
async function stopProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  child.ref();
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  await gone;
  clearTimeout(timer);
}
