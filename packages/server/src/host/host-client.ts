import type { Duplex } from "node:stream";
import type { Receipt, RestorePointState, Usage } from "@torpor/protocol";
import type { EgressPolicy } from "./network/egress.ts";

/**
 * What `control` knows of a host. In process today, between machines later: so only data and streams cross it, every
 * call can be repeated, and the host keeps nothing that cannot be found again from its disk.
 */
export interface HostClient {
  readonly facts: HostFacts;

  /** Artifact → root filesystem → cold boot → ready → template. @throws BuildError */
  buildTemplate(spec: TemplateSpec, observer: BuildObserver, signal: AbortSignal): Promise<Template>;
  /** Its clones have ended. Deleting what is not there succeeds. */
  deleteTemplate(templateId: string): Promise<void>;
  /**
   * Nothing is launched from the template any more, so nothing is kept ready for it; what was launched from it runs,
   * sleeps and wakes as before. A host that starts has retired none.
   */
  retireTemplate(templateId: string): Promise<void>;
  /** Takes `retireTemplate` back. */
  offerTemplate(templateId: string): Promise<void>;
  /** Ids of all templates on this host's disk, for the reconciler. */
  templates(): Promise<readonly string[]>;

  /**
   * A new instance from a template: restored, identity assumed, run hook answered. When it throws, nothing of the
   * instance is left.
   * @throws HookError, HostError
   */
  launch(spec: LaunchSpec, signal: AbortSignal): Promise<Receipt>;
  /**
   * Suspend hook, snapshot, process gone. Resolves when the snapshot is durable.
   * @throws HookError when the hook failed (the instance still runs), HostError when the snapshot could not be made
   * (the instance runs on).
   */
  suspend(microvmId: string, spec: SuspendSpec, signal: AbortSignal): Promise<Receipt>;
  /**
   * The instance continues from its newest snapshot, identity renewed, resume hook answered.
   * @throws HookError: the instance runs and the caller is to end it; HostError: it is as suspended as before.
   */
  resume(microvmId: string, spec: ResumeSpec, signal: AbortSignal): Promise<Receipt>;
  /** Ends the instance in whatever state it is and removes all of it. Terminating what is not there succeeds. */
  terminate(microvmId: string, spec: TerminateSpec, signal: AbortSignal): Promise<Receipt>;

  /**
   * A durable restore point of a running or suspended instance, which goes on as it was. Its id is the caller's; to
   * repeat it with the same id succeeds. The receipt's phase `pause` is how long the guest stood still.
   * @throws HostError, `not_found` when there is no earlier restore point; the instance is untouched
   */
  checkpoint(
    microvmId: string,
    checkpointId: string,
    spec: CheckpointSpec,
    signal: AbortSignal,
  ): Promise<CheckpointResult>;
  /** Forks made from it live on. Deleting what is not there succeeds. */
  deleteCheckpoint(checkpointId: string): Promise<void>;
  /** Ids of all checkpoints on this host's disk, for the reconciler. */
  checkpoints(): Promise<readonly string[]>;
  /** How those of these checkpoints are that are on this host, by their ids. */
  verifications(checkpointIds: readonly string[]): Promise<ReadonlyMap<string, RestorePointState>>;
  /**
   * The instance is as suspended at the checkpoint; what it did since is gone. A running one is ended. Can be repeated.
   * @throws HostError; the instance is untouched when the reason is not_found, incompatible or corrupt
   */
  rollback(microvmId: string, checkpointId: string, signal: AbortSignal): Promise<Receipt>;

  /**
   * A byte stream to a TCP port in the guest.
   * @throws ConnectError
   */
  connect(microvmId: string, port: number, signal: AbortSignal): Promise<Duplex>;

  /**
   * A shell, or a command, as root in the instance's container. It ends by itself, with what is returned, or when the
   * instance stops running.
   * @throws ShellError
   */
  openShell(microvmId: string, spec: ShellSpec, signal: AbortSignal): Promise<Shell>;

  /** What is on this host's disk, for the reconciler. Adopts VMMs that an earlier daemon left running. */
  inventory(): Promise<readonly InventoryItem[]>;
  /** Called when an instance ends by itself: its main process exited, or its VMM died. At most once an instance. */
  onExit(listener: (microvmId: string, exit: InstanceExit) => void): void;

  /**
   * Replaces what the metadata service of a running instance tells; see GuestCredentials.
   * @throws HostError `not_found` when it does not run, `incompatible` when its image's agent has no such service
   */
  setCredentials(microvmId: string, credentials: string, signal: AbortSignal): Promise<void>;

  /** @throws HostError `not_found` */
  usage(microvmId: string): Promise<Usage>;

  /** The log of an instance that has ended goes. Forgetting what is not there succeeds. */
  forget(microvmId: string): Promise<void>;

  /**
   * Lines that the workload wrote, oldest first, behind the position `after`; `follow` keeps the stream open until the
   * signal, or until the instance is no more on this host.
   */
  logs(microvmId: string, options: LogOptions, signal: AbortSignal): AsyncIterable<LogLine>;

  /** Stops watching; instances run on. */
  close(): Promise<void>;
}

export interface HostFacts {
  /** When what microvms are built on, guest kernel and agent, was made. */
  readonly guestMadeAt: Date;
  readonly architecture: "X86_64" | "ARM_64";
  /** `hardware`: KVM ran our guest. `emulated`: no security boundary, and slower. */
  readonly isolation: "hardware" | "emulated";
  readonly accelerator: "kvm" | "tcg";
  readonly vmmVersion: string;
  readonly guestKernelVersion: string;
  readonly agentVersion: string;
  /** Memory and vCPUs that the guest sees, as a multiple of the baseline: 4 with KVM, 1 in emulation, unless configured. */
  readonly burst: number;
}

/** What a guest's metadata service tells, before its hook is called and traffic comes. */
export interface GuestCredentials {
  /** The JSON document as programs get it; empty: there are none. Absent: what the guest has stays. */
  readonly credentials?: string;
}

export type { EgressGrant, EgressPolicy, EgressRule } from "./network/egress.ts";

/** What guests may reach; absent: public addresses, and nothing else. */
export interface GuestEgress {
  readonly egress?: EgressPolicy;
}

/** The credentials are there until the snapshot is taken; the template has none. */
export interface TemplateSpec extends GuestCredentials, GuestEgress {
  /** The build's id: names the template and its folder. */
  readonly templateId: string;
  readonly accountId: string;
  /** The zip, a local file that the host may read until the call ends. */
  readonly artifactPath: string;
  /** Baseline in MiB: 512, 1024, 2048, 4096 or 8192. vCPUs and disk follow from it. */
  readonly memoryMib: number;
  /** The image's environment variables and the injected ones, on top of the Dockerfile's. */
  readonly environment: Readonly<Record<string, string>>;
  readonly capabilities: "default" | "all";
  readonly ready?: { readonly port: number; readonly timeoutMs: number };
  readonly validate?: { readonly port: number; readonly timeoutMs: number };
}

export interface BuildObserver {
  /** Text of the build log, whole lines with their newline; control bytes already escaped. */
  log(text: string): void;
  /** A new phase begins: `unpack`, `container`, `filesystem`, `boot`, `ready`, `snapshot`, `validate`. */
  phase(name: string): void;
}

export interface Template {
  readonly templateId: string;
  readonly memorySnapshotBytes: number;
  readonly codeInstallBytes: number;
  readonly diskSnapshotBytes: number;
  readonly receipt: Receipt;
}

export interface HookCall {
  readonly port: number;
  readonly timeoutMs: number;
}

/** What it may reach stays with the instance until its end: it is in force before the guest runs, each time. */
export interface LaunchSpec extends GuestCredentials, GuestEgress {
  readonly microvmId: string;
  readonly templateId: string;
  /**
   * A fork: it continues from the checkpoint instead of the template, under an identity of its own; the run hook, if
   * any, is called with the new id.
   */
  readonly checkpointId?: string;
  /** Body is the JSON of microvmId and payload. */
  readonly runHook?: HookCall & { readonly payload: string | null };
}
export interface CheckpointSpec {
  /**
   * Not of what the microvm is, but of its restore point before the newest: it is there while the newest has not been
   * read as a whole, and longer when that was found damaged.
   */
  readonly previous: boolean;
}
export interface CheckpointResult {
  readonly receipt: Receipt;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}
export interface SuspendSpec {
  readonly hook?: HookCall;
}
export interface ResumeSpec extends GuestCredentials {
  readonly hook?: HookCall;
}
export interface TerminateSpec {
  /** Called only while the instance runs; its failure is ignored. */
  readonly hook?: HookCall;
}

export interface InventoryItem {
  readonly microvmId: string;
  /**
   * `running`: a VMM with live vCPUs, adopted. `suspended`: a complete snapshot and no VMM.
   * `broken`: neither; only terminate() is left to do.
   */
  readonly state: "running" | "suspended" | "broken";
}

export type InstanceExit =
  | { readonly kind: "workload"; readonly exitCode: number }
  /** The VMM ended without the workload's exit having been seen. `detail` is for the operator. */
  | { readonly kind: "vmm"; readonly detail: string };

export interface LogOptions {
  readonly follow: boolean;
  readonly after?: number;
}

export interface LogLine {
  /** Counts up by one from line to line, whatever becomes of the microvm. */
  readonly position: number;
  /** Milliseconds since the epoch, as the guest's clock had it. */
  readonly time: number;
  readonly stream: "stdout" | "stderr";
  readonly text: string;
}

export type HookName = "ready" | "validate" | "run" | "suspend" | "resume" | "terminate";
export type HookFailure =
  | { readonly kind: "status"; readonly status: number }
  | { readonly kind: "refused" }
  | { readonly kind: "timeout" }
  | { readonly kind: "failed" };

/** The guest's hook did not answer 200. */
export class HookError extends Error {
  override readonly name = "HookError";
  readonly hook: HookName;
  readonly failure: HookFailure;
  constructor(hook: HookName, failure: HookFailure) {
    super(`${hook} hook: ${failure.kind}${failure.kind === "status" ? ` ${failure.status}` : ""}`);
    this.hook = hook;
    this.failure = failure;
  }
}

/** Why the host could not do it. `no_space` and `capacity` are the operator's to mend, `internal` is a bug. */
export class HostError extends Error {
  override readonly name = "HostError";
  readonly reason: "no_space" | "capacity" | "not_found" | "incompatible" | "corrupt" | "internal";
  constructor(reason: HostError["reason"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}

/** A file of a restore point or a template is not as it was written. What was to be made of it is untouched. */
export class DamagedError extends HostError {
  readonly part: "restore point" | "template";
  /** Its name in the folder of that. */
  readonly file: string;
  /** Continues a sentence that begins with the file. */
  readonly what: string;
  /** When the microvm's restore point before this one was made, if it is there still: `checkpoint` can have it. */
  readonly earlier: string | undefined;
  readonly #of: string;

  /** @param of which one: `the restore point of 2026-…` */
  constructor(
    part: DamagedError["part"],
    { file, what }: { readonly file: string; readonly what: string },
    of: string,
    earlier?: string,
  ) {
    super("corrupt", `${file} of ${of} ${what}`);
    this.part = part;
    this.file = file;
    this.what = what;
    this.earlier = earlier;
    this.#of = of;
  }

  withEarlier(earlier: string | undefined): DamagedError {
    return new DamagedError(this.part, this, this.#of, earlier);
  }
}

/** Why no stream to the guest's port could be had. */
export class ConnectError extends Error {
  override readonly name = "ConnectError";
  /** `refused`: the guest is there and nothing listens. `unreachable`: the guest did not answer. */
  readonly reason: "refused" | "unreachable";
  constructor(reason: ConnectError["reason"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}

export interface ShellSpec {
  /** Empty: the image's shell. */
  readonly command: readonly string[];
  /** With a terminal of its own; without, input and both outputs are as in a pipe. */
  readonly terminal: boolean;
  /** 0 as long as nobody knows. */
  readonly columns: number;
  readonly rows: number;
  /** What the user's terminal is called. */
  readonly term: string;
}

export type ShellEvent =
  | { readonly kind: "output" | "errors"; readonly bytes: Buffer }
  | { readonly kind: "exit"; readonly code: number };

/** A shell that runs. Disposing of it hangs up all that is in its session. */
export interface Shell extends Disposable {
  /**
   * What it writes, as it comes; its exit is the last event. What is not asked for waits in the guest, and the shell
   * with it. Can be asked for once. @throws Error when the guest is gone before the exit, or makes no sense
   */
  events(): AsyncGenerator<ShellEvent, void>;
  /** Resolves when it may be given more. @throws Error when the guest is gone */
  write(bytes: Uint8Array): Promise<void>;
  endInput(): Promise<void>;
  resize(columns: number, rows: number): Promise<void>;
}

/** Why there is no shell. The message is for the user, and may hold words of the guest's. */
export class ShellError extends Error {
  override readonly name = "ShellError";
  /**
   * `incompatible`: the image is from before there were shells. `no_shell`: it has none. `no_command`: it does not have
   * the command. `too_many`: others are open. `unreachable`: the guest did not answer, or its workload has ended.
   */
  readonly reason: "incompatible" | "no_shell" | "no_command" | "too_many" | "unreachable" | "failed";
  constructor(reason: ShellError["reason"], message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}

/** Codes as the service documents them; some failures have a recorded sentence instead (code `null`). */
export type BuildFailureCode =
  | "S3_ACCESS_DENIED"
  | "S3_NO_SUCH_BUCKET"
  | "S3_NO_SUCH_KEY"
  | "S3_INVALID_OBJECT"
  | "ARCHIVE_INVALID"
  | "ARCHIVE_DOCKERFILE_NOT_FOUND"
  | "CONTAINER_BUILD_FAILED"
  | "DISK_STORAGE_FULL"
  | "INTERNAL_PLATFORM_ERROR";

/** The user's image cannot be built: `message` is the reason that a person reads in `stateReason`. */
export class BuildError extends Error {
  override readonly name = "BuildError";
  readonly code: BuildFailureCode | null;
  constructor(code: BuildFailureCode | null, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}
