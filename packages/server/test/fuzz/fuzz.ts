import { setTimeout as sleep } from "node:timers/promises";
import {
  CreateMicrovmImageCommand,
  GetMicrovmImageCommand,
  ListMicrovmsCommand,
  RunMicrovmCommand,
} from "@aws-sdk/client-lambda-microvms";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { FakeHostServer, UNTHROTTLED } from "../fake-host/server.ts";
import { type FuzzRequest, fuzzRequests, type Targets } from "./requests.ts";
import { type Answer, exchange, written } from "./wire.ts";

export interface FuzzOptions {
  readonly requests: number;
  readonly seed: number;
  /** Only the one with this number, as in a report. */
  readonly only?: number;
  readonly say?: (text: string) => void;
}

export interface FuzzReport {
  readonly sent: number;
  /** How often each status came; 0: no answer, which is right for half a request. */
  readonly statuses: Readonly<Record<string, number>>;
  /** Of the server, in bytes, beginning when it was warm. */
  readonly memory: readonly number[];
  readonly failure?: Failure;
}

export interface Failure {
  readonly number: number | undefined;
  readonly reason: string;
  /** As text: what is not printable ASCII is escaped. */
  readonly request?: string;
  readonly answer?: string;
  /** The end of the server's log. */
  readonly log: string;
}

const AT_ONCE = 16;
const BATCH = 500;
const ANSWER_MS = 10_000;
/** For requests whose end the server has to wait for. */
const HALF_ANSWER_MS = 60;
/** The server's heap; a leak ends it. */
const HEAP_MIB = 128;
/** For what is young, small, so that memory tells what is kept and not how busy the server was. */
const YOUNG_MIB = 8;
/** What memory may grow by when it is warm: V8 takes its time before it gives back. */
const MOST_GROWTH = 48 * 2 ** 20;

/**
 * Sends nonsense to a server of its own, on the loopback, until one of the requests brings out what must not be: a
 * status of 500 and more, no answer, the server's end, or memory that does not come back.
 */
export async function fuzz({ requests, seed, only, say = () => {} }: FuzzOptions): Promise<FuzzReport> {
  await using server = await FakeHostServer.start({
    settings: { ...UNTHROTTLED, "max-microvms": "100" },
    nodeArgs: [`--max-old-space-size=${HEAP_MIB}`, `--max-semi-space-size=${YOUNG_MIB}`],
  });
  const arbitrary = fuzzRequests(await prepare(server));
  const statuses: Record<string, number> = {};
  const memory: number[] = [];
  let sent = 0;
  let failure: Failure | undefined;
  const attempt = async (request: FuzzRequest, number: number): Promise<void> => {
    const bytes = written(request, server.credentials, new Date());
    const whole = hasAnEnd(request);
    const endless = (head: string): boolean => /\/logs?\b/.test(request.target) && head.startsWith("HTTP/1.1 200");
    const answer = await exchange(server.port, bytes, whole ? ANSWER_MS : HALF_ANSWER_MS, endless);
    sent++;
    const status = String(answer.status ?? 0);
    statuses[status] = (statuses[status] ?? 0) + 1;
    const reason = server.alive ? problemOf(answer, whole) : "the server has ended";
    if (reason === undefined || failure) return;
    failure = { number, reason, request: shown(bytes), answer: shown(answer.head + answer.body), log: server.log };
  };
  for (let first = 0; first < requests && !failure; first += BATCH) {
    const size = Math.min(BATCH, requests - first);
    const batch = fc.sample(arbitrary, { numRuns: size, seed: seed + first });
    const queue = [...batch.entries()].filter(([i]) => only === undefined || first + i === only);
    const worker = async (): Promise<void> => {
      for (let next = queue.shift(); next && !failure; next = queue.shift()) await attempt(next[1], first + next[0]);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    if (server.alive && first + size >= requests / 4) memory.push(await server.memory());
    if ((first / BATCH) % 20 === 19) say(`${sent} requests, ${Math.round((memory.at(-1) ?? 0) / 2 ** 20)} MiB`);
  }
  failure ??= await ended(server, memory);
  return { sent, statuses, memory, ...(failure && { failure }) };
}

/** An image, and microvms of it: what there is for requests to be about. */
async function prepare(server: FakeHostServer): Promise<Targets> {
  const { endpointUrl: endpoint, region, ...credentials } = server.credentials;
  const s3 = new S3Client({ endpoint, region, credentials });
  const client = server.client();
  await s3.send(new CreateBucketCommand({ Bucket: "artifacts" }));
  await s3.send(new PutObjectCommand({ Bucket: "artifacts", Key: "app.zip", Body: "a zip" }));
  const { imageArn } = await client.send(
    new CreateMicrovmImageCommand({
      name: "fuzzed",
      baseImageArn: `arn:aws:lambda:${region}:aws:microvm-image:al2023-1`,
      buildRoleArn: "arn:aws:iam::000000000000:role/build",
      codeArtifact: { uri: "s3://artifacts/app.zip" },
    }),
  );
  for (let state: string | undefined; state !== "CREATED"; await sleep(20)) {
    ({ state } = await client.send(new GetMicrovmImageCommand({ imageIdentifier: imageArn })));
    if (state === "CREATE_FAILED") throw new Error(`the image for the fuzzer was not built:\n${server.log}`);
  }
  const microvms = [];
  for (let n = 0; n < 8; n++) {
    const { microvmId } = await client.send(new RunMicrovmCommand({ imageIdentifier: imageArn }));
    microvms.push(microvmId!);
  }
  s3.destroy();
  client.destroy();
  return { images: [imageArn!], microvms };
}

/** What tells how long it is has not been bent: an answer must come. */
function hasAnEnd({ framing, headers }: FuzzRequest): boolean {
  const telling = /^(content-length|transfer-encoding|expect|upgrade|connection)$/;
  return (framing === "length" || framing === "chunks") && !headers.some(([name]) => telling.test(name));
}

/** @param whole the request was one that has an end, so that there must be an answer */
function problemOf({ status, head, body, ended }: Answer, whole: boolean): string | undefined {
  if (status === undefined) return whole && !ended ? "no answer" : undefined;
  // Modelled: the host is full. And S3's word for what it does not know.
  const foreseen = /InsufficientCapacityException/i.test(head) || (status === 501 && body.includes("NotImplemented"));
  if (status >= 500 && !foreseen) return `status ${status}`;
  if (/\.[jt]s:\d+/.test(body)) return "the answer tells where in the source it comes from";
  // S3 has no such header, and gives back what it was given.
  const ours = /^x-amzn-requestid: /im.test(head) && /^content-type: application\/json/im.test(head);
  if (ours && body !== "" && !isJson(body)) return "the answer is not JSON";
  return undefined;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(Buffer.from(text, "latin1").toString("utf8"));
    return true;
  } catch {
    return false;
  }
}

/** What can only be said at the end. */
async function ended(server: FakeHostServer, memory: readonly number[]): Promise<Failure | undefined> {
  const { log } = server;
  const failed = (reason: string): Failure => ({ number: undefined, reason, log });
  if (!server.alive) return failed("the server has ended");
  const client = server.client();
  try {
    await client.send(new ListMicrovmsCommand({}));
  } catch (err) {
    return failed(`after all that, ListMicrovms fails: ${err}`);
  } finally {
    client.destroy();
  }
  const error = log.split("\n").find((line) => line.includes('"level":"error"'));
  if (error) return failed(`the server has logged an error: ${error}`);
  const quarter = Math.ceil(memory.length / 4);
  const least = (samples: readonly number[]): number => Math.min(...samples);
  const growth = least(memory.slice(-quarter)) - least(memory.slice(0, quarter));
  if (growth > MOST_GROWTH) return failed(`memory has grown by ${Math.round(growth / 2 ** 20)} MiB`);
  return undefined;
}

const shown = (bytes: Buffer | string): string => {
  const text = typeof bytes === "string" ? bytes : bytes.toString("latin1");
  const visible = text.replace(/[^\x20-\x7e\n]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`);
  return visible.length <= 6000 ? visible : `${visible.slice(0, 3000)}…${visible.slice(-3000)} (${text.length} bytes)`;
};
