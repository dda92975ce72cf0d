import type { Duplex } from "node:stream";
import { z } from "zod";
import { ConnectError, type HookFailure, type HookName, type Shell, type ShellSpec } from "../host-client.ts";
import { AgentConnection, AgentError } from "./connection.ts";
import { ANSWER, encodeFrame, encodeIdentity, type GuestIdentity, REQUEST } from "./frames.ts";
import { openAgentShell } from "./shell.ts";

export const PROTOCOL_VERSION = 1;

/** What runs in the guest, as its Dockerfile and the image's configuration say. */
export interface ContainerStart {
  readonly argv: readonly string[];
  /** `NAME=value` */
  readonly env: readonly string[];
  readonly user: string;
  readonly workdir: string;
  readonly capabilities: "default" | "all";
  readonly hostname: string;
}

const helloReply = z.object({
  protocol: z.number().int(),
  version: z.string().max(64),
  workload: z.object({ state: z.enum(["none", "running", "exited"]), exitCode: z.number().int().optional() }),
});
export type Hello = z.infer<typeof helloReply>;

const listeningReply = z.union([
  z.object({ exitCode: z.number().int() }),
  z.object({ port: z.number().int().nullable() }),
]);
const hookReply = z.union([
  z.object({ status: z.number().int() }),
  z.object({ failure: z.enum(["refused", "timeout", "failed"]) }),
]);

const event = z.object({
  seq: z.number().int().nonnegative(),
  time: z.number(),
  kind: z.enum(["stdout", "stderr", "exit", "lost"]),
  text: z.string().optional(),
  exitCode: z.number().int().optional(),
  lines: z.number().int().optional(),
});
export type AgentEvent = z.infer<typeof event>;

/** How much longer than the guest's own time-out the host waits for the answer. */
const REPLY_SLACK_MS = 2000;
const QUICK_MS = 10_000;
/** An agent gives up after 2 s. */
const FREEZE_MS = 4000;

/** A guest that does not take a connection by then is asked to when somebody needs one. */
const SPARE_MS = 1000;

/**
 * The agent of one guest, for as long as its VMM lives. What users wait for (identity, freeze, forward) goes over a
 * connection that is there already: the one that froze the workload, or a spare one, made when nobody waits. All else
 * dials. Asking these three once more does no harm, so a kept connection that turns out to have ended costs a dial.
 */
export class Agent {
  readonly #address: string;
  readonly #closed = new AbortController();
  /** Over which the workload was frozen: its end would thaw it. */
  #freezer: AgentConnection | undefined;
  #spare: AgentConnection | undefined;
  #dialling = false;

  /** @param ended resolves when the VMM has ended: nothing is kept from then on */
  constructor(address: string, ended?: Promise<unknown>) {
    this.#address = address;
    void ended?.then(() => this.close());
  }

  /** Keeps no connection any more: the VMM has ended, or is left to another daemon. */
  close(): void {
    this.#closed.abort();
    this.#freezer?.[Symbol.dispose]();
    this.#spare?.[Symbol.dispose]();
    this.#freezer = undefined;
    this.#spare = undefined;
  }

  /** @param timeoutMs of a guest that is still to boot, more than others have */
  async hello(signal: AbortSignal, timeoutMs = QUICK_MS): Promise<Hello> {
    const reply = await this.#ask(REQUEST.hello, undefined, timeoutMs, signal);
    const hello = helloReply.parse(JSON.parse(reply.toString("utf8")));
    if (hello.protocol !== PROTOCOL_VERSION) throw new Error(`agent protocol ${hello.protocol} is not known`);
    return hello;
  }

  /** The clone is somebody else from here on. Until this resolves, no traffic may reach it. */
  async assumeIdentity(identity: GuestIdentity, signal: AbortSignal): Promise<void> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(QUICK_MS)]);
    const request = encodeIdentity(identity);
    const kept = this.#freezer ?? this.#takeSpare();
    this.#freezer = undefined; // its end thaws no more, or the caller ends the guest
    const [line] = await this.#askOver(kept, limited, (l) => l.request(REQUEST.identity, request, limited));
    this.#keep(line);
  }

  async start(container: ContainerStart, signal: AbortSignal): Promise<void> {
    await this.#ask(REQUEST.start, container, 60_000, signal);
  }

  /** The port that the workload listens on; null when the time is over; its exit code when it ended first. */
  async listening(
    ports: readonly number[],
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<{ readonly port: number | null } | { readonly exitCode: number }> {
    const reply = await this.#ask(REQUEST.listening, { ports, timeoutMs }, timeoutMs + REPLY_SLACK_MS, signal);
    return listeningReply.parse(JSON.parse(reply.toString("utf8")));
  }

  /** Calls the workload's hook once. @returns undefined for 200 */
  async hook(
    name: HookName,
    call: { readonly port: number; readonly timeoutMs: number; readonly body: string | null; readonly host: string },
    signal: AbortSignal,
  ): Promise<HookFailure | undefined> {
    const deadline = AbortSignal.timeout(call.timeoutMs + REPLY_SLACK_MS);
    try {
      const limited = AbortSignal.any([signal, deadline]);
      using connection = await AgentConnection.open(this.#address, limited);
      const reply = await connection.request(REQUEST.hook, { name, ...call }, limited);
      const said = hookReply.parse(JSON.parse(reply.toString("utf8")));
      if ("failure" in said) return { kind: said.failure };
      return said.status === 200 ? undefined : { kind: "status", status: said.status };
    } catch (err) {
      signal.throwIfAborted();
      if (deadline.aborted) return { kind: "timeout" };
      throw err;
    }
  }

  /**
   * What the guest's metadata service tells from now on; empty: nothing.
   * @throws AgentError `unknown_request` from an agent that has none
   */
  async setCredentials(document: string, signal: AbortSignal): Promise<void> {
    await this.#ask(REQUEST.credentials, Buffer.from(document), QUICK_MS, signal);
  }

  async quiesce(options: { readonly dropCaches: boolean }, signal: AbortSignal): Promise<void> {
    await this.#ask(REQUEST.quiesce, options, 60_000, signal);
  }

  /**
   * No process of the workload runs until the guest assumes an identity, or until what this resolves with is disposed:
   * before that its connection must not end, or the guest thaws as soon as it runs.
   * @throws AgentError `unknown_request` from an agent that cannot, `failed` when the workload does not stand still
   */
  async freeze(signal: AbortSignal): Promise<Disposable> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(FREEZE_MS)]);
    const ask = (line: AgentConnection): Promise<Buffer> => line.request(REQUEST.freeze, undefined, limited);
    const [freezer] = await this.#askOver(this.#takeSpare(), limited, ask);
    freezer.rest();
    this.#freezer = freezer;
    const thaw = (): void => {
      if (this.#freezer !== freezer) return; // an identity has thawed it
      this.#freezer = undefined;
      freezer[Symbol.dispose]();
    };
    return { [Symbol.dispose]: thaw };
  }

  /** @throws ConnectError */
  async forward(port: number, signal: AbortSignal): Promise<Duplex> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(QUICK_MS)]);
    const request = Buffer.alloc(2);
    request.writeUInt16BE(port);
    let connection: AgentConnection;
    let reply: Buffer;
    try {
      const ask = (line: AgentConnection): Promise<Buffer> => line.request(REQUEST.forward, request, limited);
      [connection, reply] = await this.#askOver(this.#takeSpare(), limited, ask);
    } catch (err) {
      signal.throwIfAborted();
      throw new ConnectError("unreachable", "the guest's agent does not answer", { cause: err });
    }
    if (reply[0] !== 0) {
      connection[Symbol.dispose]();
      throw new ConnectError("refused", `nothing listens on port ${port}`);
    }
    const stream = connection.release();
    stream.once("close", () => void this.#makeSpare());
    return stream;
  }

  /** @throws ShellError */
  async openShell(spec: ShellSpec, signal: AbortSignal): Promise<Shell> {
    return await openAgentShell(this.#address, spec, AbortSignal.any([signal, this.#closed.signal]));
  }

  /** Events with a number greater than `after`, for as long as the guest and the signal live. Then it throws. */
  async *watch(after: number, signal: AbortSignal): AsyncGenerator<AgentEvent> {
    using connection = await AgentConnection.open(this.#address, signal);
    const payload = Buffer.alloc(8);
    payload.writeBigUInt64BE(BigInt(after));
    connection.send(encodeFrame(REQUEST.watch, payload));
    for (;;) {
      const frame = await connection.next(signal);
      if (frame.type !== (REQUEST.watch | ANSWER)) throw new Error(`frame type ${frame.type} among events`);
      yield event.parse(JSON.parse(frame.payload.toString("utf8")));
    }
  }

  /**
   * Asks over the kept connection, or over a new one if there is none or it has ended.
   * @returns the connection, which is the caller's, and the answer
   */
  async #askOver(
    kept: AgentConnection | undefined,
    signal: AbortSignal,
    ask: (line: AgentConnection) => Promise<Buffer>,
  ): Promise<[AgentConnection, Buffer]> {
    if (kept)
      try {
        return [kept, await ask(kept)];
      } catch (err) {
        const gone = kept.ended && !(err instanceof AgentError);
        kept[Symbol.dispose]();
        if (!gone || signal.aborted) throw err;
      }
    const line = await AgentConnection.open(this.#address, signal);
    try {
      return [line, await ask(line)];
    } catch (err) {
      line[Symbol.dispose]();
      throw err;
    }
  }

  #takeSpare(): AgentConnection | undefined {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare;
  }

  #keep(connection: AgentConnection): void {
    if (this.#spare || this.#closed.signal.aborted) connection[Symbol.dispose]();
    else {
      connection.rest();
      this.#spare = connection;
    }
  }

  /** For whoever comes next. */
  async #makeSpare(): Promise<void> {
    if (this.#dialling || this.#spare || this.#freezer || this.#closed.signal.aborted) return;
    this.#dialling = true;
    try {
      const signal = AbortSignal.any([this.#closed.signal, AbortSignal.timeout(SPARE_MS)]);
      this.#keep(await AgentConnection.open(this.#address, signal));
    } catch {
      // Whoever needs one dials, and hears of it.
    } finally {
      this.#dialling = false;
    }
  }

  async #ask(
    type: number,
    payload: Uint8Array | object | undefined,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    using connection = await AgentConnection.open(this.#address, limited);
    return await connection.request(type, payload, limited);
  }
}
