import { randomUUID } from "node:crypto";
import { formatImageArn, type OperationInput } from "@torpor/protocol";
import type { Clock } from "../../lib/clock.ts";
import type { Architecture, Build, Image, ImageConfiguration, ImageVersion } from "../../store/image.ts";
import type { Quotas } from "../quota/quotas.ts";
import type { RequestContext } from "../request-context.ts";
import { checkTags } from "../tag/tags.ts";
import { type ConfigurationDeps, configurationOf } from "./configuration.ts";

export interface CreateDeps extends ConfigurationDeps {
  readonly quotas: Pick<Quotas, "limit">;
  readonly clock: Clock;
}

/** A version with its build, not written yet. */
export interface NewVersion {
  readonly version: ImageVersion;
  readonly build: Build;
}

/**
 * The new image with its first version and that one's build, not written yet.
 * @throws TorporError with the service's wording where it is known
 */
export async function newImage(
  input: OperationInput<"CreateMicrovmImage">,
  context: RequestContext,
  deps: CreateDeps,
): Promise<NewVersion & { readonly image: Image }> {
  const configuration = await configurationOf("CreateMicrovmImage", input, context, deps);
  const tags = checkTags(input.tags ?? {}, deps.quotas.limit(context.accountId, "tags-per-resource"));
  const at = new Date(deps.clock.now());
  const image: Image = {
    arn: formatImageArn({ region: deps.config.region, account: context.accountId, name: input.name }),
    accountId: context.accountId,
    name: input.name,
    generation: 1,
    state: "CREATING",
    latestActiveVersion: null,
    latestFailedVersion: null,
    lastVersion: 1,
    tags,
    createdAt: at,
    updatedAt: at,
  };
  return { image, ...newVersion(image, configuration, deps.facts.architecture, at) };
}

/** The version of the number that the image has given out last. */
export function newVersion(
  { arn, lastVersion }: Image,
  configuration: ImageConfiguration,
  architecture: Architecture,
  at: Date,
): NewVersion {
  return {
    version: {
      imageArn: arn,
      version: lastVersion,
      state: "PENDING",
      status: "INACTIVE",
      stateReason: null,
      configuration,
      createdAt: at,
      updatedAt: at,
    },
    build: {
      id: randomUUID(),
      imageArn: arn,
      version: lastVersion,
      state: "PENDING",
      stateReason: null,
      architecture,
      chipset: "GENERIC",
      chipsetGeneration: "1",
      snapshot: null,
      createdAt: at,
    },
  };
}
