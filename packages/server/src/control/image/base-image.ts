import { formatImageArn, parseImageArn } from "@torpor/protocol";
import { invalidInput, notFound } from "../../lib/errors.ts";
import { formatVersion, parseVersion, refuseForeign } from "../authorise.ts";
import type { RequestContext } from "../request-context.ts";

/** What microvms are built on: the guest's system, not what a Dockerfile begins FROM. */
export interface BaseImage {
  readonly name: string;
  /** Oldest first. */
  readonly versions: readonly BaseImageVersion[];
}
export interface BaseImageVersion {
  readonly version: number;
  /** Both can be built on; a DEPRECATED one is not chosen unless it is asked for. */
  readonly status: "AVAILABLE" | "DEPRECATED";
}

/**
 * The names and versions that clients of the service know. All of them are the guest of this host, of which there is one:
 * a request that names the older version is served, as there.
 */
export const BASE_IMAGES: readonly BaseImage[] = [
  {
    name: "al2023-1",
    versions: [
      { version: 0, status: "AVAILABLE" },
      { version: 1, status: "AVAILABLE" },
    ],
  },
];

export const baseImageArn = (region: string, name: string): string => formatImageArn({ region, account: "aws", name });

/**
 * The base image of that ARN, in this region.
 * @throws TorporError as for any image: malformed, another account's, unknown
 */
export function findBaseImage(
  operation: string,
  identifier: string,
  context: RequestContext,
  region: string,
  catalogue: readonly BaseImage[] = BASE_IMAGES,
): BaseImage {
  const arn = parseImageArn(identifier);
  if (!arn) throw invalidInput(`Invalid ARN format: ${identifier}`);
  refuseForeign(operation, identifier, arn, context);
  const base = catalogue.find(({ name }) => identifier === baseImageArn(region, name));
  if (!base) throw notFound(`MicroVMImage not found for MicroVMImageID: ${identifier}`);
  return base;
}

/**
 * The version that is meant by `1` or `1.0`, else the newest that is AVAILABLE, as it is echoed.
 * @throws TorporError `not_found`
 */
export function baseImageVersion(identifier: string, base: BaseImage, wanted: string | null | undefined): string {
  if (!wanted) {
    const newest = base.versions.findLast(({ status }) => status === "AVAILABLE");
    if (!newest) throw notFound(`No available version found for MicroVM image ${identifier}`);
    return formatVersion(newest.version);
  }
  const number = parseVersion(wanted);
  if (!base.versions.some(({ version }) => version === number))
    throw notFound(`MicroVMImage not found for MicroVMImage: ${identifier}, Version: ${wanted}`);
  return formatVersion(number ?? 0);
}
