import { type Shell, ShellError, type ShellEvent, type ShellSpec } from "../host-client.ts";
import { AgentConnection, AgentError } from "./connection.ts";
import { encodeFrame, type Frame, REQUEST, SHELL_FRAME } from "./frames.ts";

/** An agent gives up after 20 s. */
const OPEN_MS = 25_000;
/** An agent takes frames of at most 256 KiB. */
const MAX_INPUT = 64 * 1024;

/** Of a guest's codes. */
const REASONS: ReadonlyMap<string, ShellError["reason"]> = new Map([
  ["no_shell", "no_shell"],
  ["exec_failed", "no_command"],
  ["too_many", "too_many"],
  ["not_running", "unreachable"],
]);

/** @throws ShellError; the signal's reason */
export async function openAgentShell(address: string, spec: ShellSpec, signal: AbortSignal): Promise<Shell> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(OPEN_MS)]);
  const { command, terminal, columns, rows, term } = spec;
  let connection: AgentConnection | undefined;
  try {
    connection = await AgentConnection.open(address, limited);
    await connection.request(REQUEST.shell, { command, terminal, cols: columns, rows, term }, limited);
    return new AgentShell(connection);
  } catch (err) {
    connection?.cut();
    signal.throwIfAborted();
    throw shellError(err);
  }
}

function shellError(err: unknown): ShellError {
  if (!(err instanceof AgentError))
    return new ShellError("unreachable", "the guest's agent does not answer", { cause: err });
  if (err.code === "unknown_request")
    return new ShellError("incompatible", "the image is from before there were shells: build it anew", { cause: err });
  return new ShellError(REASONS.get(err.code) ?? "failed", err.message, { cause: err });
}

class AgentShell implements Shell {
  readonly #connection: AgentConnection;
  readonly #never = new AbortController().signal;

  constructor(connection: AgentConnection) {
    this.#connection = connection;
  }

  async *events(): AsyncGenerator<ShellEvent, void> {
    for (;;) {
      const event = eventOf(await this.#connection.next(this.#never));
      yield event;
      if (event.kind === "exit") return;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += MAX_INPUT) {
      this.#connection.send(encodeFrame(SHELL_FRAME.input, bytes.subarray(at, at + MAX_INPUT)));
      await this.#connection.drained();
    }
  }

  async endInput(): Promise<void> {
    this.#connection.send(encodeFrame(SHELL_FRAME.inputEnd));
    await this.#connection.drained();
  }

  async resize(columns: number, rows: number): Promise<void> {
    const size = Buffer.alloc(4);
    size.writeUInt16BE(columns, 0);
    size.writeUInt16BE(rows, 2);
    this.#connection.send(encodeFrame(SHELL_FRAME.resize, size));
    await this.#connection.drained();
  }

  [Symbol.dispose](): void {
    this.#connection.cut();
  }
}

function eventOf({ type, payload }: Frame): ShellEvent {
  if (type === SHELL_FRAME.output) return { kind: "output", bytes: payload };
  if (type === SHELL_FRAME.errors) return { kind: "errors", bytes: payload };
  const code = type === SHELL_FRAME.exit && payload.length === 4 ? payload.readUInt32BE(0) : -1;
  if (code < 0 || code > 255) throw new Error(`the guest's agent sent a frame of type ${type} among a shell's`);
  return { kind: "exit", code };
}
