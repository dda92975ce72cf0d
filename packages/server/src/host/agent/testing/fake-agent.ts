import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import type { GuestHardware, GuestSoftware, Processor } from "../../driver/fake/software.ts";
import type { HookFailure, HookName } from "../../host-client.ts";
import { AGENT_PORT } from "../connection.ts";
import { ANSWER, encodeFrame, FAILURE, type Frame, FrameDecoder, REQUEST, SHELL_FRAME } from "../frames.ts";
import { Gate } from "./gate.ts";
import { GuestFiles, GuestMemoryState, type GuestState } from "./guest-state.ts";

/** On which the workload listens. */
export const NOTEBOOK_PORT = 8080;

/** A hook as the workload sees it. */
export interface ReceivedHook {
  readonly name: HookName;
  readonly body: string | null;
  /** Whom the guest took itself for. */
  readonly microvmId: string;
}

/**
 * What a guest of a fake machine runs: an agent as docs/agent-protocol.md has it, and as the workload a notebook
 * (notebook.ts). Both forget nothing that is in the machine's memory or on its disk, and everything else.
 */
export class FakeAgent implements GuestSoftware {
  /** Hooks that workloads were called with, of all guests. */
  readonly hooks: ReceivedHook[] = [];
  /** The workload's answer to a hook; undefined: 200. */
  answerHook: (hook: ReceivedHook) => HookFailure | undefined | Promise<HookFailure | undefined> = () => undefined;

  load(hardware: GuestHardware): Processor {
    return new Guest(hardware, this);
  }
}

class Guest implements Processor {
  readonly #hardware: GuestHardware;
  readonly #software: FakeAgent;
  readonly #state: GuestMemoryState;
  readonly #files: GuestFiles;
  readonly #running = new Gate(false);
  readonly #thawed: Gate;
  readonly #sockets = new Set<Socket>();
  /** Connections whose end thaws the workload. */
  readonly #freezers = new Set<Socket>();
  readonly #watchers = new Set<Socket>();
  #server: Server | undefined;
  #stopped = false;

  constructor(hardware: GuestHardware, software: FakeAgent) {
    this.#hardware = hardware;
    this.#software = software;
    this.#state = new GuestMemoryState(hardware.memory);
    this.#files = new GuestFiles(hardware.disk);
    this.#thawed = new Gate(!this.#state.read().frozen);
  }

  async run(): Promise<void> {
    this.#running.set(true);
    if (this.#server) return;
    this.#server = createServer((socket) => void this.#serve(socket));
    this.#server.listen(AGENT_PORT, this.#hardware.address);
    await once(this.#server, "listening");
    if (this.#stopped) this.#server.close();
  }

  pause(): void {
    this.#running.set(false);
  }

  stop(): void {
    this.#stopped = true;
    this.#running.set(false);
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #serve(socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => void this.#gone(socket));
    if (this.#stopped) socket.destroy();
    const decoder = new FrameDecoder();
    try {
      for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
        decoder.add(chunk as Buffer);
        for (let frame = decoder.next(); frame; frame = decoder.next()) {
          await this.#running.passed();
          if (frame.type === REQUEST.forward) return await this.#forward(socket, frame, decoder.rest());
          if (frame.type === REQUEST.shell) return await this.#shell(socket, frame, decoder);
          await this.#answer(socket, frame);
        }
      }
      socket.end();
    } catch {
      socket.destroy(); // it broke, or breaks the protocol
    }
  }

  async #gone(socket: Socket): Promise<void> {
    this.#sockets.delete(socket);
    this.#watchers.delete(socket);
    await this.#running.passed(); // a guest that stands still does not notice
    if (this.#freezers.delete(socket) && this.#freezers.size === 0) this.#thaw();
  }

  #thaw(): void {
    this.#state.change((state) => {
      state.frozen = false;
    });
    this.#thawed.set(true);
  }

  async #answer(socket: Socket, { type, payload }: Frame): Promise<void> {
    const reply = (content: Uint8Array | object = new Uint8Array()): void => {
      const bytes = content instanceof Uint8Array ? content : Buffer.from(JSON.stringify(content));
      socket.write(encodeFrame(type | ANSWER, bytes));
    };
    const asked = (): Record<string, unknown> => JSON.parse(payload.toString("utf8")) as Record<string, unknown>;
    switch (type) {
      case REQUEST.hello: {
        const { microvmId, workload } = this.#state.read();
        return reply({ protocol: 1, version: "fake", uptimeMs: 1, microvmId, workload });
      }
      case REQUEST.identity:
        this.#state.change((state) => {
          state.microvmId = payload.toString("utf8", 57, 57 + payload.readUInt8(56));
        });
        for (const other of this.#sockets) if (other !== socket) other.destroy();
        this.#freezers.clear();
        this.#thaw();
        return reply();
      case REQUEST.start:
        this.#state.change((state) => {
          state.workload = { state: "running" };
        });
        this.#event("stdout", { text: "the notebook is open" });
        return reply();
      case REQUEST.listening: {
        const { workload } = this.#state.read();
        if (workload.state === "exited") return reply({ exitCode: workload.exitCode ?? 0 });
        const { ports } = asked() as { ports?: readonly number[] };
        return reply({ port: workload.state === "running" && ports?.includes(NOTEBOOK_PORT) ? NOTEBOOK_PORT : null });
      }
      case REQUEST.hook:
        return reply(await this.#hook(asked()));
      case REQUEST.watch:
        return this.#watch(socket, Number(payload.readBigUInt64BE(0)));
      case REQUEST.quiesce:
        return reply();
      case REQUEST.credentials:
        this.#state.change((state) => {
          state.credentials = payload.toString("utf8");
        });
        return reply();
      case REQUEST.freeze:
        if (this.#state.read().workload.state === "running") {
          this.#freezers.add(socket);
          this.#thawed.set(false);
          this.#state.change((state) => {
            state.frozen = true;
          });
        }
        return reply();
      default:
        socket.write(encodeFrame(FAILURE, Buffer.from(JSON.stringify({ code: "unknown_request", error: `${type}` }))));
    }
  }

  async #hook(asked: Readonly<Record<string, unknown>>): Promise<object> {
    await this.#thawed.passed();
    const { microvmId, workload } = this.#state.read();
    if (workload.state !== "running" || asked.port !== NOTEBOOK_PORT) return { failure: "refused" };
    const hook: ReceivedHook = { name: asked.name as HookName, body: asked.body as string | null, microvmId };
    this.#software.hooks.push(hook);
    const failure = await this.#software.answerHook(hook);
    if (!failure) return { status: 200 };
    return failure.kind === "status" ? { status: failure.status } : { failure: failure.kind };
  }

  #watch(socket: Socket, after: number): void {
    this.#watchers.add(socket);
    for (const event of this.#state.read().events)
      if (event.seq > after) socket.write(encodeFrame(REQUEST.watch | ANSWER, Buffer.from(JSON.stringify(event))));
  }

  #event(kind: "stdout" | "exit", more: { readonly text?: string; readonly exitCode?: number }): void {
    const { events } = this.#state.change((state) => {
      state.events.push({ seq: ++state.lastSeq, time: Date.now(), kind, ...more });
    });
    const bytes = Buffer.from(JSON.stringify(events.at(-1)));
    for (const socket of this.#watchers) socket.write(encodeFrame(REQUEST.watch | ANSWER, bytes));
  }

  /** Raw bytes to the workload: lines, each answered with one. */
  async #forward(socket: Socket, { payload }: Frame, rest: Buffer): Promise<void> {
    const { workload } = this.#state.read();
    const listens = workload.state === "running" && payload.readUInt16BE(0) === NOTEBOOK_PORT;
    socket.write(encodeFrame(REQUEST.forward | ANSWER, Buffer.from([listens ? 0 : 1])));
    if (!listens) return void socket.end();
    let text = rest.toString("utf8");
    for await (const chunk of socket) {
      text += (chunk as Buffer).toString("utf8");
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        await this.#workloadRuns();
        socket.write(`${this.#notebook(line)}\n`);
      }
    }
    socket.end();
  }

  /** A notebook at a terminal: lines, each answered with one; `exit CODE` ends it, and not the workload. */
  async #shell(socket: Socket, { type, payload }: Frame, decoder: FrameDecoder): Promise<void> {
    const { command = [] } = JSON.parse(payload.toString("utf8")) as { command?: readonly string[] };
    socket.write(encodeFrame(type | ANSWER));
    let text = command.length > 0 ? `${command.join(" ")}\n` : "";
    const chunks = socket.iterator({ destroyOnReturn: false });
    for (;;) {
      const lines = text.split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        await this.#workloadRuns();
        const code = /^exit (\d+)$/.exec(line)?.[1];
        const exit = Buffer.alloc(4);
        exit.writeUInt32BE(Number(code ?? 0));
        if (code !== undefined) return void socket.end(encodeFrame(SHELL_FRAME.exit, exit));
        socket.write(encodeFrame(SHELL_FRAME.output, Buffer.from(`${this.#notebook(line)}\n`)));
      }
      const frame = decoder.next();
      if (frame?.type === SHELL_FRAME.input) text += frame.payload.toString("utf8");
      if (frame) continue;
      const chunk = await chunks.next();
      if (chunk.done) return;
      decoder.add(chunk.value as Buffer);
    }
  }

  async #workloadRuns(): Promise<void> {
    while (this.#state.read().frozen) await this.#thawed.passed();
    await this.#running.passed();
  }

  /** See notebook.ts. */
  #notebook(line: string): string {
    const [verb, name = "", ...words] = line.split(" ");
    const text = words.join(" ");
    const found = (value: string | undefined): string => (value === undefined ? "none" : `= ${value}`);
    switch (verb) {
      case "remember":
        this.#state.remember(name, text);
        return "ok";
      case "recall":
        return found(this.#state.recall(name));
      case "write":
        this.#files.write(name, text);
        return "ok";
      case "read":
        return found(this.#files.read(name));
      case "print":
        this.#event("stdout", { text: line.slice("print ".length) });
        return "ok";
      case "exit":
        this.#state.change((state: GuestState) => {
          state.workload = { state: "exited", exitCode: Number(name) };
        });
        this.#event("exit", { exitCode: Number(name) });
        return "ok";
      case "panic":
        this.#hardware.powerOff();
        return "";
      default:
        return `what is ${verb}?`;
    }
  }
}
