import type { WebSocket } from "ws";
import type { Visit } from "../../control/endpoint-gate.ts";
import { type Shell, ShellError, type ShellEvent } from "../../host/host-client.ts";
import type { EndpointLimits } from "../limits.ts";
import { onAbort } from "../on-abort.ts";
import { CLOSE, type ClientParts, ShellClient } from "./client.ts";
import { parseControl, parseSessionInit, printable, type SessionInit } from "./messages.ts";

export interface SessionParts extends ClientParts {
  readonly visit: Pick<Visit, "microvmId" | "openShell" | "touch" | "closing">;
  readonly limits: Pick<EndpointLimits, "headerTimeoutMs" | "lingerMs">;
}

/** In front of each output without a terminal. */
const CHANNEL = { output: Buffer.from([1]), errors: Buffer.from([2]) } as const;

/**
 * One shell over one WebSocket, until either ends, or the microvm leaves RUNNING. Resolves when the WebSocket is closed
 * and the shell hung up. Never throws.
 */
export async function runSession(socket: WebSocket, parts: SessionParts): Promise<void> {
  const { visit, log } = parts;
  using client = new ShellClient(socket, parts);
  using _ = onAbort(visit.closing, () => client.end(CLOSE.goingAway, "the microvm has stopped running"));
  try {
    const init = await firstMessage(client, parts);
    if (init) await converse(client, init, parts);
  } catch (err) {
    if (client.open) log.warn({ err, microvmId: visit.microvmId }, "shell broken off");
    client.end(CLOSE.failed, "the connection to the guest broke");
  }
  await client.closed;
}

/** Undefined when there was none that can be used, and the client has been told. */
async function firstMessage(client: ShellClient, { limits, clock }: SessionParts): Promise<SessionInit | undefined> {
  const cancel = clock.after(limits.headerTimeoutMs, () => client.end(CLOSE.protocolError, "no session_init came"));
  try {
    const first = await client.messages.next();
    if (!first) return undefined;
    const init = first.binary ? undefined : parseSessionInit(first.data.toString("utf8"));
    if (!init) client.end(CLOSE.protocolError, "the first message is to be a session_init");
    return init;
  } finally {
    cancel();
  }
}

async function converse(client: ShellClient, init: SessionInit, { visit, log }: SessionParts): Promise<void> {
  const { microvmId } = visit;
  visit.touch();
  let opened: Shell;
  try {
    opened = await visit.openShell(init.spec, client.gone);
  } catch (err) {
    if (!(err instanceof ShellError) || !client.open) throw err;
    log.info({ microvmId, reason: err.reason, cause: err.message }, "shell refused");
    tellFailure(client, err, init.extended);
    return;
  }
  using shell = opened;
  // Who types to a shell that is cut off, or waits for its output, hears of it.
  using _ = onAbort(AbortSignal.any([client.gone, visit.closing]), () => shell[Symbol.dispose]());
  log.info({ microvmId }, "shell opened");
  const typing = type(client, shell, init.extended, visit);
  let code: number | undefined;
  try {
    code = await show(client, shell, init, visit);
  } finally {
    log.info({ microvmId, code }, "shell ended");
  }
  client.end(CLOSE.normal, "shell exited");
  shell[Symbol.dispose]();
  await typing;
}

/** Everything that the shell writes, no faster than the client takes it; then its exit code. @throws Error when either is gone */
async function show(
  client: ShellClient,
  shell: Shell,
  { spec, extended }: SessionInit,
  visit: Pick<Visit, "touch">,
): Promise<number> {
  for await (const event of shell.events()) {
    if (event.kind === "exit") {
      if (extended) await client.send(JSON.stringify({ type: "exit", code: event.code }));
      return event.code;
    }
    visit.touch();
    await client.send(outputOf(event, extended && !spec.terminal));
  }
  throw new Error("the shell's output ended without an exit");
}

/** What the client types, no faster than it is taken. Never throws: a shell that is gone says so by its output. */
async function type(
  { messages }: ShellClient,
  shell: Shell,
  extended: boolean,
  visit: Pick<Visit, "touch">,
): Promise<void> {
  try {
    for (let message = await messages.next(); message; message = await messages.next()) {
      visit.touch();
      const control = message.binary ? undefined : parseControl(message.data.toString("utf8"), extended);
      if (control?.kind === "resize") await shell.resize(control.columns, control.rows);
      else if (control?.kind === "end of input") await shell.endInput();
      else await shell.write(message.data);
    }
  } catch {
    messages.drop();
  }
}

const outputOf = (event: Exclude<ShellEvent, { kind: "exit" }>, channels: boolean): Buffer =>
  channels ? Buffer.concat([CHANNEL[event.kind], event.bytes]) : event.bytes;

/** In words that a person reads on a terminal, or for programs that asked for more. */
function tellFailure(client: ShellClient, err: ShellError, extended: boolean): void {
  const message = printable(err.message);
  const told = extended
    ? JSON.stringify({ type: "error", reason: err.reason, message })
    : Buffer.from(`torpor: no shell: ${message}\r\n`);
  client.send(told).catch(() => {}); // who is gone need not be told
  client.end(CLOSE.failed, `no shell: ${message}`);
}
