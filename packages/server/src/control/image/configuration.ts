import type { OperationInput } from "@torpor/protocol";
import type { Config } from "../../config.ts";
import type { HostFacts } from "../../host/host-client.ts";
import { invalidInput } from "../../lib/errors.ts";
import type { Architecture, ImageConfiguration } from "../../store/image.ts";
import type { Reach } from "../connector/reach.ts";
import { loggingOf } from "../logging.ts";
import { egressConnectors } from "../microvm/connectors.ts";
import type { RequestContext } from "../request-context.ts";
import type { Roles } from "../role/roles.ts";
import { parseArtifactUri } from "./artifact.ts";
import { baseImageVersion, findBaseImage } from "./base-image.ts";
import { checkEnvironment } from "./environment.ts";
import { checkHooks } from "./hooks.ts";

const MEMORY_SIZES_MIB = [512, 1024, 2048, 4096, 8192];
const DEFAULT_MEMORY_MIB = 2048;

export interface ConfigurationDeps {
  readonly roles: Pick<Roles, "check">;
  readonly reach: Reach;
  readonly config: Pick<Config, "region">;
  readonly facts: Pick<HostFacts, "architecture">;
}

/** What requests for a new version have in common. */
type Input = Omit<OperationInput<"CreateMicrovmImage">, "name" | "tags" | "clientToken">;

/**
 * The configuration that a request gives, defaults filled in. Whatever a request leaves out is the default's, not the
 * earlier version's.
 * @throws TorporError with the service's wording where it is known
 */
export async function configurationOf(
  operation: string,
  input: Input,
  context: RequestContext,
  deps: ConfigurationDeps,
): Promise<ImageConfiguration> {
  const { region } = deps.config;
  const base = findBaseImage(operation, input.baseImageArn, context, region);
  const version = baseImageVersion(input.baseImageArn, base, input.baseImageVersion);
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
  const scope = { region, accountId: context.accountId };
  const connectors = egressConnectors(input.egressNetworkConnectors, undefined, scope);
  return {
    baseImageArn: input.baseImageArn,
    baseImageVersion: version,
    buildRoleArn: input.buildRoleArn,
    codeArtifactUri,
    description: input.description ?? null,
    logging: loggingOf(input.logging),
    egressConnectors: connectors,
    ...(await deps.reach.of(connectors, context.accountId)),
    architectures: architecturesOf(input.cpuConfigurations, deps.facts.architecture),
    memoryMib,
    additionalOsCapabilities: input.additionalOsCapabilities?.length ? ["ALL"] : null,
    hooks: input.hooks ?? null,
    environment: input.environmentVariables ?? null,
  };
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
