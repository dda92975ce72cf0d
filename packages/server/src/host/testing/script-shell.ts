import { EventEmitter, once } from "node:events";
import type { Shell, ShellEvent, ShellSpec } from "../host-client.ts";

/** A shell whose lines a test says. Emits `typed`, `resized`, `ended`, `taken` (of its events) and `disposed`. */
export class ScriptShell extends EventEmitter implements Shell {
  readonly spec: ShellSpec;
  readonly sizes: [columns: number, rows: number][] = [];
  typed = "";
  inputEnded = false;
  disposed = false;
  /** Events that were asked for. */
  taken = 0;
  /** As long as it is set, nothing more may be written. */
  full: Promise<void> | undefined;
  readonly #events: ShellEvent[] = [];
  #failure: Error | undefined;

  constructor(spec: ShellSpec) {
    super();
    this.spec = spec;
  }

  says(text: string | Buffer, kind: "output" | "errors" = "output"): void {
    this.#add({ kind, bytes: Buffer.from(text as string) });
  }

  exits(code: number): void {
    this.#add({ kind: "exit", code });
  }

  /** The guest is gone. */
  breaks(): void {
    this.#failure = new Error("the guest is gone");
    this.emit("more");
  }

  /** Resolves when so much was typed. */
  async until(event: "typed" | "resized" | "ended" | "taken" | "disposed", holds: () => boolean): Promise<void> {
    while (!holds()) await once(this, event);
  }

  #add(event: ShellEvent): void {
    this.#events.push(event);
    this.emit("more");
  }

  async *events(): AsyncGenerator<ShellEvent, void> {
    for (;;) {
      const event = this.#events.shift();
      if (event) {
        this.taken++;
        this.emit("taken");
        yield event;
        if (event.kind === "exit") return;
      } else if (this.#failure) throw this.#failure;
      else if (this.disposed) throw new Error("the shell was disposed of");
      else await once(this, "more");
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.typed += Buffer.from(bytes).toString("latin1");
    this.emit("typed");
    await this.full;
  }

  async endInput(): Promise<void> {
    this.inputEnded = true;
    this.emit("ended");
  }

  async resize(columns: number, rows: number): Promise<void> {
    this.sizes.push([columns, rows]);
    this.emit("resized");
  }

  [Symbol.dispose](): void {
    this.disposed = true;
    this.emit("disposed");
    this.emit("more");
  }
}
