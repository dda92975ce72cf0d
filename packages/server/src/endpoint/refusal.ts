/** An answer that the endpoint gives itself. Status, body and headers are what clients of the service know. */
export interface Refusal {
  readonly status: number;
  /** Plain text; empty means that no body and no content type are sent. */
  readonly body: string;
  /** `x-aws-proxy-error`: tells our 403 and 502 from the app's own. */
  readonly error?: "UNAUTHORIZED" | "APP_CONNECT_FAILED" | "MICROVM_CONNECT_FAILED";
  readonly retryAfterSeconds?: number;
  /** The request's framing is in doubt, so nothing after it on the connection can be trusted. */
  readonly close?: true | undefined;
}

const unauthorized = (body: string): Refusal => ({ status: 403, body, error: "UNAUTHORIZED" });

export const MISSING_AUTHENTICATION = unauthorized("Request missing authentication");
/** Another microvm's token, an expired one, an unknown host: one answer, so that nothing can be learnt from it. */
export const AUTHENTICATION_FAILED = unauthorized("Token authentication failed");
export const PORT_DENIED = unauthorized("Access to port denied");
export const INVALID_PORT: Refusal = { status: 400, body: "Invalid port" };
export const MALFORMED: Refusal = { status: 400, body: "Bad request", close: true };
export const HEADER_TOO_LARGE: Refusal = { status: 431, body: "", close: true };
export const HEADER_TIMEOUT: Refusal = { status: 408, body: "", close: true };
export const EXPECTATION_FAILED: Refusal = { status: 417, body: "", close: true };
/** The TLS handshake asked for one microvm and the request for another. Source: RFC 9110 §15.5.20. */
export const MISDIRECTED: Refusal = { status: 421, body: "", close: true };
export const TOO_MANY_CONNECTIONS: Refusal = { status: 429, body: "", retryAfterSeconds: 1 };
export const APP_CONNECT_FAILED: Refusal = { status: 502, body: "", error: "APP_CONNECT_FAILED" };
export const MICROVM_CONNECT_FAILED: Refusal = { status: 502, body: "", error: "MICROVM_CONNECT_FAILED" };
export const OUR_FAULT: Refusal = { status: 500, body: "" };

/** Thrown where a request ends here. The message is for the log and holds nothing secret. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly refusal: Refusal;
  constructor(refusal: Refusal, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.refusal = refusal;
  }
}

/** Header lines of a refusal, name and value in turn. */
export function refusalHeaders(refusal: Refusal): string[] {
  const headers: string[] = [];
  if (refusal.error !== undefined) headers.push("x-aws-proxy-error", refusal.error);
  if (refusal.body !== "") headers.push("Content-Type", "text/plain");
  headers.push("Content-Length", String(Buffer.byteLength(refusal.body)));
  if (refusal.retryAfterSeconds !== undefined) headers.push("Retry-After", String(refusal.retryAfterSeconds));
  if (refusal.close) headers.push("Connection", "close");
  return headers;
}
