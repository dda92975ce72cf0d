import type { OperationInput, OperationOutput } from "@torpor/protocol";
import { invalidInput, notFound } from "../../lib/errors.ts";
import type { Build, ImageVersion } from "../../store/image.ts";
import type { Store } from "../../store/store.ts";
import { ownImage, parseVersion } from "../authorise.ts";
import type { Idempotency } from "../idempotency.ts";
import { DEFAULT_PAGE_SIZE, invalidPageToken, pageToken, parsePageToken } from "../page.ts";
import type { Operations, RequestContext } from "../request-context.ts";
import type { Builds } from "./builds.ts";
import { type CreateDeps, newImage } from "./create.ts";
import { buildItem, buildView, createdImageView, imageVersionView, imageView } from "./view.ts";

export interface ImageOperationDeps extends CreateDeps {
  readonly store: Pick<Store, "images" | "transaction">;
  readonly builds: Builds;
  readonly idempotency: Idempotency;
}

type ImageOperations = Pick<
  Operations,
  | "CreateMicrovmImage"
  | "GetMicrovmImage"
  | "GetMicrovmImageVersion"
  | "ListMicrovmImageBuilds"
  | "GetMicrovmImageBuild"
>;

export function imageOperations(deps: ImageOperationDeps): ImageOperations {
  const { store } = deps;
  return {
    CreateMicrovmImage: (input, context) => createImage(input, context, deps),
    GetMicrovmImage: async ({ imageIdentifier }, context) => {
      ownImage("GetMicrovmImage", imageIdentifier, context);
      const image = await store.images.find(imageIdentifier);
      if (!image) throw notFound(`MicroVMImage not found for MicroVMImageID: ${imageIdentifier}`);
      return imageView(image);
    },
    GetMicrovmImageVersion: async (input, context) =>
      imageVersionView(await ownVersion("GetMicrovmImageVersion", input, context, deps)),
    ListMicrovmImageBuilds: (input, context) => listBuilds(input, context, deps),
    GetMicrovmImageBuild: async (input, context) => {
      const version = await ownVersion("GetMicrovmImageBuild", input, context, deps);
      const builds = await store.images.builds(version.imageArn, version.version);
      const build = builds.find(({ id }) => id === input.buildId);
      if (!build)
        throw notFound(
          `MicroVMImageBuild not found for MicroVMImage: ${version.imageArn}, Version: ${input.imageVersion}, BuildId: ${input.buildId}`,
        );
      return buildView(build);
    },
  };
}

/**
 * The version that a caller names by the image's ARN and `1` or `1.0`.
 * @throws TorporError; an unknown image and an unknown version are told alike
 */
export async function ownVersion(
  operation: string,
  { imageIdentifier, imageVersion }: { readonly imageIdentifier: string; readonly imageVersion: string },
  context: RequestContext,
  { store }: { readonly store: Pick<Store, "images"> },
): Promise<ImageVersion> {
  ownImage(operation, imageIdentifier, context);
  const number = parseVersion(imageVersion);
  const version = number === undefined ? undefined : await store.images.findVersion(imageIdentifier, number);
  if (!version) throw notFound(`MicroVMImage not found for MicroVMImage: ${imageIdentifier}, Version: ${imageVersion}`);
  return version;
}

async function createImage(
  input: OperationInput<"CreateMicrovmImage">,
  context: RequestContext,
  deps: ImageOperationDeps,
): Promise<OperationOutput<"CreateMicrovmImage">> {
  return await deps.idempotency.once<typeof input, OperationOutput<"CreateMicrovmImage">>(
    "CreateMicrovmImage",
    context.accountId,
    input,
    async (recorder) => {
      const { image, version, build } = newImage(input, context, deps);
      deps.builds.refuseWhenFull();
      const answer = createdImageView(image, version);
      const record = recorder(answer);
      await deps.store.transaction(async (write) => {
        if (!(await write.images.insert(image, version, build)))
          throw invalidInput(`MicroVM image with name ${image.name} already exists`);
        await record(write);
      });
      deps.builds.enqueue(build);
      return answer;
    },
  );
}

async function listBuilds(
  input: OperationInput<"ListMicrovmImageBuilds">,
  context: RequestContext,
  deps: ImageOperationDeps,
): Promise<OperationOutput<"ListMicrovmImageBuilds">> {
  const { imageArn, version } = await ownVersion("ListMicrovmImageBuilds", input, context, deps);
  const { architecture, chipset, chipsetGeneration } = input;
  const scope = [
    "ListMicrovmImageBuilds",
    context.accountId,
    imageArn,
    version,
    architecture,
    chipset,
    chipsetGeneration,
  ];
  const after = input.nextToken ? parsePageToken(scope, input.nextToken)[0] : undefined;
  if (after !== undefined && typeof after !== "string") throw invalidPageToken();
  const matching = (await deps.store.images.builds(imageArn, version)).filter(
    (build: Build) =>
      (!architecture || build.architecture === architecture) &&
      (!chipset || build.chipset === chipset) &&
      (!chipsetGeneration || build.chipsetGeneration === chipsetGeneration),
  );
  // A version has a handful of builds, so the place in them is looked up rather than queried.
  const start = after === undefined ? 0 : matching.findIndex(({ id }) => id === after) + 1;
  const size = input.maxResults ?? DEFAULT_PAGE_SIZE;
  const page = matching.slice(start, start + size);
  const last = page.at(-1);
  return {
    items: page.map(buildItem),
    nextToken: last && start + size < matching.length ? pageToken(scope, [last.id]) : null,
  };
}
