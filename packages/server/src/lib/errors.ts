/**
 * Errors are thrown by meaning and mapped to a wire form once (api/wire-errors.ts). The message is for the user:
 * what was wrong, which value, what to do next; where AWS's wording is known, it is that wording.
 */
export type ErrorKind =
  /** The request cannot be right, whatever the state: 400. */
  | "invalid_input"
  /** As `invalid_input`, where the model has another name for what the service itself finds: 400. */
  | "invalid_parameter"
  /** What the request names does not exist: 404. */
  | "not_found"
  /** Right at another time, or already done differently: 409. */
  | "conflict"
  /** Not allowed for this caller: 403. */
  | "denied"
  /** A limit of the account: 402. */
  | "quota"
  /** Too many requests: 429. */
  | "throttled"
  /** The host has no room now: 500 InsufficientCapacity. */
  | "capacity"
  /** A part that is needed is not there now: 503. */
  | "unavailable"
  /** Our fault: logged whole, never shown. */
  | "internal";

export class TorporError extends Error {
  override readonly name: string = "TorporError";
  readonly kind: ErrorKind;
  /** For `throttled` and `unavailable`: when to try again. */
  readonly retryAfterSeconds: number | undefined;

  constructor(kind: ErrorKind, message: string, options: { cause?: unknown; retryAfterSeconds?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

export const invalidInput = (message: string, options?: ErrorOptions): TorporError =>
  new TorporError("invalid_input", message, options);
export const notFound = (message: string): TorporError => new TorporError("not_found", message);
export const conflict = (message: string): TorporError => new TorporError("conflict", message);

/** The text of whatever was thrown. */
export function messageOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}

/** The errno name (`ENOENT`, `ENOSPC`, …) of a failed system call, if it is one. */
export function errnoOf(err: unknown): string | undefined {
  const code = (err as { code?: unknown } | null)?.code;
  return typeof code === "string" ? code : undefined;
}
