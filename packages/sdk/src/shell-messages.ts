const REASONS = ["incompatible", "no_shell", "no_command", "too_many", "unreachable", "failed"] as const;

/** Why there is no shell, or no more. */
export class ShellError extends Error {
  override readonly name = "ShellError";
  /**
   * `refused`: the endpoint let nobody in. `stopped`: the microvm was suspended, rolled back or has ended. `broken`: the
   * connection. The others are the server's: docs/shells.md.
   */
  readonly reason: (typeof REASONS)[number] | "refused" | "stopped" | "broken";
  constructor(reason: ShellError["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** The server's text: how the shell ended, or why there is none; undefined for what is not known. */
export function parseServerText(
  text: string,
): { readonly kind: "exit"; readonly code: number } | ShellError | undefined {
  let said: { type?: unknown; code?: unknown; reason?: unknown; message?: unknown };
  try {
    said = Object(JSON.parse(text));
  } catch {
    return undefined;
  }
  const { type, code, message } = said;
  if (type === "exit" && typeof code === "number" && Number.isInteger(code) && code >= 0 && code <= 255)
    return { kind: "exit", code };
  if (type !== "error") return undefined;
  const reason = REASONS.find((known) => known === said.reason) ?? "failed";
  return new ShellError(reason, typeof message === "string" ? message : "no reason given");
}
