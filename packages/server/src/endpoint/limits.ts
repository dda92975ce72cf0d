/** What one client, one request and one microvm may take. Times in milliseconds. */
export interface EndpointLimits {
  /** Request line and header lines together, and as much again for the app's answer. */
  readonly maxHeaderBytes: number;
  readonly maxHeaderLines: number;
  /** From the connection's start, or the request's first byte, to the end of its header. */
  readonly headerTimeoutMs: number;
  /** How long a connection may wait for its next request. */
  readonly keepAliveTimeoutMs: number;
  /** How long a request waits for its microvm to start or to resume. */
  readonly enterTimeoutMs: number;
  /** How long the guest may take to accept a connection. */
  readonly connectTimeoutMs: number;
  /** Client connections, with and without a valid token. */
  readonly maxConnections: number;
  /** Requests and upgraded connections of one microvm at once, those that wait for it included. */
  readonly maxConnectionsPerMicrovm: number;
  /** Interim (1xx) answers of an app to one request. */
  readonly maxInterimAnswers: number;
  /** How long a tunnel with one side closed may be silent. */
  readonly halfClosedTimeoutMs: number;
  /** How long the rest of a request that nobody wants is read before the connection is cut. */
  readonly lingerMs: number;
}

export const DEFAULT_LIMITS: EndpointLimits = {
  maxHeaderBytes: 32 * 1024,
  maxHeaderLines: 100,
  headerTimeoutMs: 10_000,
  keepAliveTimeoutMs: 60_000,
  enterTimeoutMs: 60_000,
  connectTimeoutMs: 10_000,
  maxConnections: 10_000,
  maxConnectionsPerMicrovm: 128,
  maxInterimAnswers: 16,
  halfClosedTimeoutMs: 60_000,
  lingerMs: 2_000,
};
