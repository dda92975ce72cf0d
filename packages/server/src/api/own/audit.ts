import { z } from "zod";
import type { Log } from "../../lib/log.ts";
import { check, queryOf } from "./check.ts";
import type { AuditExtensions } from "./extensions.ts";
import { jsonLines } from "./json-lines.ts";
import type { OwnRoute } from "./own-route.ts";
import { streamReply } from "./stream-reply.ts";

const filter = z.object({
  accountId: z
    .string()
    .regex(/^(\d{12}|\*)$/, "expected twelve digits, or * for all accounts")
    .optional(),
  since: z.iso
    .datetime({ offset: true, error: "expected a time such as 2027-01-31T00:00:00Z" })
    .transform((text) => new Date(text))
    .optional(),
  operation: z
    .string()
    .regex(/^[A-Za-z0-9:*?-]{1,128}$/, "expected an operation such as lambda:RunMicrovm, with * and ? as wildcards")
    .optional(),
  outcome: z
    .string()
    .regex(/^\w{1,64}$/, "expected success, failure, or the type of an error")
    .optional(),
  follow: z
    .enum(["true", "false"], "expected true or false")
    .default("false")
    .transform((text) => text === "true"),
});

/** The audit trail, a JSON document a line. */
export function registerAudit(
  own: OwnRoute,
  audit: AuditExtensions,
  { closing, log }: { readonly closing: AbortSignal; readonly log: Log },
): void {
  own(
    "ListAuditEvents",
    (request) => check(filter, queryOf(request)),
    async ({ follow, ...wanted }, context, reply) => {
      const signal = AbortSignal.any([context.signal, closing]);
      const events = audit.list(context, wanted, follow, signal);
      await streamReply(reply, "application/x-ndjson", jsonLines(events), signal, log);
    },
  );
}
