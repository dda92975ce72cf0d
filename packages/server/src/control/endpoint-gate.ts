import type { Duplex } from "node:stream";
import type { Shell, ShellSpec } from "../host/host-client.ts";

/** What user traffic needs of the control plane: the endpoint knows nothing else of it. */
export interface EndpointGate {
  /**
   * How the microvm is seen from outside, terminated ones included for as long as they are listed. Not by the name that
   * was asked for: whether there is such a name would show in how long the look takes.
   */
  find(microvmId: string): Promise<Door | undefined>;
  /**
   * A microvm that can take traffic: a pending one is waited for, a suspended one is resumed if its policy says so.
   * Many callers at once cause one resume.
   * @throws GateError
   */
  enter(microvmId: string, signal: AbortSignal): Promise<Visit>;
}

/** A microvm as it is seen from outside: its name there, and what its ingress connectors let in. */
export interface Door {
  readonly label: string;
  readonly http: boolean;
  readonly shell: boolean;
}

/** While a visit is open the microvm is not idle for want of it, but only bytes count as activity. */
export interface Visit {
  readonly microvmId: string;
  /** @throws ConnectError (host/host-client.ts) */
  connect(port: number, signal: AbortSignal): Promise<Duplex>;
  /** @throws ShellError (host/host-client.ts) */
  openShell(spec: ShellSpec, signal: AbortSignal): Promise<Shell>;
  /** Bytes went through, in either direction. Cheap: call it for each chunk. */
  touch(): void;
  /** Aborted when the microvm leaves RUNNING: streams are to be cut. */
  readonly closing: AbortSignal;
  leave(): void;
}

export class GateError extends Error {
  override readonly name = "GateError";
  /** All of them are 502 with an empty body; the reason goes to the log. */
  readonly reason: "terminated" | "suspended" | "resume_failed" | "busy" | "timeout";
  constructor(reason: GateError["reason"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}
