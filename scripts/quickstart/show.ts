import { setTimeout as sleep } from "node:timers/promises";
import { Output, printable } from "../../packages/cli/src/output.ts";

/** What the quickstart prints, and the time that each of its steps took. */
export class Report {
  readonly out = new Output({ json: false, colour: process.stdout.isTTY === true && !process.env.NO_COLOR });
  readonly #steps: { readonly step: string; readonly ms: number }[] = [];

  step(text: string): void {
    process.stdout.write(`${this.out.style("bold", `==> ${text}`)}\n`);
  }

  say(text: string): void {
    process.stdout.write(`    ${text}\n`);
  }

  /** Text of somebody else, each line indented. */
  quote(text: string): void {
    for (const line of printable(text).trimEnd().split("\n"))
      process.stdout.write(`    ${this.out.style("dim", line)}\n`);
  }

  async timed<T>(step: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    const result = await work();
    this.#steps.push({ step, ms: performance.now() - start });
    return result;
  }

  /** Every step as the client saw it. */
  stepTable(): string {
    return this.out.table(
      ["STEP", "MS"],
      this.#steps.map(({ step, ms }) => [step, ms.toFixed(1)]),
    );
  }
}

/** Asks until there is an answer. */
export async function pollUntil<T>(ask: () => Promise<T | undefined>, signal: AbortSignal): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await sleep(25, undefined, { signal });
  }
}
