/** The server refused or failed: what it said, in the service's own words. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  /** `ResourceNotFoundException`, `ValidationException`, …; S3's codes (`NoSuchBucket`) from the object store. */
  readonly type: string;
  readonly requestId: string | undefined;

  constructor(status: number, type: string, message: string, requestId: string | undefined) {
    super(message);
    this.status = status;
    this.type = type;
    this.requestId = requestId;
  }
}

/** No answer came at all: nothing listens there, or the connection broke. */
export class UnreachableError extends Error {
  override readonly name = "UnreachableError";
  readonly url: string;

  constructor(url: string, cause: unknown) {
    super(`cannot reach ${url}: ${reasonOf(cause)}`, { cause });
    this.url = url;
  }
}

/** fetch hides the system's error in causes, and several addresses' errors in an AggregateError. */
function reasonOf(err: unknown): string {
  if (err instanceof AggregateError && err.errors.length > 0) return reasonOf(err.errors[0]);
  if (!(err instanceof Error)) return String(err);
  if (err.cause !== undefined) return reasonOf(err.cause);
  return err.message || err.name;
}

/** Reads an error answer, whatever part of the server made it: JSON, S3's XML, or plain text. */
export function apiErrorOf(status: number, headers: Headers, body: string): ApiError {
  const requestId = headers.get("x-amzn-requestid") ?? headers.get("x-amz-request-id") ?? undefined;
  const json = parseObject(body);
  const type =
    headers.get("x-amzn-errortype")?.split(":")[0] ??
    textOf(json?.__type)?.split("#").at(-1) ??
    textOf(json?.code) ??
    /<Code>([^<]{1,200})<\/Code>/.exec(body)?.[1] ??
    `HTTP${status}`;
  const message =
    textOf(json?.message) ??
    textOf(json?.Message) ??
    /<Message>([^<]{1,2000})<\/Message>/.exec(body)?.[1] ??
    `the server answered ${status} without a message`;
  return new ApiError(status, type, message, requestId);
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

const textOf = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);
