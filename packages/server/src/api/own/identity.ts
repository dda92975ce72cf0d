import { ACCESS_KEY_ID, ACCOUNT_ID } from "@torpor/protocol";
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { jsonBodyOf, plain } from "../json-body.ts";
import { bodyOf, check, queryOf } from "./check.ts";
import type { AccountExtensions, KeyExtensions } from "./extensions.ts";
import type { OwnRoute } from "./own-route.ts";

const accountId = z.string("expected a text").regex(ACCOUNT_ID, "expected twelve digits");
const key = z.object({
  accessKeyId: z.string().regex(ACCESS_KEY_ID, "expected the id of an access key"),
});
const account = z.object({ accountId });
const time = z.iso
  .datetime({ offset: true, error: "expected a time such as 2027-01-31T00:00:00Z" })
  .transform((text) => new Date(text));
const newKey = z.strictObject({
  accountId: accountId.nullish(),
  name: z.string("expected a text").max(256, "expected a shorter text"),
  policy: z.unknown().optional(),
  expiresAt: time.nullish(),
});
const keyChange = z.strictObject({
  enabled: z.boolean("expected true or false").optional(),
  expiresAt: time.nullable().optional(),
});
const ofAccount = z.object({ accountId: accountId.optional() });
const newAccount = z.strictObject({
  accountId: accountId.nullish(),
  name: z
    .string("expected a text")
    .regex(/^[\p{L}\p{N} +=,.@_-]{1,64}$/u, "expected 1 to 64 letters, digits, spaces and +=,.@_-")
    .nullish(),
});
const accountChange = z.strictObject({ enabled: z.boolean("expected true or false") });

/** Access keys, their policies, and accounts, under /torpor/v1. */
export function registerIdentity(
  own: OwnRoute,
  { keys, accounts }: { readonly keys: KeyExtensions; readonly accounts: AccountExtensions },
): void {
  const ofKey = ({ params }: FastifyRequest) => check(key, params);

  own(
    "CreateAccessKey",
    (request) => bodyOf(newKey, request),
    (wanted, context) => keys.create(context, wanted),
  );
  own(
    "ListAccessKeys",
    (request) => check(ofAccount, queryOf(request)),
    async ({ accountId }, context) => ({ items: await keys.list(context, accountId) }),
  );
  own(
    "UpdateAccessKey",
    (request) => ({ ...ofKey(request), ...bodyOf(keyChange, request) }),
    ({ accessKeyId, ...change }, context) => keys.update(context, accessKeyId, change),
  );
  own("RotateAccessKey", ofKey, ({ accessKeyId }, context) => keys.rotate(context, accessKeyId));
  own("DeleteAccessKey", ofKey, async ({ accessKeyId }, context) => {
    await keys.delete(context, accessKeyId);
    return {};
  });
  own("GetAccessKeyPolicy", ofKey, async ({ accessKeyId }, context) => ({
    policy: await keys.policy(context, accessKeyId),
  }));
  own(
    "PutAccessKeyPolicy",
    (request) => ({ ...ofKey(request), policy: plain(jsonBodyOf(request)) }),
    async ({ accessKeyId, policy }, context) => {
      await keys.putPolicy(context, accessKeyId, policy);
      return {};
    },
  );
  own("DeleteAccessKeyPolicy", ofKey, async ({ accessKeyId }, context) => {
    await keys.putPolicy(context, accessKeyId, null);
    return {};
  });

  own(
    "CreateAccount",
    (request) => bodyOf(newAccount, request),
    (wanted, context) => accounts.create(context, wanted),
  );
  own(
    "ListAccounts",
    () => ({}),
    async (_input, context) => ({ items: await accounts.list(context) }),
  );
  own(
    "UpdateAccount",
    (request) => ({ ...check(account, request.params), ...bodyOf(accountChange, request) }),
    ({ accountId, enabled }, context) => accounts.update(context, accountId, enabled),
  );
}
