import type { OperationInput, OperationOutput } from "@torpor/protocol";
import { invalidInput, notFound, type TorporError } from "../../lib/errors.ts";
import type { Image } from "../../store/image.ts";
import { versionResource } from "../../store/image-deletions.ts";
import type { Store, StoreWriter } from "../../store/store.ts";
import { ownImage } from "../authorise.ts";
import type { Idempotency } from "../idempotency.ts";
import { newestFirst, readPage } from "../page.ts";
import { refuseBeyond } from "../quota/exceeded.ts";
import type { Operations, RequestContext } from "../request-context.ts";
import type { Builds } from "./builds.ts";
import { configurationOf } from "./configuration.ts";
import { type CreateDeps, newImage, newVersion } from "./create.ts";
import type { Deletions } from "./deletions.ts";
import { createdImageView, imageItem, imageView, updatedImageView } from "./view.ts";

export interface ImageOperationDeps extends CreateDeps {
  readonly store: Pick<Store, "images" | "transaction">;
  readonly builds: Builds;
  readonly deletions: Deletions;
  readonly idempotency: Idempotency;
}

type ImageOperations = Pick<
  Operations,
  "CreateMicrovmImage" | "GetMicrovmImage" | "ListMicrovmImages" | "UpdateMicrovmImage" | "DeleteMicrovmImage"
>;

export function imageOperations(deps: ImageOperationDeps): ImageOperations {
  return {
    CreateMicrovmImage: (input, context) => createImage(input, context, deps),
    GetMicrovmImage: async (input, context) =>
      imageView(await existingImage("GetMicrovmImage", input.imageIdentifier, context, deps)),
    ListMicrovmImages: (input, context) => listImages(input, context, deps),
    UpdateMicrovmImage: (input, context) => updateImage(input, context, deps),
    DeleteMicrovmImage: (input, context) => deleteImage(input, context, deps),
  };
}

/**
 * The caller's image.
 * @throws TorporError `not_found`, and as `ownImage`
 */
export async function existingImage(
  operation: string,
  imageIdentifier: string,
  context: RequestContext,
  { store }: { readonly store: Pick<Store, "images"> },
): Promise<Image> {
  ownImage(operation, imageIdentifier, context);
  const image = await store.images.find(imageIdentifier);
  if (!image) throw unknownImage(imageIdentifier);
  return image;
}

const unknownImage = (arn: string): TorporError => notFound(`MicroVMImage not found for MicroVMImageID: ${arn}`);

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
      const { image, version, build } = await newImage(input, context, deps);
      const answer = createdImageView(image, version);
      const record = recorder(answer, image.arn);
      await deps.store.transaction(async (write) => {
        if (!(await write.images.insert(image, version, build)))
          throw invalidInput(`MicroVM image with name ${image.name} already exists`);
        const limit = deps.quotas.limit(context.accountId, "images");
        refuseBeyond("images", limit, await write.imageCounts.images(context.accountId));
        await refuseMoreBuilds(write, context, deps);
        await record(write);
      });
      deps.builds.enqueue(build);
      return answer;
    },
  );
}

/** Another version of the image, which inherits nothing from those before. */
async function updateImage(
  input: OperationInput<"UpdateMicrovmImage">,
  context: RequestContext,
  deps: ImageOperationDeps,
): Promise<OperationOutput<"UpdateMicrovmImage">> {
  const { imageIdentifier: arn } = input;
  ownImage("UpdateMicrovmImage", arn, context);
  return await deps.idempotency.once<typeof input, OperationOutput<"UpdateMicrovmImage">>(
    "UpdateMicrovmImage",
    context.accountId,
    input,
    async (recorder) => {
      await existingImage("UpdateMicrovmImage", arn, context, deps);
      const configuration = await configurationOf("UpdateMicrovmImage", input, context, deps);
      const at = new Date(deps.clock.now());
      const { answer, build } = await deps.store.transaction(async (write) => {
        const image = await write.images.beginUpdate(arn, at);
        if (!image) throw invalidInput(`Cannot update MicroVM Image in its current state: ${arn}`);
        const made = newVersion(image, configuration, deps.facts.architecture, at);
        await write.images.insertVersion(made.version, made.build);
        const limit = deps.quotas.limit(context.accountId, "versions-per-image");
        refuseBeyond("versions-per-image", limit, await write.imageCounts.versions(arn));
        await refuseMoreBuilds(write, context, deps);
        const view = updatedImageView(image, made.version);
        await recorder(view, versionResource(arn, image.lastVersion))(write);
        return { answer: view, build: made.build };
      });
      deps.builds.enqueue(build);
      return answer;
    },
  );
}

/** Once the new build is written, which is undone when it is one too many. */
async function refuseMoreBuilds(
  write: StoreWriter,
  { accountId }: RequestContext,
  { quotas }: ImageOperationDeps,
): Promise<void> {
  const limit = quotas.limit(accountId, "concurrent-builds");
  refuseBeyond("concurrent-builds", limit, await write.imageCounts.unfinishedBuilds(accountId));
}

const NEWEST_FIRST = newestFirst<Image>(({ createdAt, arn }) => ({ time: createdAt.getTime(), key: arn }));

async function listImages(
  input: OperationInput<"ListMicrovmImages">,
  { accountId }: RequestContext,
  { store }: ImageOperationDeps,
): Promise<OperationOutput<"ListMicrovmImages">> {
  const { nameFilter } = input;
  const filter = { accountId, ...(nameFilter && { nameFilter }) };
  const page = await readPage(["ListMicrovmImages", accountId, nameFilter], input, NEWEST_FIRST, (after, limit) =>
    store.images.page(filter, after, limit),
  );
  return { items: page.items.map(imageItem), nextToken: page.nextToken };
}

/** Deleting what is being deleted, or was, succeeds. */
async function deleteImage(
  { imageIdentifier }: OperationInput<"DeleteMicrovmImage">,
  context: RequestContext,
  { deletions }: ImageOperationDeps,
): Promise<OperationOutput<"DeleteMicrovmImage">> {
  ownImage("DeleteMicrovmImage", imageIdentifier, context);
  const outcome = await deletions.delete({ imageArn: imageIdentifier, version: undefined });
  switch (outcome.kind) {
    case "deleting":
      return { imageIdentifier, state: "DELETING" };
    case "deleted":
      return { imageIdentifier, state: "DELETED" };
    case "busy":
      throw invalidInput(`Cannot delete MicroVM image in its current state: ${imageIdentifier}`);
    case "in use":
      throw invalidInput("Cannot delete microvm image with running microvms.");
    case "unknown":
    case "last version":
      throw unknownImage(imageIdentifier);
    default:
      return outcome satisfies never;
  }
}
