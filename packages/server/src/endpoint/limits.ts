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
  /** Client connections, with and without a valid token: all, and of one address (of IPv6, one /64). */
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** Requests that a client may send in HTTP/1.1 before it has the answer to the first of them. */
  readonly maxPipelined: number;
  /** Requests of one HTTP/2 connection at once. */
  readonly http2MaxStreams: number;
  /** Bytes of one HTTP/2 request that may be on their way unread; a connection has four times as many. */
  readonly http2WindowBytes: number;
  /** Requests and upgraded connections of one microvm at once, those that wait for it included. */
  readonly maxConnectionsPerMicrovm: number;
  /** Connections to one port of a guest that a client's connection keeps for its next requests, and for how long. */
  readonly maxKeptConnections: number;
  readonly keptConnectionMs: number;
  /** How long an exchange or a tunnel may be without a byte in either direction. */
  readonly silenceMs: number;
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
  maxConnectionsPerAddress: 1000,
  maxPipelined: 32,
  http2MaxStreams: 128,
  http2WindowBytes: 1024 * 1024,
  maxConnectionsPerMicrovm: 128,
  maxKeptConnections: 8,
  keptConnectionMs: 1000,
  silenceMs: 3_600_000,
  maxInterimAnswers: 16,
  halfClosedTimeoutMs: 60_000,
  lingerMs: 2_000,
};
