import { randomUUID } from "node:crypto";
import { formatImageArn, type OperationInput, parseImageArn } from "@torpor/protocol";
import type { Config } from "../../config.ts";
import type { HostFacts } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import { invalidInput, notFound } from "../../lib/errors.ts";
import type { Architecture, Build, Image, ImageConfiguration, ImageVersion } from "../../store/image.ts";
import { formatVersion, parseVersion, refuseForeign } from "../authorise.ts";
import { loggingOf } from "../logging.ts";
import { egressConnectors } from "../microvm/connectors.ts";
import type { RequestContext } from "../request-context.ts";
import type { Roles } from "../role/roles.ts";
import { parseArtifactUri } from "./artifact.ts";
import { checkEnvironment } from "./environment.ts";
import { checkHooks } from "./hooks.ts";

type Input = OperationInput<"CreateMicrovmImage">;

const BASE_IMAGE = "al2023-1";
/** Newest last. */
const BASE_IMAGE_VERSIONS = [0, 1];
const MEMORY_SIZES_MIB = [512, 1024, 2048, 4096, 8192];
const DEFAULT_MEMORY_MIB = 2048;
const TAGS_MAX = 50;

export interface CreateDeps {
  readonly roles: Pick<Roles, "check">;
  readonly config: Pick<Config, "region">;
  readonly facts: Pick<HostFacts, "architecture">;
  readonly clock: Clock;
}

/**
 * The new image with its first version and that one's build, not written yet.
 * @throws TorporError with the service's wording where it is known
 */
export function newImage(
  input: Input,
  context: RequestContext,
  deps: CreateDeps,
): { readonly image: Image; readonly version: ImageVersion; readonly build: Build } {
  const configuration = configurationOf(input, context, deps);
  const tags = input.tags ?? {};
  if (Object.keys(tags).length > TAGS_MAX) throw invalidInput(`An image can have at most ${TAGS_MAX} tags.`);
  const arn = formatImageArn({ region: deps.config.region, account: context.accountId, name: input.name });
  const at = new Date(deps.clock.now());
  const times = { createdAt: at, updatedAt: at };
  return {
    image: {
      arn,
      accountId: context.accountId,
      name: input.name,
      generation: 1,
      state: "CREATING",
      latestActiveVersion: null,
      latestFailedVersion: null,
      tags,
      ...times,
    },
    version: {
      imageArn: arn,
      version: 1,
      state: "PENDING",
      status: "INACTIVE",
      stateReason: null,
      configuration,
      ...times,
    },
    build: {
      id: randomUUID(),
      imageArn: arn,
      version: 1,
      state: "PENDING",
      stateReason: null,
      architecture: deps.facts.architecture,
      chipset: "GENERIC",
      chipsetGeneration: "1",
      snapshot: null,
      createdAt: at,
    },
  };
}

function configurationOf(input: Input, context: RequestContext, deps: CreateDeps): ImageConfiguration {
  const baseImageVersion = checkBaseImage(input, context, deps.config.region);
  const codeArtifactUri = input.codeArtifact.uri ?? "";
  parseArtifactUri(codeArtifactUri);
  const memoryMib = input.resources?.[0]?.minimumMemoryInMiB ?? DEFAULT_MEMORY_MIB;
  if (!MEMORY_SIZES_MIB.includes(memoryMib))
    throw invalidInput(
      `The requested memory size of ${memoryMib} MiB is not supported by base MicroVM image ${input.baseImageArn}. Supported memory sizes in MiB are: [${MEMORY_SIZES_MIB.join(", ")}].`,
    );
  deps.roles.check(input.buildRoleArn);
  checkHooks(input.hooks);
  checkEnvironment(input.environmentVariables);
  return {
    baseImageArn: input.baseImageArn,
    baseImageVersion,
    buildRoleArn: input.buildRoleArn,
    codeArtifactUri,
    description: input.description ?? null,
    logging: loggingOf(input.logging),
    egressConnectors: egressConnectors(input.egressNetworkConnectors, undefined, {
      region: deps.config.region,
      accountId: context.accountId,
    }),
    architectures: architecturesOf(input.cpuConfigurations, deps.facts.architecture),
    memoryMib,
    additionalOsCapabilities: input.additionalOsCapabilities?.length ? ["ALL"] : null,
    hooks: input.hooks ?? null,
    environment: input.environmentVariables ?? null,
  };
}

/** The base image's version as it is echoed. */
function checkBaseImage(input: Input, context: RequestContext, region: string): string {
  const { baseImageArn } = input;
  const arn = parseImageArn(baseImageArn);
  if (!arn) throw invalidInput(`Invalid ARN format: ${baseImageArn}`);
  refuseForeign("CreateMicrovmImage", baseImageArn, arn, context);
  if (arn.account !== "aws" || arn.region !== region || arn.name !== BASE_IMAGE)
    throw notFound(`MicroVMImage not found for MicroVMImageID: ${baseImageArn}`);
  if (!input.baseImageVersion) return formatVersion(BASE_IMAGE_VERSIONS.at(-1) ?? 0);
  const version = parseVersion(input.baseImageVersion);
  if (version === undefined || !BASE_IMAGE_VERSIONS.includes(version))
    throw notFound(`MicroVMImage not found for MicroVMImage: ${baseImageArn}, Version: ${input.baseImageVersion}`);
  return formatVersion(version);
}

/** An image is built for the processor of its host; asking for another one is answered honestly. */
function architecturesOf(given: Input["cpuConfigurations"], host: Architecture): readonly Architecture[] | null {
  if (!given || given.length === 0) return null;
  const wanted = given.map(({ architecture }) => architecture);
  for (const architecture of wanted)
    if (architecture !== host)
      throw invalidInput(
        `The architecture ${architecture} is not supported by this host. Supported architectures are: [${host}].`,
      );
  return wanted;
}
