import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { onTestFinished } from "vitest";
import { BlobError, type BlobSource } from "../../blobs/blob-store.ts";
import { createLog } from "../../lib/log.ts";
import { openStore } from "../../store/open.ts";
import type { Store } from "../../store/store.ts";
import { temporaryFolder } from "../../store/testing.ts";
import type { AuditTrail } from "../audit/trail.ts";
import { type Control, createControl } from "../control.ts";
import { Sealer } from "../identity/sealer.ts";
import type { RequestContext } from "../request-context.ts";
import { newTokenKey } from "../token/key-ring.ts";
import type { TokenClaims, TokenService } from "../token/token.ts";
import { FakeClock, turns } from "./fake-clock.ts";
import { FakeHost, FakeMachine } from "./fake-host.ts";

export const REGION = "us-east-1";
export const ACCOUNT = "000000000000";
export const BASE_IMAGE = `arn:aws:lambda:${REGION}:aws:microvm-image:al2023-1`;

export function imageArn(name: string, account = ACCOUNT): string {
  return `arn:aws:lambda:${REGION}:${account}:microvm-image:${name}`;
}

export function connectorArn(name: string): string {
  return `arn:aws:lambda:${REGION}:aws:network-connector:aws-network-connector:${name}`;
}

export function context(account = ACCOUNT): RequestContext {
  return {
    requestId: "request",
    accountId: account,
    principalArn: `arn:aws:iam::${account}:root`,
    accessKeyId: "AKIATEST",
    keyName: "root",
    access: "full",
    sourceIp: "127.0.0.1",
    signal: new AbortController().signal,
  };
}

export interface WorldOptions {
  readonly maxMicrovms?: number;
  readonly endedRetentionHours?: number;
  readonly maxConcurrentBuilds?: number;
  readonly quotaPreset?: "self-hosted" | "aws";
  readonly quotas?: string;
  readonly maxArtifactBytes?: number;
  readonly roleFile?: string;
  readonly strictRoles?: boolean;
  readonly networkFile?: string;
  readonly allowEmulatedAccounts?: boolean;
  /** There is none by default. */
  readonly trail?: AuditTrail;
  /** What to wait for where the server waits for store or host, so that things meet in other orders. */
  readonly delay?: () => Promise<void>;
}

/** One server process: everything that dies with it. */
interface Process {
  readonly control: Control;
  readonly host: FakeHost;
  readonly store: Store;
  alive: boolean;
  readonly end: () => void;
}

/**
 * A machine, a database file and a clock that outlive servers, and the server that runs now. `crash` ends it as
 * `kill -9` would: what it waited for never comes.
 */
export class World {
  readonly clock = new FakeClock();
  readonly machine = new FakeMachine();
  /** Objects by `bucket/key`; what throws, throws. */
  readonly objects = new Map<string, () => Buffer>();
  readonly sealer = new Sealer([newTokenKey(this.clock)]);
  readonly minted: TokenClaims[] = [];
  readonly #folder: string;
  #options: WorldOptions;
  /** Points at which operations wait, and what lets them go on. */
  readonly #held = new Map<string, { readonly reached: () => void; readonly released: Promise<void> }>();
  /** What calls to the store fail with for now. */
  storeFailure: Error | undefined;
  /** How often a server has died. */
  crashes = 0;
  #process: Process | undefined;
  #boundariesToCrash: number | undefined;
  #crashed = Promise.withResolvers<void>();
  /** Calls to store and host that have been begun and not made yet. */
  #delayed = 0;

  private constructor(folder: string, options: WorldOptions) {
    this.#folder = folder;
    this.#options = options;
    this.objects.set("bucket/app.zip", () => Buffer.from("a zip"));
  }

  static async create(options: WorldOptions = {}): Promise<World> {
    const world = new World(await temporaryFolder(), options);
    onTestFinished(() => world.#end());
    await world.boot();
    return world;
  }

  /** As `create` for code that is called many times within one test. */
  static async within(
    folder: string,
    work: (world: World) => Promise<void>,
    options: WorldOptions = {},
  ): Promise<void> {
    const world = new World(folder, options);
    try {
      await world.boot();
      await work(world);
    } finally {
      await world.#end();
      // A server that has died here may still be writing its logs: not all of its work waits for store and host.
      await rm(folder, { recursive: true, force: true, maxRetries: 10 });
    }
  }

  get control(): Control {
    return this.#now().control;
  }

  get host(): FakeHost {
    return this.#now().host;
  }

  get store(): Store {
    return this.#now().store;
  }

  get dataDir(): string {
    return this.#folder;
  }

  get operations(): Control["operations"] {
    return this.control.operations;
  }

  /** Resolves when the running server is ended by `crashAfter`. */
  get crashed(): Promise<void> {
    return this.#crashed.promise;
  }

  async boot(): Promise<void> {
    const store = await openStore(join(this.#folder, "torpor.db"), createLog("silent"));
    const session = this.clock.session();
    const boundary = async (name: string): Promise<void> => {
      await this.#boundary(process, name);
    };
    const host = new FakeHost(this.machine, boundary);
    const process: { alive: boolean } & Partial<Process> = { alive: true, end: session.end };
    const control = await createControl({
      config: {
        region: REGION,
        accountId: ACCOUNT,
        allowEmulatedAccounts: true,
        dataDir: this.#folder,
        maxMicrovms: 1000,
        quotaPreset: "self-hosted",
        quotas: "",
        endedRetentionHours: 0,
        maxConcurrentBuilds: 2,
        maxArtifactBytes: 1 << 20,
        roleFile: "",
        networkFile: "",
        slotCidr: "100.64.0.0/16",
        logRetentionDays: 30,
        logMaxMib: 64,
        otlpLogsEndpoint: "",
        otlpLogsHeaders: "",
        cloudwatchRegion: "",
        cloudwatchEndpoint: "",
        cloudwatchAccessKeyId: "",
        cloudwatchSecretAccessKey: "",
        strictRoles: false,
        ...this.#options,
      },
      store: watched(store, boundary, () => this.storeFailure),
      host,
      tokens: this.#tokens(),
      sealer: this.sealer,
      trail: this.#options.trail ?? { folder: this.#folder, end: { file: 1, bytes: 0 }, changed: never() },
      blobs: this.#blobs(),
      clock: session.clock,
      log: createLog("silent"),
      endpointName: (label) => `${label}.lambda-microvm.localhost:4743`,
    });
    this.#process = Object.assign(process, { control, host, store, end: session.end });
    this.#crashed = Promise.withResolvers();
    await Promise.race([control.start(), this.crashed]);
  }

  /**
   * The server is gone from one moment to the next, and another one starts; with `again` that one dies in its turn,
   * after so many boundaries, perhaps while it starts.
   */
  async crash(again?: number): Promise<void> {
    this.crashes++;
    const dead = this.#now();
    dead.alive = false;
    dead.end();
    this.#boundariesToCrash = again;
    this.machine.busy.clear();
    await turns();
    await dead.store.close();
    await this.boot();
  }

  /** The server will die at the n-th place from now where it waits for the store or the host; undefined: it will not. */
  crashAfter(boundaries: number | undefined): void {
    this.#boundariesToCrash = boundaries;
  }

  /** True when the server died by `crashAfter` and nobody has started another. */
  get dead(): boolean {
    return !this.#now().alive;
  }

  /** For the servers that start from now on. */
  reconfigure(options: WorldOptions): void {
    this.#options = { ...this.#options, ...options };
  }

  /** A clean end and a new start. */
  async restart(): Promise<void> {
    await this.control.close();
    await this.store.close();
    await this.boot();
  }

  /** Operations that come to the point of the host wait there; resolves when one has. Call `release` to let it go on. */
  hold(point: string): { readonly reached: Promise<void>; readonly release: () => void } {
    const reached = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    this.#held.set(point, { reached: reached.resolve, released: released.promise });
    return {
      reached: reached.promise,
      release: () => {
        this.#held.delete(point);
        released.resolve();
      },
    };
  }

  /** Until nothing goes on by itself any more. */
  async settled(): Promise<void> {
    await turns();
    await Promise.race([this.control.settled(), this.crashed]);
    await turns();
  }

  /** As `settled`, and until no look of a policy is half done either. */
  async quiet(): Promise<void> {
    do await this.settled();
    while (this.#delayed > 0);
  }

  /** Makes an image that microvms can be run from; returns its ARN. */
  async image(
    name: string,
    input: Partial<Parameters<Control["operations"]["CreateMicrovmImage"]>[0]> = {},
    by: RequestContext = context(),
  ): Promise<string> {
    const { imageArn: arn } = await this.operations.CreateMicrovmImage(
      {
        name,
        baseImageArn: BASE_IMAGE,
        buildRoleArn: "arn:aws:iam::000000000000:role/build",
        codeArtifact: { uri: "s3://bucket/app.zip" },
        ...input,
      },
      by,
    );
    await this.settled();
    return arn;
  }

  /** A RUNNING microvm. */
  async running(
    imageIdentifier: string,
    input: Partial<Parameters<Control["operations"]["RunMicrovm"]>[0]> = {},
    by: RequestContext = context(),
  ): Promise<string> {
    const { microvmId } = await this.operations.RunMicrovm({ imageIdentifier, ...input }, by);
    await this.settled();
    return microvmId;
  }

  async state(microvmIdentifier: string): Promise<string> {
    return (await this.operations.GetMicrovm({ microvmIdentifier }, context())).state;
  }

  async reason(microvmIdentifier: string): Promise<string | null | undefined> {
    return (await this.operations.GetMicrovm({ microvmIdentifier }, context())).stateReason;
  }

  async #boundary(process: { alive: boolean; end?: () => void }, name: string): Promise<void> {
    this.#delayed++;
    await this.#options.delay?.();
    this.#delayed--;
    if (!process.alive) return await never();
    const held = this.#held.get(name);
    if (held) {
      held.reached();
      await held.released;
      if (!process.alive) return await never();
    }
    if (this.#boundariesToCrash === undefined || this.#process !== process) return;
    if (this.#boundariesToCrash-- > 0) return;
    this.#boundariesToCrash = undefined;
    process.alive = false;
    process.end?.();
    this.#crashed.resolve();
    return await never();
  }

  #now(): Process {
    if (!this.#process) throw new Error("no server was started");
    return this.#process;
  }

  #tokens(): TokenService {
    return {
      mint: async (claims) => {
        this.minted.push(claims);
        return `token-${this.minted.length}`;
      },
      verify: async () => "garbled",
    };
  }

  #blobs(): BlobSource {
    return {
      open: async (_accountId, bucket, key) => {
        const object = this.objects.get(`${bucket}/${key}`)?.();
        if (!object) throw new BlobError("S3_NO_SUCH_KEY", `there is no ${key} in ${bucket}`);
        return { size: object.length, body: Readable.from([object]) };
      },
    };
  }

  async #end(): Promise<void> {
    const process = this.#process;
    if (!process) return;
    if (process.alive) {
      const closed = process.control.close();
      await this.clock.advance(10_000); // for what a failed test has left held
      await closed;
    }
    process.end();
    await process.store.close();
  }
}

/** Nothing comes back to a process that is dead. */
function never<T>(): Promise<T> {
  return new Promise<T>(() => {});
}

/** The store with a boundary before and after each call: before, nothing is written; after, all of it. */
function watched(store: Store, boundary: (name: string) => Promise<void>, failing: () => Error | undefined): Store {
  const wrap = <T extends object>(target: T, path: string): T =>
    new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name, target);
        const at = `${path}.${String(name)}`;
        if (typeof value === "object" && value !== null) return wrap(value, at);
        if (typeof value !== "function") return value;
        return async (...args: unknown[]) => {
          await boundary(`${at}:before`);
          const failure = failing();
          if (failure) throw failure;
          const result: unknown = await Reflect.apply(value, target, args);
          await boundary(`${at}:after`);
          return result;
        };
      },
    });
  return wrap(store, "store");
}
