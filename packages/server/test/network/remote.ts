import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** Functions of a process in another network namespace. */
export type Calls = Readonly<Record<string, (...args: never[]) => Promise<unknown>>>;
export type Remote<T extends Calls> = { readonly [K in keyof T]: T[K] };

interface Call {
  readonly id: number;
  readonly name: string;
  readonly args: readonly unknown[];
}
interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** A program of this folder, which ends with `answerCalls`, in a network namespace. */
export class RemoteProcess<T extends Calls> implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #lastId = 0;
  readonly calls: Remote<T>;

  constructor(namespace: string, program: string, args: readonly string[] = []) {
    const file = fileURLToPath(new URL(program, import.meta.url));
    const command = [`--net=/run/netns/${namespace}`, "--", process.execPath, "--disable-warning=ExperimentalWarning"];
    this.#child = spawn("nsenter", [...command, file, ...args], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      serialization: "advanced",
    });
    this.#child.on("message", (message) => {
      const { id, value, error } = message as Answer;
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(new Error(error));
    });
    this.#child.once("exit", () => {
      for (const waiting of this.#waiting.values()) waiting.reject(new Error(`${program} has ended`));
    });
    this.calls = new Proxy({} as Remote<T>, {
      get:
        (_target, name) =>
        (...parameters: unknown[]) =>
          this.#call(String(name), parameters),
    });
  }

  /** Without a warning. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #call(name: string, args: readonly unknown[]): Promise<unknown> {
    const id = ++this.#lastId;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    this.#child.send({ id, name, args } satisfies Call, (err) => {
      if (err) waiting.reject(err);
    });
    return waiting.promise;
  }
}

/** The other side. The process ends with the one that started it. */
export function answerCalls(calls: Calls): void {
  process.on("disconnect", () => process.exit());
  process.on("message", async (message) => {
    const { id, name, args } = message as Call;
    try {
      const call = calls[name] as (...args: unknown[]) => Promise<unknown>;
      process.send!({ id, value: await call(...args) } satisfies Answer);
    } catch (err) {
      process.send!({ id, error: err instanceof Error ? (err.stack ?? err.message) : String(err) } satisfies Answer);
    }
  });
}
