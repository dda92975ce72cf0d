/**
 * A tour that checks itself: builds examples/hello, runs it, suspends it, wakes it with a request, and fails unless
 * everything went on from where it was. scripts/quickstart.sh prepares the machine and calls it.
 */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import {
  CreateMicrovmAuthTokenCommand,
  GetMicrovmCommand,
  LambdaMicrovmsClient,
  paginateListMicrovms,
  RunMicrovmCommand,
  SuspendMicrovmCommand,
  TerminateMicrovmCommand,
} from "@aws-sdk/client-lambda-microvms";
import { S3Client } from "@aws-sdk/client-s3";
import { receiptRow } from "../packages/cli/src/command/watch.ts";
import { endpointUrl, imageName } from "../packages/cli/src/names.ts";
import { type Clients, ensureImage } from "./quickstart/image.ts";
import { ask, compare, type Target } from "./quickstart/proof.ts";
import { type Server, startServer } from "./quickstart/server.ts";
import { pollUntil, Report } from "./quickstart/show.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const DATA_DIR = join(ROOT, ".torpor/quickstart");
/** The microvm of this run, for the next one to end if we are killed. */
const MICROVM_FILE = join(DATA_DIR, "quickstart-microvm");
const CLEANUP_MS = 60_000;

const { values: flags } = parseArgs({ options: { keep: { type: "boolean", default: false } } });
const report = new Report();
const abort = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.once(name, () => {
    report.step(`${name}: cleaning up`);
    abort.abort(new Error(`stopped by ${name}`));
  });

try {
  await tour(abort.signal);
} catch (err) {
  const why = abort.signal.aborted ? abort.signal.reason : err;
  process.stderr.write(`quickstart: ${why instanceof Error ? why.message : String(why)}\n`);
  if (!abort.signal.aborted) process.stderr.write(`try: ./bin/torpor doctor, and ${join(DATA_DIR, "server.log")}\n`);
  process.exitCode = abort.signal.aborted ? 130 : 1;
}

async function tour(signal: AbortSignal): Promise<void> {
  report.step("start a server");
  const server = await report.timed("start the server", () =>
    startServer(DATA_DIR, (text) => report.say(text), signal),
  );
  let keep = false;
  try {
    report.say(`API ${server.connection.endpointUrl}, data in ${DATA_DIR}`);
    const { isolation, accelerator } = await server.client.host(signal);
    report.say(
      `isolation: ${isolation} (${accelerator})${isolation === "emulated" ? ": not a security boundary" : ""}`,
    );
    const clients = awsClients(server);
    await endLeftover(clients, signal);

    report.step("build the image examples/hello");
    const image = await ensureImage(join(ROOT, "examples/hello"), server, clients, report, signal);

    const begun = new Date();
    try {
      const id = await run(image, clients, signal);
      const target = await open(id, server, clients, signal);
      await prove(id, target, clients, signal);
      await showReceipts(id, image, server, signal);
      keep = flags.keep;
      if (keep) sayKept(id, target, image);
    } finally {
      if (!keep) await terminateSince(begun, image, clients);
    }
  } finally {
    if (!keep && !server.wasRunning) await server.stop();
  }
  if (!keep) sayNext();
}

/** AWS's own clients, pointed at the server and otherwise as they come. */
function awsClients({ connection }: Server): Clients {
  const { endpointUrl: endpoint, region, credentials } = connection;
  return {
    microvms: new LambdaMicrovmsClient({ endpoint, region, credentials }),
    s3: new S3Client({ endpoint, region, credentials, forcePathStyle: true }),
  };
}

async function run(imageIdentifier: string, { microvms }: Clients, signal: AbortSignal): Promise<string> {
  report.step("run a microvm");
  return report.timed("run a microvm", async () => {
    const started = await microvms.send(
      new RunMicrovmCommand({
        imageIdentifier,
        idlePolicy: { maxIdleDurationSeconds: 300, suspendedDurationSeconds: 3600, autoResumeEnabled: true },
      }),
      { abortSignal: signal },
    );
    const id = started.microvmId;
    if (id === undefined) throw new Error("RunMicrovm gave no id");
    await writeFile(MICROVM_FILE, id);
    report.say(id);
    await untilState(id, "RUNNING", microvms, signal);
    return id;
  });
}

async function open(id: string, server: Server, { microvms }: Clients, signal: AbortSignal): Promise<Target> {
  const vm = await microvms.send(new GetMicrovmCommand({ microvmIdentifier: id }), { abortSignal: signal });
  const { authToken } = await report.timed("mint a token", () =>
    microvms.send(
      new CreateMicrovmAuthTokenCommand({
        microvmIdentifier: id,
        expirationInMinutes: 30,
        allowedPorts: [{ port: 8080 }],
      }),
      { abortSignal: signal },
    ),
  );
  if (vm.endpoint === undefined || authToken === undefined) throw new Error("no endpoint, or no token");
  return { url: endpointUrl(server.connection, vm.endpoint), token: authToken, caFile: server.connection.caFile };
}

async function prove(id: string, target: Target, { microvms }: Clients, signal: AbortSignal): Promise<void> {
  report.step(`call ${target.url.href}`);
  let before = await report.timed("first request", () => ask(target, signal));
  report.say(JSON.stringify(before));
  for (let i = 0; i < 2; i++) {
    before = await report.timed("another request", () => ask(target, signal));
    report.say(JSON.stringify(before));
  }

  report.step("suspend it");
  await report.timed("suspend", async () => {
    await microvms.send(new SuspendMicrovmCommand({ microvmIdentifier: id }), { abortSignal: signal });
    await untilState(id, "SUSPENDED", microvms, signal);
  });
  report.say("SUSPENDED: its memory and disk are files now; its process stands by for a while, or is gone");
  await sleep(1000, undefined, { signal });

  report.step("call it again: the request wakes it");
  const after = await report.timed("request that wakes it", () => ask(target, signal));
  report.say(JSON.stringify(after));
  const findings = compare(before, after);
  const rows = findings.map((f) => [f.what, f.before, f.after, f.holds ? "went on" : "WRONG"]);
  report.say("");
  for (const line of report.out.table(["", "BEFORE", "AFTER", ""], rows).split("\n")) report.say(line);
  const wrong = findings.filter((f) => !f.holds);
  if (wrong.length > 0) throw new Error(`not as it was before the suspension: ${wrong.map((f) => f.what).join(", ")}`);
}

async function showReceipts(id: string, image: string, server: Server, signal: AbortSignal): Promise<void> {
  const built = await server.client.buildReceipt({ imageIdentifier: image, imageVersion: "1.0" }, signal);
  const receipts = [built, ...(await server.client.receipts(id, signal))];
  report.step("what it took, as the client saw it");
  process.stdout.write(`${report.stepTable()}\n`);
  report.step("what it took, as the server's receipts say");
  const head = ["OPERATION", "STARTED", "MS", "PHASES", "READ", "WRITTEN", "REUSED"];
  process.stdout.write(`${report.out.table(head, receipts.map(receiptRow))}\n`);
  for (const operation of ["build", "launch", "suspend", "resume"])
    if (!receipts.some((receipt) => receipt.operation === operation)) throw new Error(`no receipt for ${operation}`);
}

async function untilState(id: string, state: string, microvms: LambdaMicrovmsClient, signal: AbortSignal) {
  await pollUntil(async () => {
    const vm = await microvms.send(new GetMicrovmCommand({ microvmIdentifier: id }), { abortSignal: signal });
    if (vm.state === "TERMINATING" || vm.state === "TERMINATED")
      throw new Error(`${id} has ended: ${vm.stateReason ?? vm.state}`);
    return vm.state === state ? true : undefined;
  }, signal);
}

async function terminate(id: string, { microvms }: Clients, signal: AbortSignal): Promise<void> {
  await microvms.send(new TerminateMicrovmCommand({ microvmIdentifier: id }), { abortSignal: signal });
  await pollUntil(async () => {
    const vm = await microvms.send(new GetMicrovmCommand({ microvmIdentifier: id }), { abortSignal: signal });
    return vm.state === "TERMINATED" ? true : undefined;
  }, signal);
}

/** This run's microvm, even when the answer that would have named it never came. */
async function terminateSince(begun: Date, imageIdentifier: string, clients: Clients): Promise<void> {
  const signal = AbortSignal.timeout(CLEANUP_MS);
  const pages = paginateListMicrovms({ client: clients.microvms }, { imageIdentifier }, { abortSignal: signal });
  for await (const { items } of pages)
    for (const { microvmId, state, startedAt } of items ?? [])
      if (microvmId !== undefined && state !== "TERMINATED" && startedAt !== undefined && startedAt >= begun)
        await terminate(microvmId, clients, signal);
  await rm(MICROVM_FILE, { force: true });
}

/** A run that was killed could not end its microvm; one that was kept is replaced by this run's. */
async function endLeftover(clients: Clients, signal: AbortSignal): Promise<void> {
  const id = await readFile(MICROVM_FILE, "utf8").catch(() => "");
  if (id === "") return;
  report.say(`ending ${id} of an earlier run`);
  await terminate(id, clients, AbortSignal.any([signal, AbortSignal.timeout(CLEANUP_MS)])).catch((err: unknown) => {
    signal.throwIfAborted();
    if (!(err instanceof Error && err.name === "ResourceNotFoundException")) throw err;
  });
  await rm(MICROVM_FILE, { force: true });
}

function sayKept(id: string, target: Target, image: string): void {
  report.step("the server goes on running");
  report.say(`export TORPOR_DATA_DIR=${DATA_DIR}`);
  report.say(`./bin/torpor call ${id} /         (its URL: ${target.url.href})`);
  report.say(`./bin/torpor run ${imageName(image)}`);
  report.say('eval "$(./bin/torpor env)"       for AWS SDKs and the AWS CLI in this shell');
  report.say(`./bin/torpor rm ${id}`);
  report.say(`kill $(cat ${join(DATA_DIR, "server.pid")})    stops the server`);
}

function sayNext(): void {
  report.step("everything went on from where it was");
  report.say("scripts/quickstart.sh --keep     the same, and the server goes on running");
  report.say("./bin/torpor serve               a server with its data in the usual place");
  report.say("./bin/torpor image build DIR     an image of your own Dockerfile");
}
