import { parseConnectorArn, parseImageArn } from "@torpor/protocol";
import { conflict, notFound } from "../../lib/errors.ts";
import type { Store } from "../../store/store.ts";
import { refuseForeign } from "../authorise.ts";
import { connectorNotFound } from "../connector/identifier.ts";
import type { Quotas } from "../quota/quotas.ts";
import type { Operations, RequestContext } from "../request-context.ts";
import { type Tags, withoutTags, withTags } from "./tags.ts";

export interface TagOperationDeps {
  readonly store: Pick<Store, "images" | "networkConnectors">;
  readonly quotas: Pick<Quotas, "limit">;
}

type TagOperations = Pick<Operations, "TagResource" | "UntagResource" | "ListTags">;

/** What has tags here: images and customers' network connectors. Microvms have none, as with AWS. */
export function tagOperations(deps: TagOperationDeps): TagOperations {
  return {
    async TagResource(input, context) {
      const most = deps.quotas.limit(context.accountId, "tags-per-resource");
      await change("TagResource", input.Resource, context, deps, (before) => withTags(before, input.Tags, most));
      return {};
    },
    async UntagResource(input, context) {
      await change("UntagResource", input.Resource, context, deps, (before) => withoutTags(before, input.TagKeys));
      return {};
    },
    async ListTags(input, context) {
      const unchanged = await change("ListTags", input.Resource, context, deps, undefined);
      return { Tags: unchanged };
    },
  };
}

/**
 * @param edit what becomes of the tags; undefined: nothing
 * @returns the tags as they are then
 * @throws TorporError `not_found`, `denied`, `conflict` when it is being deleted, and what `edit` throws
 */
async function change(
  operation: string,
  arn: string,
  context: RequestContext,
  { store }: TagOperationDeps,
  edit: ((before: Tags) => Tags) | undefined,
): Promise<Tags> {
  const next =
    edit &&
    ((before: Tags, state: string): Tags => {
      if (state === "DELETING")
        throw conflict(`The tags of ${arn} cannot be changed in its current state: it is being deleted.`);
      return edit(before);
    });
  const image = parseImageArn(arn);
  if (image) {
    refuseForeign(operation, arn, image, context);
    const tags = next ? await store.images.changeTags(arn, next) : (await store.images.find(arn))?.tags;
    if (!tags) throw notFound(`MicroVMImage not found for MicroVMImageID: ${arn}`);
    return tags;
  }
  const connector = parseConnectorArn(arn);
  if (!connector)
    throw notFound(`The resource ${arn} does not exist: only images and network connectors have tags here.`);
  refuseForeign(operation, arn, connector, context);
  const { networkConnectors } = store;
  const tags = next
    ? await networkConnectors.changeTags(context.accountId, connector.id, next)
    : (await networkConnectors.find(context.accountId, connector.id))?.tags;
  if (!tags) throw connectorNotFound(arn);
  return tags;
}
