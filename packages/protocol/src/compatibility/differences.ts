/**
 * Where the operation table differs from AWS's own models on purpose. `npm run contract` fails for any difference that
 * is not written here, and for whatever is written here and is none any more.
 */
export interface Difference {
  /** A member's name, wherever it is; or `Operation path`, such as `RunMicrovm input.hooks.port`. */
  readonly at: string;
  /** What differs: `enum`, `max`, `required`, …; `member` when one side does not have it at all. */
  readonly fact: string;
  readonly aws: string;
  readonly ours: string;
  readonly reason: string;
}

export const DIFFERENCES: readonly Difference[] = [
  {
    at: "architecture",
    fact: "enum",
    aws: "ARM_64",
    ours: "ARM_64, X86_64",
    reason: "AWS runs microvms on Graviton only; a machine of one's own is x86-64 as a rule",
  },
  {
    at: "chipset",
    fact: "enum",
    aws: "GRAVITON",
    ours: "GENERIC, GRAVITON",
    reason: "what AWS names are its own processors; an image that was built here was built on another one",
  },
];
