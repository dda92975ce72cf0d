import type { Duplex } from "node:stream";
import { z } from "zod";
import { ConnectError, type HookFailure, type HookName } from "../host-client.ts";
import { AgentConnection } from "./connection.ts";
import { ANSWER, encodeFrame, encodeIdentity, type GuestIdentity, REQUEST } from "./frames.ts";

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

/**
 * The agent of one guest. Each call dials: a connection does not outlive a suspend, and a new one costs less than
 * finding out whether the old one still works.
 */
export class Agent {
  readonly #address: string;

  constructor(address: string) {
    this.#address = address;
  }

  async hello(signal: AbortSignal): Promise<Hello> {
    const reply = await this.#ask(REQUEST.hello, undefined, QUICK_MS, signal);
    const hello = helloReply.parse(JSON.parse(reply.toString("utf8")));
    if (hello.protocol !== PROTOCOL_VERSION) throw new Error(`agent protocol ${hello.protocol} is not known`);
    return hello;
  }

  /** The clone is somebody else from here on. Until this resolves, no traffic may reach it. */
  async assumeIdentity(identity: GuestIdentity, signal: AbortSignal): Promise<void> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(QUICK_MS)]);
    using connection = await AgentConnection.open(this.#address, limited);
    await connection.request(REQUEST.identity, encodeIdentity(identity), limited);
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
    const connection = await AgentConnection.open(this.#address, limited);
    try {
      await connection.request(REQUEST.freeze, undefined, limited);
    } catch (err) {
      connection[Symbol.dispose]();
      throw err;
    }
    const socket = connection.release();
    socket.resume().unref(); // so that its end, by an identity, is noticed
    return { [Symbol.dispose]: () => socket.destroy() };
  }

  /** @throws ConnectError */
  async forward(port: number, signal: AbortSignal): Promise<Duplex> {
    let connection: AgentConnection;
    try {
      connection = await AgentConnection.open(this.#address, AbortSignal.any([signal, AbortSignal.timeout(QUICK_MS)]));
    } catch (err) {
      signal.throwIfAborted();
      throw new ConnectError("unreachable", "the guest does not answer", { cause: err });
    }
    try {
      const payload = Buffer.alloc(2);
      payload.writeUInt16BE(port);
      const limited = AbortSignal.any([signal, AbortSignal.timeout(QUICK_MS)]);
      const reply = await connection.request(REQUEST.forward, payload, limited);
      if (reply[0] !== 0) throw new ConnectError("refused", `nothing listens on port ${port}`);
      return connection.release();
    } catch (err) {
      connection[Symbol.dispose]();
      signal.throwIfAborted();
      if (err instanceof ConnectError) throw err;
      throw new ConnectError("unreachable", "the guest's agent failed", { cause: err });
    }
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

  async #ask(type: number, payload: object | undefined, timeoutMs: number, signal: AbortSignal): Promise<Buffer> {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    using connection = await AgentConnection.open(this.#address, limited);
    return await connection.request(type, payload, limited);
  }
}
