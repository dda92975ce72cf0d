import { readFile } from "node:fs/promises";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { Argument, type Command } from "commander";
import { endpointRequest } from "../endpoint-request.ts";
import { Failure, usage } from "../failure.ts";
import { endpointUrl } from "../names.ts";
import { type CommonFlags, clientCommand, openSession, type Session, several, whole } from "../session.ts";
import { mintToken, TOKEN_HEADER } from "./token.ts";

interface CallFlags extends CommonFlags {
  readonly request?: string;
  readonly header?: readonly string[];
  readonly data?: string;
  readonly port: number;
  readonly include?: boolean;
}

export function callCommand(signal: AbortSignal): Command {
  return clientCommand("call", "one HTTPS request to a microvm, with a fresh token; wakes it where its policy says so")
    .addArgument(new Argument("<id>"))
    .addArgument(new Argument("[path]", "path and query").default("/"))
    .option("-X, --request <method>", "default: GET, or POST with --data")
    .option("-H, --header <name: value>", "a header to send (several)", several)
    .option("-d, --data <text>", "body; @FILE reads a file, @- reads stdin")
    .option("-p, --port <port>", "port in the microvm", whole(1, 65535), 8080)
    .option("-i, --include", "print status and headers too")
    .action((id: string, path: string, flags: CallFlags) => call(id, path, flags, openSession(flags, signal)));
}

async function call(id: string, path: string, flags: CallFlags, session: Session): Promise<void> {
  const { client, connection, out, signal } = session;
  const headers = headersOf(flags.header ?? []);
  const body = await bodyOf(flags.data);
  const vm = await client.call("GetMicrovm", { microvmIdentifier: id }, signal);
  const token = await mintToken(id, [flags.port], 5, session);
  const answer = await endpointRequest(
    {
      url: new URL(path.startsWith("/") ? path : `/${path}`, endpointUrl(connection, vm.endpoint)),
      method: flags.request?.toUpperCase() ?? (body === undefined ? "GET" : "POST"),
      headers: { ...headers, [TOKEN_HEADER]: token, "X-aws-proxy-port": String(flags.port) },
      caFile: connection.caFile,
      ...(body === undefined ? {} : { body }),
    },
    signal,
  );
  if (out.json) {
    const content = (await buffer(answer.body)).toString("utf8");
    out.result({ status: answer.status, headers: answer.headers, body: content }, () => "");
  } else {
    if (flags.include) process.stdout.write(headOf(answer.status, answer.body.rawHeaders));
    await pipeline(answer.body, process.stdout, { end: false, signal });
  }
  if (answer.status < 400) return;
  const proxy = answer.headers["x-aws-proxy-error"];
  const who = proxy === undefined ? "the workload" : `the endpoint (${String(proxy)})`;
  throw new Failure(
    `${who} answered ${answer.status}`,
    proxy === undefined ? `torpor logs ${id}` : `torpor show ${id}, and torpor resume ${id} if it is SUSPENDED`,
  );
}

function headersOf(lines: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf(":");
      if (at < 1) throw usage(`not a header: ${line}`, "-H 'Name: value'");
      return [line.slice(0, at).trim(), line.slice(at + 1).trim()];
    }),
  );
}

async function bodyOf(data: string | undefined): Promise<Uint8Array | undefined> {
  if (data === undefined) return undefined;
  if (data === "@-") return buffer(process.stdin);
  return data.startsWith("@") ? readFile(data.slice(1)) : Buffer.from(data);
}

function headOf(status: number, rawHeaders: readonly string[]): string {
  const lines = [`HTTP ${status}`];
  for (let i = 0; i < rawHeaders.length; i += 2) lines.push(`${rawHeaders[i]}: ${rawHeaders[i + 1]}`);
  return `${lines.join("\n")}\n\n`;
}
