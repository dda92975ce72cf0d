import type { BuildError } from "../host-client.ts";
import { buildFailed, diskFull } from "./build-error.ts";
import type { Step } from "./dockerfile.ts";

/** Follows buildah's output, to know which line of the Dockerfile it is at. */
export class StepTracker {
  readonly #stages: readonly (readonly Step[])[];
  #step: Step | undefined;
  #cached = 0;

  constructor(stages: readonly (readonly Step[])[]) {
    this.#stages = stages;
  }

  /** @returns true when the line begins a step */
  line(text: string): boolean {
    if (text.startsWith("--> Using cache ")) this.#cached += 1;
    const match = /^(?:\[(\d{1,3})\/\d{1,3}\] )?STEP (\d{1,4})\/\d{1,4}: *([A-Za-z]+)/.exec(text);
    if (!match) return false;
    const step = this.#stages[Number(match[1] ?? 1) - 1]?.[Number(match[2]) - 1];
    // A step may print such lines itself.
    if (step?.keyword !== match[3]?.toUpperCase()) return false;
    this.#step = step;
    return true;
  }

  get step(): Step | undefined {
    return this.#step;
  }

  /** Steps whose result was there already. */
  get cached(): number {
    return this.#cached;
  }
}

const SHOWN_LINES = 10;
const SHOWN_CHARACTERS = 2000;
const NOISE =
  /^(subprocess exited (with status|on) |process exited with error: |Error: building at STEP |--> |STEP \d|\[\d)/;
const NO_SPACE = /no space left on device|disk quota exceeded|file too large|file size limit exceeded/i;

/** Why buildah failed, in the words of the step that did. */
export function explainFailure(
  step: Step | undefined,
  tail: readonly string[],
  end: { readonly exitCode: number; readonly oomKills: number },
  memoryBytes: number,
): BuildError {
  const where = step ? `Dockerfile:${step.line}: ${step.keyword}` : "The build";
  const complaint = tail.findLast((line) => line.startsWith("Error: ")) ?? "";
  const reason = complaint.replace(/^Error: (building at STEP ".*?": )?/, "");
  if (NO_SPACE.test(complaint) || tail.slice(-SHOWN_LINES).some((line) => NO_SPACE.test(line)))
    return diskFull(`${where}: no space left on the build's disk`);
  const memory =
    end.oomKills > 0 ? ` Builds have ${Math.round(memoryBytes / 2 ** 20)} MiB of memory, and it ran out.` : "";
  const status = /^(?:while running runtime: )?exit status \d+$/
    .exec(reason)?.[0]
    .replace("while running runtime: ", "");
  if (step?.keyword !== "RUN" || status === undefined)
    return buildFailed(
      `${where} failed: ${shorten(reason || `buildah ended with exit status ${end.exitCode}`)}.${memory}`,
    );
  const output = tail.filter((line) => line.trim() !== "" && !NOISE.test(line)).slice(-SHOWN_LINES);
  const shown = output.length > 0 ? ` Its last output:\n${shorten(output.join("\n"))}` : "";
  return buildFailed(`${where} failed with ${status}.${memory}${shown}`);
}

function shorten(text: string): string {
  return text.length > SHOWN_CHARACTERS ? `…${text.slice(-SHOWN_CHARACTERS)}` : text;
}
