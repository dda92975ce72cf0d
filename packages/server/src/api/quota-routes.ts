import { checkQuotaValue, isQuotaName, type QuotaValue } from "@torpor/protocol";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { invalidInput, messageOf } from "../lib/errors.ts";
import type { Identify } from "./caller.ts";
import { check, queryOf } from "./check.ts";
import type { QuotaExtensions } from "./extensions.ts";
import { jsonBodyOf, plain } from "./json-body.ts";

const accountId = z.string("expected an account").regex(/^\d{12}$/, "expected twelve digits");
const listed = z.object({ accountId: accountId.optional() });
const quota = z.object({
  accountId,
  name: z.string().refine(isQuotaName, "there is no such quota: GET /torpor/v1/quotas lists them"),
});
const newValue = z.strictObject({ value: z.number("expected a whole number, or null for unlimited").nullable() });

/** Quotas under /torpor/v1: every account sees its own, the operator sees and sets everybody's. */
export function registerQuotas(app: FastifyInstance, quotas: QuotaExtensions, identify: Identify): void {
  app.get("/torpor/v1/quotas", { config: { operation: "ListQuotas" } }, async (request, reply) => {
    const context = await identify(request, reply);
    return await quotas.list(context, check(listed, queryOf(request)).accountId);
  });

  app.put(
    "/torpor/v1/accounts/:accountId/quotas/:name",
    { config: { operation: "SetQuota" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const { accountId, name } = check(quota, request.params);
      const { value } = check(newValue, plain(jsonBodyOf(request)));
      let allowed: QuotaValue;
      try {
        allowed = checkQuotaValue(name, value);
      } catch (err) {
        throw invalidInput(`value: ${messageOf(err)}, got ${value}`);
      }
      await quotas.set(context, accountId, name, allowed);
      return {};
    },
  );

  app.delete(
    "/torpor/v1/accounts/:accountId/quotas/:name",
    { config: { operation: "ResetQuota" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const { accountId, name } = check(quota, request.params);
      await quotas.reset(context, accountId, name);
      return {};
    },
  );
}
