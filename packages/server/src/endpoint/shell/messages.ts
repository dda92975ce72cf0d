import { z } from "zod";
import type { ShellSpec } from "../../host/host-client.ts";

/** What the first message asks for. */
export interface SessionInit {
  readonly spec: ShellSpec;
  /** The client said `torpor` in it, so it is told more than the service tells: see docs/shells.md. */
  readonly extended: boolean;
}

export type Control =
  | { readonly kind: "resize"; readonly columns: number; readonly rows: number }
  | { readonly kind: "end of input" };

/** Longest message that is looked at as one of ours; what is longer is typed. */
const MAX_CONTROL = 256;
/** Bytes of a command as JSON, as it goes to the guest. */
const MAX_COMMAND = 128 * 1024;

const size = z.number().int().min(0).max(65_535);
const sessionInit = z.object({
  type: z.literal("session_init"),
  session_id: z.string().max(256).optional(),
  torpor: z
    .object({
      command: z.array(z.string()).optional(),
      terminal: z.boolean().optional(),
      cols: size.optional(),
      rows: size.optional(),
      term: z.string().max(64).optional(),
    })
    .optional(),
});
const resize = z.object({ type: z.literal("resize"), cols: size, rows: size });
const endOfInput = z.object({ type: z.literal("eof") });

/** Undefined when it is none. */
export function parseSessionInit(text: string): SessionInit | undefined {
  const { data } = sessionInit.safeParse(parsed(text));
  if (!data) return undefined;
  const { command = [], terminal = true, cols = 0, rows = 0, term = "xterm" } = data.torpor ?? {};
  if (command.length > 0 && Buffer.byteLength(JSON.stringify(command)) > MAX_COMMAND) return undefined;
  if (command[0] === "" || command.some((word) => word.includes("\0"))) return undefined;
  return { spec: { command, terminal, columns: cols, rows, term }, extended: data.torpor !== undefined };
}

/** Undefined for what is to be typed, JSON or not. */
export function parseControl(text: string, extended: boolean): Control | undefined {
  if (text.length > MAX_CONTROL || !text.startsWith("{")) return undefined;
  const message = parsed(text);
  const { data } = resize.safeParse(message);
  if (data) return { kind: "resize", columns: data.cols, rows: data.rows };
  return extended && endOfInput.safeParse(message).success ? { kind: "end of input" } : undefined;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A close frame's reason has room for 123 bytes. */
export function closeReason(text: string): string {
  let reason = printable(text);
  while (Buffer.byteLength(reason) > 123) reason = reason.slice(0, -1);
  return reason.toWellFormed();
}

/** Without what terminals act on: a guest may have a part in it. */
export const printable = (text: string): string => text.replace(/\p{Cc}|\p{Cf}|[\u2028\u2029]/gu, "�");
