import { parseImageArn } from "@torpor/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { notFound } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import type { Door } from "../door.ts";
import { registerAudit } from "./audit.ts";
import { check, microvm, queryOf } from "./check.ts";
import { registerCheckpoints } from "./checkpoint.ts";
import type { Extensions, Health } from "./extensions.ts";
import { registerIdentity } from "./identity.ts";
import { jsonLines } from "./json-lines.ts";
import { registerLogGroups } from "./log-group.ts";
import { ownRoutes } from "./own-route.ts";
import { registerQuotas } from "./quota.ts";
import { streamReply } from "./stream-reply.ts";

const imageVersion = z.object({
  imageArn: z.string().refine((text) => parseImageArn(text) !== undefined, "expected the ARN of a microvm image"),
  version: z.string().regex(/^\d{1,9}(\.0)?$/, "expected a version such as 1.0"),
});
const following = z.object({
  follow: z
    .enum(["true", "false"], "expected true or false")
    .default("false")
    .transform((text) => text === "true"),
});

export interface ExtensionRouteDeps {
  readonly extensions: Extensions;
  readonly door: Door;
  readonly version: string;
  readonly log: Log;
  /** Aborted as soon as the server begins to close: streams would keep it open. */
  readonly closing: AbortSignal;
}

/** Torpor's own operations: JSON, signed as the AWS ones are, except for the health check. */
export function registerExtensions(app: FastifyInstance, deps: ExtensionRouteDeps): void {
  const { extensions, closing, log } = deps;
  const own = ownRoutes(app, deps.door);

  registerCheckpoints(own, extensions.checkpoints);
  registerQuotas(own, extensions.quotas);
  registerIdentity(own, extensions);
  registerAudit(own, extensions.audit, { closing, log });
  registerLogGroups(own, extensions.logGroups, { closing, log });

  app.get("/torpor/v1/health", { config: { operation: "GetHealth" } }, async () => {
    const health: Health = { status: "ok", version: deps.version, isolation: extensions.hostFacts().isolation };
    return health;
  });

  const ofMicrovm = ({ params }: FastifyRequest) => check(microvm, params);
  const ofVersion = ({ params }: FastifyRequest) => check(imageVersion, params);

  own(
    "GetHost",
    () => ({}),
    async () => extensions.hostFacts(),
  );
  own("ListReceipts", ofMicrovm, async ({ microvmId }, context) => ({
    items: await extensions.receipts(context, microvmId),
  }));
  own("GetUsage", ofMicrovm, ({ microvmId }, context) => extensions.usage(context, microvmId));
  own(
    "GetLogs",
    (request) => ({ ...ofMicrovm(request), ...check(following, queryOf(request)) }),
    async ({ microvmId, follow }, context, reply) => {
      const signal = AbortSignal.any([context.signal, closing]);
      const lines = await extensions.logs(context, microvmId, follow, signal);
      await streamReply(reply, "application/x-ndjson", jsonLines(lines), signal, log);
    },
  );
  own(
    "GetBuildLog",
    (request) => ({ ...ofVersion(request), ...check(following, queryOf(request)) }),
    async ({ imageArn, version, follow }, context, reply) => {
      const signal = AbortSignal.any([context.signal, closing]);
      const text = await extensions.buildLog(context, imageArn, version, follow, signal);
      await streamReply(reply, "text/plain; charset=utf-8", text, signal, log);
    },
  );
  own("GetBuildReceipt", ofVersion, async ({ imageArn, version }, context) => {
    const receipt = await extensions.buildReceipt(context, imageArn, version);
    if (receipt === undefined)
      throw notFound(`Version ${version} of ${imageArn} has no receipt: no build of it has succeeded yet.`);
    return receipt;
  });
}
