import { parseImageArn } from "@torpor/protocol";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { notFound } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { Identify } from "./caller.ts";
import { check, microvm, queryOf } from "./check.ts";
import { registerCheckpoints } from "./checkpoint-routes.ts";
import type { Extensions, Health } from "./extensions.ts";
import { registerQuotas } from "./quota-routes.ts";
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
  readonly identify: Identify;
  readonly version: string;
  readonly log: Log;
  /** Aborted as soon as the server begins to close: streams would keep it open. */
  readonly closing: AbortSignal;
}

/** Torpor's own operations: JSON, signed as the AWS ones are, except for the health check. */
export function registerExtensions(app: FastifyInstance, deps: ExtensionRouteDeps): void {
  const { extensions, identify, closing } = deps;

  registerCheckpoints(app, extensions.checkpoints, identify);
  registerQuotas(app, extensions.quotas, identify);

  app.get("/torpor/v1/health", { config: { operation: "GetHealth" } }, async () => {
    const health: Health = { status: "ok", version: deps.version, isolation: extensions.hostFacts().isolation };
    return health;
  });

  app.get("/torpor/v1/host", { config: { operation: "GetHost" } }, async (request, reply) => {
    await identify(request, reply);
    return extensions.hostFacts();
  });

  app.get(
    "/torpor/v1/microvms/:microvmId/receipts",
    { config: { operation: "ListReceipts" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const { microvmId } = check(microvm, request.params);
      return { items: await extensions.receipts(context, microvmId) };
    },
  );

  app.get("/torpor/v1/microvms/:microvmId/usage", { config: { operation: "GetUsage" } }, async (request, reply) => {
    const context = await identify(request, reply);
    return await extensions.usage(context, check(microvm, request.params).microvmId);
  });

  app.get("/torpor/v1/microvms/:microvmId/logs", { config: { operation: "GetLogs" } }, async (request, reply) => {
    const context = await identify(request, reply);
    const { microvmId } = check(microvm, request.params);
    const { follow } = check(following, queryOf(request));
    const signal = AbortSignal.any([context.signal, closing]);
    const lines = await extensions.logs(context, microvmId, follow, signal);
    await streamReply(reply, "application/x-ndjson", jsonLines(lines), signal, deps.log);
  });

  app.get(
    "/torpor/v1/images/:imageArn/versions/:version/log",
    { config: { operation: "GetBuildLog" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const { imageArn, version } = check(imageVersion, request.params);
      const { follow } = check(following, queryOf(request));
      const signal = AbortSignal.any([context.signal, closing]);
      const text = await extensions.buildLog(context, imageArn, version, follow, signal);
      await streamReply(reply, "text/plain; charset=utf-8", text, signal, deps.log);
    },
  );

  app.get(
    "/torpor/v1/images/:imageArn/versions/:version/receipt",
    { config: { operation: "GetBuildReceipt" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const { imageArn, version } = check(imageVersion, request.params);
      const receipt = await extensions.buildReceipt(context, imageArn, version);
      if (receipt === undefined)
        throw notFound(`Version ${version} of ${imageArn} has no receipt: no build of it has succeeded yet.`);
      return receipt;
    },
  );
}

async function* jsonLines(values: AsyncIterable<unknown>): AsyncGenerator<string> {
  for await (const value of values) yield `${JSON.stringify(value)}\n`;
}
