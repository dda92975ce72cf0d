import type { OperationOutput } from "@torpor/protocol";
import type { Build, Image, ImageConfiguration, ImageVersion } from "../../store/image.ts";
import { formatVersion } from "../authorise.ts";

const versionOrNull = (version: number | null): string | null => (version === null ? null : formatVersion(version));

function configurationView(configuration: ImageConfiguration) {
  return {
    baseImageArn: configuration.baseImageArn,
    baseImageVersion: configuration.baseImageVersion,
    buildRoleArn: configuration.buildRoleArn,
    codeArtifact: { uri: configuration.codeArtifactUri },
    description: configuration.description,
    logging: configuration.logging,
    egressNetworkConnectors: configuration.egressConnectors,
    cpuConfigurations: configuration.architectures?.map((architecture) => ({ architecture })) ?? null,
    resources: [{ minimumMemoryInMiB: configuration.memoryMib }],
    additionalOsCapabilities: configuration.additionalOsCapabilities,
    hooks: configuration.hooks,
    environmentVariables: configuration.environment,
  };
}

/** The answer to the request that made another version of the image. */
export function updatedImageView(image: Image, version: ImageVersion): OperationOutput<"UpdateMicrovmImage"> {
  const { tags: _, ...view } = createdImageView(image, version);
  return { ...view, updatedAt: image.updatedAt };
}

/** The answer to the request that made the image and its first version. */
export function createdImageView(image: Image, version: ImageVersion): OperationOutput<"CreateMicrovmImage"> {
  return {
    imageArn: image.arn,
    name: image.name,
    state: image.state,
    imageVersion: formatVersion(version.version),
    latestActiveImageVersion: versionOrNull(image.latestActiveVersion),
    latestFailedImageVersion: versionOrNull(image.latestFailedVersion),
    createdAt: image.createdAt,
    updatedAt: image.updatedAt,
    tags: Object.keys(image.tags).length > 0 ? image.tags : null,
    ...configurationView(version.configuration),
  };
}

export function imageItem(image: Image): OperationOutput<"ListMicrovmImages">["items"][number] {
  return {
    imageArn: image.arn,
    name: image.name,
    state: image.state,
    latestActiveImageVersion: versionOrNull(image.latestActiveVersion),
    latestFailedImageVersion: versionOrNull(image.latestFailedVersion),
    createdAt: image.createdAt,
  };
}

export function imageView(image: Image): OperationOutput<"GetMicrovmImage"> {
  return { ...imageItem(image), updatedAt: image.updatedAt, tags: image.tags };
}

export function imageVersionView(version: ImageVersion): OperationOutput<"GetMicrovmImageVersion"> {
  return {
    imageArn: version.imageArn,
    imageVersion: formatVersion(version.version),
    state: version.state,
    status: version.status,
    stateReason: version.stateReason,
    createdAt: version.createdAt,
    updatedAt: version.updatedAt,
    tags: null,
    ...configurationView(version.configuration),
  };
}

export function buildItem(build: Build): OperationOutput<"ListMicrovmImageBuilds">["items"][number] {
  return {
    imageArn: build.imageArn,
    imageVersion: formatVersion(build.version),
    buildId: build.id,
    buildState: build.state,
    architecture: build.architecture,
    chipset: build.chipset,
    chipsetGeneration: build.chipsetGeneration,
    createdAt: build.createdAt,
    stateReason: build.stateReason,
  };
}

export function buildView(build: Build): OperationOutput<"GetMicrovmImageBuild"> {
  return {
    ...buildItem(build),
    snapshotBuild: build.snapshot && {
      memorySnapshotSizeInBytes: build.snapshot.memoryBytes,
      codeInstallSizeInBytes: build.snapshot.codeInstallBytes,
      diskSnapshotSizeInBytes: build.snapshot.diskBytes,
    },
  };
}
