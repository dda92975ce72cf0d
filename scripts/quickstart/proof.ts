import { text } from "node:stream/consumers";
import { endpointRequest } from "../../packages/cli/src/endpoint-request.ts";

/** What examples/hello answers. */
export interface Hello {
  readonly memory: number;
  readonly disk: number;
  readonly background: { readonly pid: number; readonly startedAt: number; readonly count: number };
}

export interface Target {
  readonly url: URL;
  readonly token: Readonly<Record<string, string>>;
  readonly caFile: string | undefined;
}

/** In emulation on a busy machine a first request takes seconds. */
const ANSWER_MS = 60_000;

/** One request over the microvm's HTTPS endpoint. @throws Error when it is not what the example answers */
export async function ask({ url, token, caFile }: Target, signal: AbortSignal): Promise<Hello> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
  const answer = await endpointRequest({ url, method: "GET", headers: token, caFile }, deadline);
  const body = await text(answer.body);
  if (answer.status !== 200) {
    const proxy = answer.headers["x-aws-proxy-error"];
    throw new Error(`the endpoint answered ${answer.status} ${proxy ?? ""}: ${body.slice(0, 200)}`);
  }
  const hello: unknown = JSON.parse(body);
  if (!isHello(hello)) throw new Error(`not what examples/hello answers: ${body.slice(0, 200)}`);
  return hello;
}

function isHello(value: unknown): value is Hello {
  const hello = fieldsOf(value);
  const background = fieldsOf(hello.get("background"));
  const numbers = [hello.get("memory"), hello.get("disk"), background.get("pid")];
  return [...numbers, background.get("startedAt"), background.get("count")].every((n) => typeof n === "number");
}

const fieldsOf = (value: unknown): Map<string, unknown> =>
  new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);

export interface Finding {
  readonly what: string;
  readonly before: string;
  readonly after: string;
  readonly holds: boolean;
}

/** What one more request has to show after a suspension, and whether it does. */
export function compare(before: Hello, after: Hello): readonly Finding[] {
  const [was, is] = [before.background, after.background];
  const finding = (what: string, a: number, b: number, holds: boolean): Finding => ({
    what,
    before: String(a),
    after: String(b),
    holds,
  });
  return [
    finding("count in memory", before.memory, after.memory, after.memory === before.memory + 1),
    finding("count on disk", before.disk, after.disk, after.disk === before.disk + 1),
    finding("count of the background process", was.count, is.count, is.count >= was.count && was.count > 0),
    finding("its process id", was.pid, is.pid, is.pid === was.pid),
    finding("when it was started", was.startedAt, is.startedAt, is.startedAt === was.startedAt),
  ];
}
