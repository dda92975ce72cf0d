import type { OperationInput, OperationOutput } from "@torpor/protocol";
import type { Clock } from "../../lib/clock.ts";
import { conflict, invalidInput, notFound, type TorporError } from "../../lib/errors.ts";
import type { Build, ImageState, ImageVersion } from "../../store/image.ts";
import type { Store } from "../../store/store.ts";
import { formatVersion, ownImage, parseVersion } from "../authorise.ts";
import { type Positions, readPage } from "../page.ts";
import type { Operations, RequestContext } from "../request-context.ts";
import type { Tasks } from "../tasks.ts";
import type { Deletions } from "./deletions.ts";
import { existingImage } from "./operations.ts";
import type { Templates } from "./templates.ts";
import { buildItem, buildView, imageVersionView } from "./view.ts";

export interface VersionOperationDeps {
  readonly store: Pick<Store, "images">;
  readonly templates: Templates;
  readonly deletions: Deletions;
  readonly clock: Clock;
  readonly tasks: Tasks;
}

type VersionOperations = Pick<
  Operations,
  | "GetMicrovmImageVersion"
  | "ListMicrovmImageVersions"
  | "UpdateMicrovmImageVersion"
  | "DeleteMicrovmImageVersion"
  | "ListMicrovmImageBuilds"
  | "GetMicrovmImageBuild"
>;

export function versionOperations(deps: VersionOperationDeps): VersionOperations {
  return {
    GetMicrovmImageVersion: async (input, context) =>
      imageVersionView(await ownVersion("GetMicrovmImageVersion", input, context, deps)),
    ListMicrovmImageVersions: (input, context) => listVersions(input, context, deps),
    UpdateMicrovmImageVersion: (input, context) => updateVersion(input, context, deps),
    DeleteMicrovmImageVersion: (input, context) => deleteVersion(input, context, deps),
    ListMicrovmImageBuilds: (input, context) => listBuilds(input, context, deps),
    GetMicrovmImageBuild: async (input, context) => {
      const version = await ownVersion("GetMicrovmImageBuild", input, context, deps);
      const builds = await deps.store.images.builds(version.imageArn, version.version);
      const build = builds.find(({ id }) => id === input.buildId);
      if (!build)
        throw notFound(
          `MicroVMImageBuild not found for MicroVMImage: ${version.imageArn}, Version: ${input.imageVersion}, BuildId: ${input.buildId}`,
        );
      return buildView(build);
    },
  };
}

/** As a caller names it: by the image's ARN and `1` or `1.0`. */
interface VersionName {
  readonly imageIdentifier: string;
  readonly imageVersion: string;
}

/**
 * The version of that name.
 * @throws TorporError; an unknown image and an unknown version are told alike
 */
export async function ownVersion(
  operation: string,
  name: VersionName,
  context: RequestContext,
  { store }: { readonly store: Pick<Store, "images"> },
): Promise<ImageVersion> {
  const version = await store.images.findVersion(name.imageIdentifier, numberOf(operation, name, context));
  if (!version) throw unknownVersion(name);
  return version;
}

/** @throws TorporError when that cannot be a version of an image of the caller's */
function numberOf(operation: string, name: VersionName, context: RequestContext): number {
  ownImage(operation, name.imageIdentifier, context);
  const number = parseVersion(name.imageVersion);
  if (number === undefined) throw unknownVersion(name);
  return number;
}

const unknownVersion = ({ imageIdentifier, imageVersion }: VersionName): TorporError =>
  notFound(`MicroVMImage not found for MicroVMImage: ${imageIdentifier}, Version: ${imageVersion}`);

const busy = (state: ImageState): TorporError => conflict(`MicroVM Image is already in state: ${state}`);

const NEWEST_FIRST: Positions<ImageVersion, number> = {
  of: ({ version }) => [version],
  parse: ([version]) => (Number.isSafeInteger(version) ? Number(version) : undefined),
};

async function listVersions(
  input: OperationInput<"ListMicrovmImageVersions">,
  context: RequestContext,
  deps: VersionOperationDeps,
): Promise<OperationOutput<"ListMicrovmImageVersions">> {
  const { arn } = await existingImage("ListMicrovmImageVersions", input.imageIdentifier, context, deps);
  const page = await readPage(["ListMicrovmImageVersions", arn], input, NEWEST_FIRST, (before, limit) =>
    deps.store.images.versions(arn, before, limit),
  );
  return { items: page.items.map(imageVersionView), nextToken: page.nextToken };
}

/** Switches a version on or off for launches; microvms that have it go on. */
async function updateVersion(
  input: OperationInput<"UpdateMicrovmImageVersion">,
  context: RequestContext,
  { store, templates, clock, tasks }: VersionOperationDeps,
): Promise<OperationOutput<"UpdateMicrovmImageVersion">> {
  const { imageIdentifier: arn, status } = input;
  const number = numberOf("UpdateMicrovmImageVersion", input, context);
  const outcome = await store.images.setStatus(arn, number, status, new Date(clock.now()));
  switch (outcome.kind) {
    case "set":
      tasks.start("settle templates", async () => {
        for (const { id } of await store.images.builds(arn, number)) await templates.settle(id);
      });
      return imageVersionView(outcome.version);
    case "busy":
      throw busy(outcome.state);
    case "unusable":
      throw invalidInput(
        `The version ${formatVersion(number)} of the MicroVM image ${arn} is ${outcome.state}: only a SUCCESSFUL version can be ACTIVE. Update the image to build another one.`,
      );
    case "unknown":
      throw unknownVersion(input);
    default:
      return outcome satisfies never;
  }
}

/** Deleting what is being deleted, or was, succeeds. */
async function deleteVersion(
  input: OperationInput<"DeleteMicrovmImageVersion">,
  context: RequestContext,
  { deletions }: VersionOperationDeps,
): Promise<OperationOutput<"DeleteMicrovmImageVersion">> {
  const { imageIdentifier } = input;
  const version = numberOf("DeleteMicrovmImageVersion", input, context);
  const outcome = await deletions.delete({ imageArn: imageIdentifier, version });
  const answer = { imageIdentifier, imageVersion: formatVersion(version) };
  switch (outcome.kind) {
    case "deleting":
      return { ...answer, state: "DELETING" };
    case "deleted":
      return { ...answer, state: "DELETED" };
    case "busy":
      throw busy(outcome.state);
    case "last version":
      throw invalidInput("This is the last version. Please delete the entire image");
    case "in use":
      throw invalidInput("Cannot delete microvm image version with running microvms.");
    case "unknown":
      throw unknownVersion(input);
    default:
      return outcome satisfies never;
  }
}

async function listBuilds(
  input: OperationInput<"ListMicrovmImageBuilds">,
  context: RequestContext,
  deps: VersionOperationDeps,
): Promise<OperationOutput<"ListMicrovmImageBuilds">> {
  const { imageArn, version } = await ownVersion("ListMicrovmImageBuilds", input, context, deps);
  const { architecture, chipset, chipsetGeneration } = input;
  const scope = ["ListMicrovmImageBuilds", imageArn, version, architecture, chipset, chipsetGeneration];
  // A version has a handful of builds, so the place in them is looked up rather than queried.
  const matching = (await deps.store.images.builds(imageArn, version)).filter(
    (build: Build) =>
      (!architecture || build.architecture === architecture) &&
      (!chipset || build.chipset === chipset) &&
      (!chipsetGeneration || build.chipsetGeneration === chipsetGeneration),
  );
  const positions: Positions<Build, string> = {
    of: ({ id }) => [id],
    parse: ([id]) => (typeof id === "string" ? id : undefined),
  };
  const page = await readPage(scope, input, positions, (after, limit) => {
    const start = after === undefined ? 0 : matching.findIndex(({ id }) => id === after) + 1;
    return matching.slice(start, start + limit);
  });
  return { items: page.items.map(buildItem), nextToken: page.nextToken };
}
