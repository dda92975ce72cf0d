import { randomUUID } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { connect, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { type Door, type EndpointGate, GateError, type Visit } from "../../control/endpoint-gate.ts";
import { ConnectError } from "../../host/host-client.ts";
import { ScriptShell } from "../../host/testing/script-shell.ts";

type State = "running" | "waking" | "unreachable" | "broken" | GateError["reason"];

/** A microvm whose guest is this machine: its ports are real ones on the loopback. */
export class StubMicrovm extends EventEmitter {
  readonly id = `microvm-${randomUUID()}`;
  readonly label: string = randomUUID();
  state: State = "running";
  ingress = { http: true, shell: true };
  /** Guest port → port here; others are the same on both sides. */
  readonly ports = new Map<number, number>();
  entered = 0;
  left = 0;
  touched = 0;
  /** Its streams are Duplexes that are no sockets, as between machines. */
  distant = false;
  /** Streams to the guest that are open now. */
  readonly streams = new Set<Socket>();
  readonly shells: ScriptShell[] = [];
  /** Why there are no shells. */
  noShell: Error | undefined;
  #closing = new AbortController();

  /** Leaves RUNNING: open streams are to be cut. */
  stop(state: State = "suspended"): void {
    this.state = state;
    this.#closing.abort();
    this.#closing = new AbortController();
  }

  /** Ends the wait of all who came while it was waking. */
  wake(): void {
    this.state = "running";
    this.emit("awake");
  }

  async enter(signal: AbortSignal): Promise<Visit> {
    this.entered++;
    this.emit("entered");
    try {
      return await this.#visit(signal);
    } catch (err) {
      this.#leave(); // there is no visit to leave
      throw err;
    }
  }

  async #visit(signal: AbortSignal): Promise<Visit> {
    if (this.state === "waking") await once(this, "awake", { signal });
    if (this.state === "broken") throw new Error("the stub gate is broken");
    if (this.state !== "running" && this.state !== "unreachable" && this.state !== "waking")
      throw new GateError(this.state, `stub: ${this.state}`);
    return {
      microvmId: this.id,
      closing: this.#closing.signal,
      touch: () => {
        this.touched++;
        this.emit("touched");
      },
      connect: (port, connecting) => this.#connect(port, connecting),
      openShell: async (spec) => {
        if (this.noShell) throw this.noShell;
        const shell = new ScriptShell(spec);
        this.shells.push(shell);
        this.emit("shell", shell);
        return shell;
      },
      leave: () => this.#leave(),
    };
  }

  #leave(): void {
    this.left++;
    this.emit("left");
  }

  async #connect(port: number, signal: AbortSignal): Promise<Duplex> {
    if (this.state === "unreachable") throw new ConnectError("unreachable", "stub: unreachable");
    const socket = connect({ port: this.ports.get(port) ?? port, host: "127.0.0.1", allowHalfOpen: true });
    try {
      await once(socket, "connect", { signal });
    } catch (err) {
      socket.destroy();
      throw new ConnectError("refused", `stub: port ${port}`, { cause: err });
    }
    this.streams.add(socket);
    socket.once("close", () => {
      this.streams.delete(socket);
      this.emit("streamClosed");
    });
    return this.distant ? Duplex.from({ readable: socket, writable: socket }) : socket;
  }
}

export class StubGate implements EndpointGate {
  readonly microvms: StubMicrovm[] = [];

  add(): StubMicrovm {
    const microvm = new StubMicrovm();
    this.microvms.push(microvm);
    return microvm;
  }

  async find(microvmId: string): Promise<Door | undefined> {
    const microvm = this.microvms.find(({ id }) => id === microvmId);
    return microvm && { label: microvm.label, ...microvm.ingress };
  }

  async enter(microvmId: string, signal: AbortSignal): Promise<Visit> {
    const microvm = this.microvms.find(({ id }) => id === microvmId);
    if (microvm === undefined) throw new Error(`nobody admits to ${microvmId}`);
    return microvm.enter(signal);
  }
}
