import { type ErrorKind, TorporError } from "../../../lib/errors.ts";
import { RequestError } from "../../request-error.ts";
import { SignatureError } from "../../sigv4/signature-error.ts";
import { toWireError } from "../../wire-errors.ts";

/** A failure as CloudWatch Logs tells it: JSON 1.1, where every fault of the caller is 400. */
export interface LogsError {
  readonly status: 400 | 500 | 503;
  readonly type: string;
  readonly message: string;
  readonly unexpected: boolean;
}

/** The operation is known, and not done here. */
export class UnavailableOperationError extends Error {
  override readonly name = "UnavailableOperationError";
}

const OF_KIND: Readonly<Record<ErrorKind, readonly [status: LogsError["status"], type: string]>> = {
  invalid_input: [400, "InvalidParameterException"],
  invalid_parameter: [400, "InvalidParameterException"],
  not_found: [400, "ResourceNotFoundException"],
  conflict: [400, "InvalidOperationException"],
  denied: [400, "AccessDeniedException"],
  quota: [400, "LimitExceededException"],
  throttled: [400, "ThrottlingException"],
  capacity: [503, "ServiceUnavailableException"],
  unavailable: [503, "ServiceUnavailableException"],
  internal: [500, "InternalFailure"],
};

export function toLogsError(err: unknown): LogsError {
  const unexpected = false;
  if (err instanceof UnavailableOperationError)
    return { status: 400, type: "InvalidOperationException", message: err.message, unexpected };
  const wire = toWireError(err);
  const message = wire.body.message ?? wire.body.Message ?? "";
  // Signatures, and requests that cannot be made sense of: named as everywhere.
  if (err instanceof SignatureError || err instanceof RequestError)
    return { status: 400, type: wire.type, message, unexpected };
  const [status, type] = OF_KIND[err instanceof TorporError ? err.kind : "internal"];
  return { status, type, message, unexpected: wire.unexpected };
}
