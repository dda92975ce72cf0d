import { createInterface } from "node:readline/promises";
import type { Duplex } from "node:stream";

/**
 * What tests have guests run: a workload that keeps notes in memory and on disk. A line asks, a line answers:
 * `remember NAME TEXT`, `write NAME TEXT` (to a file, durable), `print TEXT`: `ok`; `recall NAME`, `read NAME`: `= TEXT` or
 * `none`; `exit CODE` ends it.
 */
export class Notebook {
  readonly #connect: () => Promise<Duplex>;

  /** @param connect makes a stream to the workload's port */
  constructor(connect: () => Promise<Duplex>) {
    this.#connect = connect;
  }

  async remember(name: string, text: string): Promise<void> {
    await this.#tell(`remember ${name} ${text}`);
  }

  async recall(name: string): Promise<string | undefined> {
    return await this.#look(`recall ${name}`);
  }

  async write(name: string, text: string): Promise<void> {
    await this.#tell(`write ${name} ${text}`);
  }

  async read(name: string): Promise<string | undefined> {
    return await this.#look(`read ${name}`);
  }

  async print(text: string): Promise<void> {
    await this.#tell(`print ${text}`);
  }

  async exit(code: number): Promise<void> {
    await this.#tell(`exit ${code}`);
  }

  async #look(question: string): Promise<string | undefined> {
    const answer = await this.ask(question);
    if (answer === "none") return undefined;
    if (!answer.startsWith("= ")) throw new Error(`${question}: ${answer}`);
    return answer.slice(2);
  }

  async #tell(line: string): Promise<void> {
    const answer = await this.ask(line);
    if (answer !== "ok") throw new Error(`${line}: ${answer}`);
  }

  async ask(line: string): Promise<string> {
    const stream = await this.#connect();
    try {
      stream.write(`${line}\n`);
      for await (const answer of createInterface({ input: stream })) return answer;
      throw new Error(`${line}: no answer`);
    } finally {
      stream.destroy();
    }
  }
}
