import { connect, type Socket } from "node:net";

const MAX_REPLY = 1 << 20;
/** The commands that Torpor uses: nothing else can be sent, whatever calls us. */
export type QmpCommand =
  | "qmp_capabilities"
  | "query-version"
  | "query-kvm"
  | "query-status"
  | "stop"
  | "cont"
  | "migrate-set-capabilities"
  | "migrate-incoming"
  | "blockdev-add"
  | "blockdev-snapshot"
  | "qom-get"
  | "qom-set"
  | "xen-save-devices-state";

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Pending {
  readonly command: string;
  resolve(value: unknown): void;
  reject(err: Error): void;
  timer: NodeJS.Timeout;
}

/**
 * A QMP client. The VMM is taken for hostile: replies are bounded in size and time, and a peer that breaks the
 * protocol is disconnected. Commands are answered in order, so that no ids are needed.
 */
export class Qmp {
  readonly #socket: Socket;
  readonly #pending: Pending[] = [];
  readonly #events = new Set<(event: QmpEvent) => void>();
  #buffer = "";
  #failure: Error | undefined;
  /** Why the connection is gone. */
  get failure(): Error | undefined {
    return this.#failure;
  }
  /** Resolves when the connection is gone, for whatever reason. */
  readonly closed: Promise<void>;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => this.#receive(text));
    socket.on("error", (err) => this.#fail(err));
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.#fail(new Error("the VMM closed its QMP connection"));
        resolve();
      });
    });
  }

  /** @throws Error when the greeting does not come in time */
  static async connect(path: string, signal: AbortSignal): Promise<Qmp> {
    signal.throwIfAborted();
    const socket = connect(path);
    const qmp = new Qmp(socket);
    const abort = (): void => qmp.#fail(signal.reason instanceof Error ? signal.reason : new Error("aborted"));
    signal.addEventListener("abort", abort, { once: true });
    try {
      await qmp.#expect("greeting", 10_000);
      await qmp.execute("qmp_capabilities");
      return qmp;
    } catch (err) {
      socket.destroy();
      throw err;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  execute(command: QmpCommand, args: Readonly<Record<string, unknown>> = {}, timeoutMs = 10_000): Promise<unknown> {
    if (this.#failure) return Promise.reject(this.#failure);
    const reply = this.#expect(command, timeoutMs);
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    return reply;
  }

  /** The first event that `match` accepts, from now on. */
  event(match: (event: QmpEvent) => boolean, timeoutMs: number): Promise<QmpEvent> {
    const { promise, resolve, reject } = Promise.withResolvers<QmpEvent>();
    const timer = setTimeout(() => reject(new Error(`the VMM did not report within ${timeoutMs} ms`)), timeoutMs);
    const listener = (event: QmpEvent): void => {
      if (match(event)) resolve(event);
    };
    this.#events.add(listener);
    void this.closed.then(() => reject(this.#failure ?? new Error("closed")));
    return promise.finally(() => {
      clearTimeout(timer);
      this.#events.delete(listener);
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  #expect(command: string, timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail(new Error(`QMP ${command}: no answer in ${timeoutMs} ms`)), timeoutMs);
      this.#pending.push({ command, resolve, reject, timer });
    });
  }

  #receive(text: string): void {
    this.#buffer += text;
    if (this.#buffer.length > MAX_REPLY) {
      this.#fail(new Error("QMP reply of more than 1 MiB"));
      return;
    }
    for (let end = this.#buffer.indexOf("\n"); end >= 0; end = this.#buffer.indexOf("\n")) {
      const line = this.#buffer.slice(0, end);
      this.#buffer = this.#buffer.slice(end + 1);
      if (line.trim() === "") continue;
      try {
        this.#dispatch(JSON.parse(line) as Record<string, unknown>);
      } catch (err) {
        this.#fail(new Error("QMP reply that is not JSON", { cause: err }));
        return;
      }
    }
  }

  #dispatch(message: Record<string, unknown>): void {
    if (typeof message.event === "string") {
      const data = typeof message.data === "object" && message.data !== null ? message.data : {};
      for (const listener of [...this.#events])
        listener({ event: message.event, data: data as Record<string, unknown> });
      return;
    }
    const next = this.#pending.shift();
    if (!next) {
      this.#fail(new Error("QMP reply that nobody asked for"));
      return;
    }
    clearTimeout(next.timer);
    if ("error" in message) {
      const desc = (message.error as { desc?: unknown } | null)?.desc;
      next.reject(new Error(`QMP ${next.command}: ${String(desc)}`));
    } else {
      next.resolve("return" in message ? message.return : message.QMP);
    }
  }

  #fail(err: Error): void {
    this.#failure ??= err;
    for (const p of this.#pending.splice(0)) {
      clearTimeout(p.timer);
      p.reject(this.#failure);
    }
    this.#socket.destroy();
  }
}
