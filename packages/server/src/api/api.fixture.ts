import { connect } from "node:net";
import { LambdaMicrovmsClient, type LambdaMicrovmsClientConfig } from "@aws-sdk/client-lambda-microvms";
import type { Checkpoint, Forks, OperationName, OperationOutput, Quota, Receipt } from "@torpor/protocol";
import { onTestFinished } from "vitest";
import type { Control } from "../control/control.ts";
import type { AccessKeys, Operations, RequestContext } from "../control/request-context.ts";
import type { LogLine } from "../host/host-client.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { createLog, type Log } from "../lib/log.ts";
import type { Admission, Audit } from "./door.ts";
import type { CheckpointExtensions, Extensions, QuotaExtensions } from "./own/extensions.ts";
import { type ApiServer, createApiServer, type Limits, type S3Handler } from "./server.ts";
import { KEY, KEYS, signed } from "./sigv4/signer.fixture.ts";
import { noThrottle } from "./throttle.fixture.ts";
import type { Throttle } from "./throttle.ts";

/** A whole API server on a free port, with operations that answer samples and tell what they were asked. */

export const IMAGE_ARN = "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo-app";
export const MICROVM = "microvm-3f0c2b7e-8a41-3d5c-9e77-1b2c3d4e5f60";
const CREATED = new Date(1789482600512);

const image = {
  imageArn: IMAGE_ARN,
  name: "demo-app",
  state: "CREATED",
  createdAt: CREATED,
  latestActiveImageVersion: "1.0",
} as const;
const configuration = {
  baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
  buildRoleArn: "arn:aws:iam::111122223333:role/build",
  codeArtifact: { uri: "s3://demo-bucket/app.zip" },
  hooks: { port: 9000, microvmHooks: { run: "ENABLED", runTimeoutInSeconds: 5 } },
  resources: [{ minimumMemoryInMiB: 2048 }],
} as const;
const version = {
  ...configuration,
  imageArn: IMAGE_ARN,
  imageVersion: "1.0",
  state: "SUCCESSFUL",
  status: "ACTIVE",
  createdAt: CREATED,
} as const;
const build = {
  imageArn: IMAGE_ARN,
  imageVersion: "1.0",
  buildId: "7d0f0c52-5a1e-4a53-9c35-6a3cc1f2a001",
  buildState: "SUCCESSFUL",
  architecture: "X86_64",
  chipset: "GENERIC",
  chipsetGeneration: "1",
  createdAt: CREATED,
} as const;
const microvm = {
  microvmId: MICROVM,
  state: "RUNNING",
  endpoint: "9a41c6d2-77b0-4e19-a2c8-5d0e6f718293.lambda-microvm.us-east-1.localhost",
  imageArn: IMAGE_ARN,
  imageVersion: "1.0",
  maximumDurationInSeconds: 28800,
  startedAt: new Date(1789483142026),
  idlePolicy: { maxIdleDurationSeconds: 300, suspendedDurationSeconds: 3600, autoResumeEnabled: true },
} as const;

const connector = {
  Arn: "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-7d0f0c52-5a1e-4a53-9c35-6a3cc1f2a001",
  Name: "egress",
  Id: "nc-7d0f0c52-5a1e-4a53-9c35-6a3cc1f2a001",
  Configuration: {
    VpcEgressConfiguration: {
      SubnetIds: ["subnet-1"],
      NetworkProtocol: "IPv4",
      AssociatedComputeResourceTypes: ["MicroVm"],
    },
  },
  OperatorRole: "arn:aws:iam::111122223333:role/connect",
  State: "PENDING",
} as const;

export const SAMPLES: { readonly [N in OperationName]: OperationOutput<N> } = {
  ListMicrovmImages: { items: [image], nextToken: "more" },
  UpdateMicrovmImage: {
    ...image,
    ...configuration,
    state: "UPDATING",
    imageVersion: "2.0",
    updatedAt: CREATED,
  },
  DeleteMicrovmImage: { imageIdentifier: IMAGE_ARN, state: "DELETING" },
  ListMicrovmImageVersions: { items: [version], nextToken: "more" },
  UpdateMicrovmImageVersion: { ...version, status: "INACTIVE" },
  DeleteMicrovmImageVersion: { imageIdentifier: IMAGE_ARN, imageVersion: "1.0", state: "DELETING" },
  ListManagedMicrovmImages: { items: [{ imageArn: configuration.baseImageArn, createdAt: CREATED }] },
  ListManagedMicrovmImageVersions: {
    items: [{ imageArn: configuration.baseImageArn, imageVersion: "1", status: "AVAILABLE", createdAt: CREATED }],
  },
  CreateMicrovmImage: {
    ...image,
    ...configuration,
    state: "CREATING",
    imageVersion: "1.0",
    environmentVariables: null,
  },
  GetMicrovmImage: { ...image, tags: { team: "a" } },
  GetMicrovmImageVersion: { ...version, environmentVariables: { A: "1", ["__proto__"]: "2" } },
  ListMicrovmImageBuilds: { items: [build], nextToken: "more" },
  GetMicrovmImageBuild: { ...build, snapshotBuild: { memorySnapshotSizeInBytes: 609087488 } },
  RunMicrovm: { ...microvm, state: "PENDING" },
  GetMicrovm: { ...microvm, state: "TERMINATED", terminatedAt: new Date(1789483420771), stateReason: "Success." },
  ListMicrovms: {
    items: [
      {
        microvmId: MICROVM,
        state: "SUSPENDED",
        imageArn: IMAGE_ARN,
        imageVersion: "1.0",
        startedAt: microvm.startedAt,
      },
    ],
  },
  SuspendMicrovm: {},
  ResumeMicrovm: {},
  TerminateMicrovm: {},
  CreateMicrovmAuthToken: { authToken: { "X-aws-proxy-auth": "eyJraWQiOi.iv.ciphertext.tag" } },
  CreateMicrovmShellAuthToken: { authToken: { "X-aws-proxy-auth": "eyJraWQiOi.iv.ciphertext.tag" } },
  TagResource: {},
  UntagResource: {},
  ListTags: { Tags: { team: "a" } },
  CreateNetworkConnector: connector,
  GetNetworkConnector: { ...connector, Version: 1, StateReason: "Initial creation", LastModified: CREATED },
  ListNetworkConnectors: {
    NetworkConnectors: [
      { Arn: connector.Arn, Name: connector.Name, Id: connector.Id, Type: "VPC_EGRESS", LastModified: CREATED },
    ],
  },
  UpdateNetworkConnector: { ...connector, LastUpdateStatus: "InProgress", LastModified: CREATED },
  DeleteNetworkConnector: { ...connector, State: "DELETING" },
};

const RECEIPT: Receipt = {
  operation: "launch",
  startedAt: "2026-09-15T14:30:00.000Z",
  totalMs: 12.5,
  phases: [{ name: "restore", ms: 8.25 }],
  bytesRead: 1,
  bytesWritten: 2,
  reused: ["slot"],
};

export interface Call {
  readonly name: string;
  readonly input: unknown;
  readonly context: RequestContext;
}

export interface TestApi {
  readonly server: ApiServer;
  readonly url: string;
  readonly port: number;
  /** What the operations were asked, in order. */
  readonly calls: Call[];
  /** The real client, as a user would make it. */
  client(config?: LambdaMicrovmsClientConfig): LambdaMicrovmsClient;
  /** Signs with the SDK's signer and sends over fetch. */
  send(request: Parameters<typeof signed>[0], options?: Parameters<typeof signed>[3]): Promise<Response>;
  /** Writes bytes to a connection of its own and returns all that comes back until the server ends it. */
  raw(bytes: string): Promise<string>;
}

export interface TestApiOptions {
  readonly apiPort?: number;
  /** Instead of samples. */
  readonly control?: Pick<Control, "operations" | "extensions" | "keys" | "authority">;
  readonly longestLife?: (accountId: string) => number;
  readonly operations?: Partial<Operations>;
  readonly extensions?: Partial<Extensions>;
  /** Everybody is let in by default, and nothing is written down. */
  readonly admission?: Admission;
  readonly audit?: Audit;
  readonly keys?: AccessKeys;
  readonly s3?: S3Handler;
  readonly limits?: Partial<Limits>;
  readonly throttle?: Throttle;
  readonly clock?: Clock;
  readonly log?: Log;
}

/** Not listening yet. */
export async function buildApi(options: TestApiOptions = {}, calls: Call[] = []): Promise<ApiServer> {
  const { control } = options;
  return await createApiServer({
    config: { apiHost: "127.0.0.1", apiPort: options.apiPort ?? 0, region: "us-east-1" },
    version: "1.2.3",
    log: options.log ?? createLog("silent"),
    clock: options.clock ?? systemClock,
    keys: options.keys ?? control?.keys ?? KEYS,
    admission: options.admission ?? control?.authority ?? { admit: async () => "*" },
    audit: options.audit ?? { ready: async () => {}, append: async () => {} },
    throttle: options.throttle ?? noThrottle(),
    longestLife: options.longestLife ?? (() => 28_800),
    operations: control?.operations ?? recording(calls, options.operations ?? {}),
    extensions: control?.extensions ?? {
      ...EXTENSIONS,
      checkpoints: checkpoints(calls),
      quotas: quotas(calls),
      ...options.extensions,
    },
    s3: options.s3 ?? (async (_request, response) => void response.writeHead(403).end("<Code>AccessDenied</Code>")),
    limits: { closeMs: 1000, ...options.limits },
  });
}

export async function startApi(options: TestApiOptions = {}): Promise<TestApi> {
  const calls: Call[] = [];
  const clock = options.clock ?? systemClock;
  const server = await buildApi(options, calls);
  await server.listen();
  onTestFinished(() => server.close());
  const url = server.address;
  const port = Number(new URL(url).port);
  return {
    server,
    url,
    port,
    calls,
    client(config = {}) {
      const client = new LambdaMicrovmsClient({
        endpoint: url,
        region: "us-east-1",
        maxAttempts: 1,
        credentials: { accessKeyId: KEY.accessKeyId, secretAccessKey: KEY.secretAccessKey },
        ...config,
      });
      onTestFinished(() => client.destroy());
      return client;
    },
    async send(request, signing = {}) {
      const headers = { host: `127.0.0.1:${port}`, ...request.headers };
      const out = await signed({ ...request, headers }, "lambda", clock.now(), signing);
      const sent = Object.fromEntries(
        out.rawHeaders.flatMap((name, i) => (i % 2 === 0 && name !== "host" ? [[name, out.rawHeaders[i + 1]!]] : [])),
      );
      return await fetch(url + out.url, { method: out.method, headers: sent, body: bytesOf(request.body) });
    },
    raw: (bytes) => exchange(port, bytes),
  };
}

/** As text, fetch would invent a content type for it. */
const bytesOf = (body: string | undefined): Uint8Array<ArrayBuffer> | null =>
  body === undefined ? null : new TextEncoder().encode(body);

export async function exchange(port: number, bytes: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  const { promise, resolve } = Promise.withResolvers<void>();
  let received = "";
  socket.setEncoding("latin1").on("data", (text: string) => {
    received += text;
  });
  socket.on("error", () => {}); // a reset after the answer is as good an end as any
  socket.on("close", () => resolve());
  socket.write(bytes, "latin1");
  await promise;
  return received;
}

function recording(calls: Call[], overrides: Partial<Operations>): Operations {
  const answer =
    <N extends OperationName>(name: N) =>
    async (input: unknown, context: RequestContext): Promise<OperationOutput<N>> => {
      calls.push({ name, input, context });
      return SAMPLES[name];
    };
  return {
    CreateMicrovmImage: answer("CreateMicrovmImage"),
    GetMicrovmImage: answer("GetMicrovmImage"),
    ListMicrovmImages: answer("ListMicrovmImages"),
    UpdateMicrovmImage: answer("UpdateMicrovmImage"),
    DeleteMicrovmImage: answer("DeleteMicrovmImage"),
    ListMicrovmImageVersions: answer("ListMicrovmImageVersions"),
    UpdateMicrovmImageVersion: answer("UpdateMicrovmImageVersion"),
    DeleteMicrovmImageVersion: answer("DeleteMicrovmImageVersion"),
    ListManagedMicrovmImages: answer("ListManagedMicrovmImages"),
    ListManagedMicrovmImageVersions: answer("ListManagedMicrovmImageVersions"),
    GetMicrovmImageVersion: answer("GetMicrovmImageVersion"),
    ListMicrovmImageBuilds: answer("ListMicrovmImageBuilds"),
    GetMicrovmImageBuild: answer("GetMicrovmImageBuild"),
    RunMicrovm: answer("RunMicrovm"),
    GetMicrovm: answer("GetMicrovm"),
    ListMicrovms: answer("ListMicrovms"),
    SuspendMicrovm: answer("SuspendMicrovm"),
    ResumeMicrovm: answer("ResumeMicrovm"),
    TerminateMicrovm: answer("TerminateMicrovm"),
    CreateMicrovmAuthToken: answer("CreateMicrovmAuthToken"),
    CreateMicrovmShellAuthToken: answer("CreateMicrovmShellAuthToken"),
    TagResource: answer("TagResource"),
    UntagResource: answer("UntagResource"),
    ListTags: answer("ListTags"),
    CreateNetworkConnector: answer("CreateNetworkConnector"),
    GetNetworkConnector: answer("GetNetworkConnector"),
    ListNetworkConnectors: answer("ListNetworkConnectors"),
    UpdateNetworkConnector: answer("UpdateNetworkConnector"),
    DeleteNetworkConnector: answer("DeleteNetworkConnector"),
    ...overrides,
  };
}

export const LINES: readonly LogLine[] = [
  { position: 1, time: 1789483142026, stream: "stdout", text: "hello" },
  { position: 2, time: 1789483142027, stream: "stderr", text: "wörld" },
];

export const CHECKPOINT: Checkpoint = {
  checkpointId: "checkpoint-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60",
  microvmId: MICROVM,
  name: "before",
  state: "AVAILABLE",
  stateReason: null,
  imageArn: IMAGE_ARN,
  imageVersion: "1.0",
  parentCheckpointId: null,
  memoryBytes: 600,
  diskBytes: 100,
  restorePoint: { state: "unverified", checkedAt: null, damage: null },
  createdAt: "2026-09-15T14:30:00.000Z",
};
const { checkpointId, microvmId } = CHECKPOINT;
const FORKS: Forks = {
  microvmId,
  checkpointId,
  items: [
    {
      microvmId: MICROVM,
      state: "RUNNING",
      stateReason: null,
      endpoint: microvm.endpoint,
      startedAt: "2026-09-15T14:30:01.000Z",
    },
  ],
};

const checkpoints = (calls: Call[]): CheckpointExtensions => {
  const answer =
    <T>(name: string, value: T) =>
    async (context: RequestContext, ...input: unknown[]): Promise<T> => {
      calls.push({ name, input, context });
      return value;
    };
  return {
    create: answer("create", CHECKPOINT),
    get: answer("get", CHECKPOINT),
    list: answer("list", { items: [CHECKPOINT], nextToken: "more" }),
    delete: answer("delete", undefined),
    forkCheckpoint: answer("forkCheckpoint", FORKS),
    forkMicrovm: answer("forkMicrovm", FORKS),
    rollback: answer("rollback", { microvmId, checkpointId, state: "RUNNING" }),
    lineage: answer("lineage", { microvmId, forkedFrom: { microvmId, checkpointId }, rolledBackTo: null }),
  };
};

export const QUOTA: Quota = {
  name: "images",
  describe: "images",
  unit: "images",
  scope: "account",
  code: "L-942E56BE",
  adjustable: true,
  value: 100,
  used: 3,
  source: "config",
};

const quotas = (calls: Call[]): QuotaExtensions => {
  const record = (name: string, context: RequestContext, ...input: unknown[]): void => {
    calls.push({ name, input, context });
  };
  return {
    async list(context, accountId) {
      record("list", context, accountId);
      return { accountId: accountId ?? context.accountId, items: [QUOTA] };
    },
    set: async (context, ...input) => record("set", context, ...input),
    reset: async (context, ...input) => record("reset", context, ...input),
  };
};

const unscripted = (): never => {
  throw new Error("the test has to say what these do");
};
const EXTENSIONS: Omit<Extensions, "checkpoints" | "quotas"> = {
  keys: {
    create: unscripted,
    list: unscripted,
    update: unscripted,
    rotate: unscripted,
    delete: unscripted,
    policy: unscripted,
    putPolicy: unscripted,
  },
  accounts: { create: unscripted, list: unscripted, update: unscripted },
  audit: { list: unscripted },
  hostFacts: () => ({
    guestMadeAt: CREATED,
    architecture: "X86_64",
    isolation: "emulated",
    accelerator: "tcg",
    vmmVersion: "10.0.0",
    guestKernelVersion: "6.12",
    agentVersion: "1",
    burst: 1,
  }),
  receipts: async () => [RECEIPT],
  usage: async (_context, microvmId) => ({
    microvmId,
    process: "running",
    pssBytes: 300,
    privateBytes: 200,
    networkSentBytes: 300,
    networkReceivedBytes: 400,
    snapshotMemoryBytes: 100,
    diskBytes: 400,
    restorePoint: { state: "verified", checkedAt: "2026-01-02T03:04:05.000Z", damage: null },
  }),
  logs: async () => of(LINES),
  buildLog: async () => of(["STEP 1\n", "STEP 2\n"]),
  logGroups: {
    groups: async () => ({ items: [], nextToken: null }),
    streams: async () => ({ items: [], nextToken: null }),
    events: async () => ({ items: [], forward: "f", backward: "b" }),
    search: async () => ({ items: [], nextToken: null }),
    follow: () => of([]),
  },
  buildReceipt: async (_context, _imageArn, version) => (version === "1.0" ? RECEIPT : undefined),
};

async function* of<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
