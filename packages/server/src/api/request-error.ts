/** The request cannot be made sense of, before any operation has seen it. Not a TorporError: only `api` knows these. */
export type RequestFault =
  /** The body or a parameter is not of the type that the operation takes. */
  | "unreadable"
  /** No operation has this method and path. */
  | "unknown_operation"
  /** The body is larger than any operation takes. */
  | "too_large"
  | "unsupported_media_type"
  /** HTTP itself is used in a way that is not accepted. */
  | "bad_http"
  | "too_many_headers"
  | "timeout";

export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly fault: RequestFault;

  constructor(fault: RequestFault, message: string) {
    super(message);
    this.fault = fault;
  }
}

export const unreadable = (message: string): RequestError => new RequestError("unreadable", message);
