import type { Build, Image, ImageConfiguration, ImageState, ImageVersion } from "./image.ts";
import { fromJson } from "./json.ts";
import type { BuildRow, ImageRow, ImageVersionRow } from "./schema.ts";

// The casts of states are sound for the reason that json.ts gives.

export function imageRow(image: Image): ImageRow {
  return {
    arn: image.arn,
    account_id: image.accountId,
    name: image.name,
    generation: image.generation,
    state: image.state,
    latest_active_version: image.latestActiveVersion,
    latest_failed_version: image.latestFailedVersion,
    last_version: image.lastVersion,
    tags: JSON.stringify(image.tags),
    created_at: image.createdAt.getTime(),
    updated_at: image.updatedAt.getTime(),
  };
}

export function imageOf(row: ImageRow): Image {
  return {
    arn: row.arn,
    accountId: row.account_id,
    name: row.name,
    generation: row.generation,
    state: row.state as ImageState,
    latestActiveVersion: row.latest_active_version,
    latestFailedVersion: row.latest_failed_version,
    lastVersion: row.last_version,
    tags: fromJson(row.tags),
    createdAt: new Date(row.created_at),
    updatedAt: new Date(row.updated_at),
  };
}

export function versionRow(version: ImageVersion): ImageVersionRow {
  return {
    image_arn: version.imageArn,
    version: version.version,
    state: version.state,
    status: version.status,
    state_reason: version.stateReason,
    configuration: JSON.stringify(version.configuration),
    created_at: version.createdAt.getTime(),
    updated_at: version.updatedAt.getTime(),
  };
}

export function versionOf(row: ImageVersionRow): ImageVersion {
  return {
    imageArn: row.image_arn,
    version: row.version,
    state: row.state as ImageVersion["state"],
    status: row.status as ImageVersion["status"],
    stateReason: row.state_reason,
    configuration: fromJson<ImageConfiguration>(row.configuration),
    createdAt: new Date(row.created_at),
    updatedAt: new Date(row.updated_at),
  };
}

export function buildRow(build: Build): BuildRow {
  return {
    id: build.id,
    image_arn: build.imageArn,
    version: build.version,
    state: build.state,
    state_reason: build.stateReason,
    architecture: build.architecture,
    chipset: build.chipset,
    chipset_generation: build.chipsetGeneration,
    memory_snapshot_bytes: build.snapshot?.memoryBytes ?? null,
    code_install_bytes: build.snapshot?.codeInstallBytes ?? null,
    disk_snapshot_bytes: build.snapshot?.diskBytes ?? null,
    created_at: build.createdAt.getTime(),
  };
}

export function buildOf(row: BuildRow): Build {
  const {
    memory_snapshot_bytes: memoryBytes,
    code_install_bytes: codeInstallBytes,
    disk_snapshot_bytes: diskBytes,
  } = row;
  return {
    id: row.id,
    imageArn: row.image_arn,
    version: row.version,
    state: row.state as Build["state"],
    stateReason: row.state_reason,
    architecture: row.architecture as Build["architecture"],
    chipset: row.chipset as Build["chipset"],
    chipsetGeneration: row.chipset_generation,
    snapshot:
      memoryBytes === null || codeInstallBytes === null || diskBytes === null
        ? null
        : { memoryBytes, codeInstallBytes, diskBytes },
    createdAt: new Date(row.created_at),
  };
}
