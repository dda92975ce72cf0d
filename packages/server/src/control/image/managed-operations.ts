import type { OperationInput, OperationOutput } from "@torpor/protocol";
import type { Config } from "../../config.ts";
import type { HostFacts } from "../../host/host-client.ts";
import { type Positions, readPage } from "../page.ts";
import type { Operations, RequestContext } from "../request-context.ts";
import { BASE_IMAGES, type BaseImage, type BaseImageVersion, baseImageArn, findBaseImage } from "./base-image.ts";

export interface ManagedImageDeps {
  readonly config: Pick<Config, "region">;
  readonly facts: Pick<HostFacts, "guestMadeAt">;
}

/** The catalogue of what images can be built on in this region. */
export function managedImageOperations(
  deps: ManagedImageDeps,
): Pick<Operations, "ListManagedMicrovmImages" | "ListManagedMicrovmImageVersions"> {
  return {
    ListManagedMicrovmImages: (input) => listImages(input, deps),
    ListManagedMicrovmImageVersions: (input, context) => listVersions(input, context, deps),
  };
}

const BY_NAME: Positions<BaseImage, string> = {
  of: ({ name }) => [name],
  parse: ([name]) => (typeof name === "string" ? name : undefined),
};
const NEWEST_FIRST: Positions<BaseImageVersion, number> = {
  of: ({ version }) => [version],
  parse: ([version]) => (Number.isSafeInteger(version) ? Number(version) : undefined),
};

async function listImages(
  input: OperationInput<"ListManagedMicrovmImages">,
  { config, facts }: ManagedImageDeps,
): Promise<OperationOutput<"ListManagedMicrovmImages">> {
  const sorted = BASE_IMAGES.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const page = await readPage(["ListManagedMicrovmImages"], input, BY_NAME, (after, limit) =>
    sorted.filter(({ name }) => after === undefined || name > after).slice(0, limit),
  );
  return {
    items: page.items.map(({ name }) => ({
      imageArn: baseImageArn(config.region, name),
      createdAt: facts.guestMadeAt,
      updatedAt: null,
    })),
    nextToken: page.nextToken,
  };
}

async function listVersions(
  input: OperationInput<"ListManagedMicrovmImageVersions">,
  context: RequestContext,
  { config, facts }: ManagedImageDeps,
): Promise<OperationOutput<"ListManagedMicrovmImageVersions">> {
  const { imageIdentifier: imageArn } = input;
  const base = findBaseImage("ListManagedMicrovmImageVersions", imageArn, context, config.region);
  const page = await readPage(
    ["ListManagedMicrovmImageVersions", imageArn],
    input,
    NEWEST_FIRST,
    (before = Number.POSITIVE_INFINITY, limit) =>
      base.versions
        .filter(({ version }) => version < before)
        .toReversed()
        .slice(0, limit),
  );
  return {
    // Here, and nowhere else, a version is a bare number.
    items: page.items.map(({ version, status }) => ({
      imageArn,
      imageVersion: String(version),
      status,
      createdAt: facts.guestMadeAt,
      updatedAt: null,
    })),
    nextToken: page.nextToken,
  };
}
