import { checkQuotaValue, isQuotaName, type QuotaValue } from "@torpor/protocol";
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { invalidInput, messageOf } from "../../lib/errors.ts";
import { bodyOf, check, queryOf } from "./check.ts";
import type { QuotaExtensions } from "./extensions.ts";
import type { OwnRoute } from "./own-route.ts";

const accountId = z.string("expected an account").regex(/^\d{12}$/, "expected twelve digits");
const listed = z.object({ accountId: accountId.optional() });
const quota = z.object({
  accountId,
  name: z.string().refine(isQuotaName, "there is no such quota: GET /torpor/v1/quotas lists them"),
});
const newValue = z.strictObject({ value: z.number("expected a whole number, or null for unlimited").nullable() });

/** Quotas under /torpor/v1: every account sees its own, the operator sees and sets everybody's. */
export function registerQuotas(own: OwnRoute, quotas: QuotaExtensions): void {
  const ofQuota = ({ params }: FastifyRequest) => check(quota, params);

  own(
    "ListQuotas",
    (request) => check(listed, queryOf(request)),
    ({ accountId }, context) => quotas.list(context, accountId),
  );
  own(
    "SetQuota",
    (request) => {
      const { accountId, name } = ofQuota(request);
      const { value } = bodyOf(newValue, request);
      let allowed: QuotaValue;
      try {
        allowed = checkQuotaValue(name, value);
      } catch (err) {
        throw invalidInput(`value: ${messageOf(err)}, got ${value}`);
      }
      return { accountId, name, value: allowed };
    },
    async ({ accountId, name, value }, context) => {
      await quotas.set(context, accountId, name, value);
      return {};
    },
  );
  own("ResetQuota", ofQuota, async ({ accountId, name }, context) => {
    await quotas.reset(context, accountId, name);
    return {};
  });
}
