import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { createLog } from "../lib/log.ts";
import type { Checkpoint, CheckpointState } from "./checkpoint.ts";
import type { Build, Image, ImageConfiguration, ImageVersion } from "./image.ts";
import type { Microvm, MicrovmState } from "./microvm.ts";
import { openStore } from "./open.ts";
import type { Store } from "./store.ts";

/** For tests: a folder that goes away with the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "torpor-store-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** For tests: a store on a file of its own. */
export async function temporaryStore(): Promise<Store> {
  const store = await openStore(join(await temporaryFolder(), "torpor.db"), createLog("silent"));
  onTestFinished(() => store.close());
  return store;
}

const DEMO = "arn:aws:lambda:us-east-1:000000000000:microvm-image:demo";
const CREATED = new Date(1_789_482_600_512);

/** For tests: an image that is being created. */
export const someImage = (core: Partial<Image> = {}): Image => ({
  arn: DEMO,
  accountId: "000000000000",
  name: "demo",
  generation: 1,
  state: "CREATING",
  latestActiveVersion: null,
  latestFailedVersion: null,
  lastVersion: 1,
  tags: {},
  createdAt: CREATED,
  updatedAt: CREATED,
  ...core,
});

/** For tests: a version of that image that waits for its build. */
export const someVersion = (version = 1, configuration: Partial<ImageConfiguration> = {}): ImageVersion => ({
  imageArn: DEMO,
  version,
  state: "PENDING",
  status: "INACTIVE",
  stateReason: null,
  configuration: {
    baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
    baseImageVersion: "1.0",
    buildRoleArn: "arn:aws:iam::000000000000:role/build",
    codeArtifactUri: "s3://bucket/app.zip",
    description: null,
    logging: null,
    egressConnectors: [],
    architectures: null,
    memoryMib: 2048,
    additionalOsCapabilities: null,
    hooks: null,
    environment: null,
    ...configuration,
  },
  createdAt: CREATED,
  updatedAt: CREATED,
});

/** For tests: a build of such a version that has not begun. */
export const someBuild = (version: number, id: string): Build => ({
  id,
  imageArn: DEMO,
  version,
  state: "PENDING",
  stateReason: null,
  architecture: "X86_64",
  chipset: "GENERIC",
  chipsetGeneration: "1",
  snapshot: null,
  createdAt: CREATED,
});

/** For tests: a microvm in the given state. */
export function someMicrovm(state: MicrovmState, core: Partial<Microvm> = {}): Microvm {
  return {
    id: `microvm-${randomUUID()}`,
    accountId: "000000000000",
    label: randomUUID(),
    generation: 1,
    imageArn: DEMO,
    imageVersion: 1,
    templateId: randomUUID(),
    spec: {
      memoryMib: 2048,
      maximumDurationSeconds: 28_800,
      idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 600, autoResumeEnabled: true },
      executionRoleArn: null,
      logging: null,
      ingressConnectors: [],
      egressConnectors: [],
      hooks: { run: { port: 9000, timeoutMs: 1000 } },
    },
    startedAt: new Date(1_789_483_142_026),
    deadline: 1_789_511_942_026,
    lastActivityAt: new Date(1_789_483_142_026),
    fork: null,
    rolledBackTo: null,
    ...core,
    ...state,
  };
}

/** For tests: a checkpoint in the given state. */
export function someCheckpoint(state: CheckpointState, core: Partial<Checkpoint> = {}): Checkpoint {
  const vm = someMicrovm({ state: "RUNNING", reason: null });
  return {
    id: `checkpoint-${randomUUID()}`,
    accountId: vm.accountId,
    microvmId: vm.id,
    name: null,
    internal: false,
    imageArn: vm.imageArn,
    imageVersion: vm.imageVersion,
    templateId: vm.templateId,
    spec: vm.spec,
    parentCheckpointId: null,
    createdAt: new Date(1_789_483_142_026),
    ...core,
    ...state,
  };
}
