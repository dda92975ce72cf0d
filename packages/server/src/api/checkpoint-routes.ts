import { CHECKPOINT_ID, CHECKPOINT_NAME, OPERATIONS, type StringShape } from "@torpor/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Identify } from "./caller.ts";
import { check, microvm, queryOf, whole } from "./check.ts";
import type { CheckpointExtensions } from "./extensions.ts";
import { jsonBodyOf, plain } from "./json-body.ts";

const MAX_FORKS = 100;
const MAX_PAGE = 50;
const run = OPERATIONS.RunMicrovm.input;
const cloudWatch = run.logging.shape.members.cloudWatch.shape.members;

/** A text as the AWS operations constrain it. Messages do not repeat it: it may be a secret. */
function text({ min = 0, max = Number.POSITIVE_INFINITY, pattern }: StringShape, what: string) {
  const whole = pattern === undefined ? undefined : new RegExp(`^(?:${pattern})$`, "u");
  return z
    .string(`expected ${what}`)
    .refine((value) => value.length >= min && value.length <= max, `expected ${what} of ${min} to ${max} characters`)
    .refine((value) => whole?.test(value) ?? true, `expected ${what}, as ${pattern}`)
    .refine((value) => value.isWellFormed() && !value.includes("\0"), "holds NUL or half of a surrogate pair");
}

const checkpointId = z
  .string("expected a checkpoint's id")
  .regex(CHECKPOINT_ID, "expected checkpoint- and a UUID in lower case");
const checkpoint = z.object({ checkpointId });
const newCheckpoint = z.strictObject({
  name: z
    .string("expected a text")
    .regex(CHECKPOINT_NAME, "expected 1 to 64 letters, digits, hyphens and underscores")
    .nullish(),
  previous: z.boolean("expected true or false").nullish(),
});
const rollback = z.strictObject({ checkpointId });
const fork = z.strictObject({
  count: whole(1, MAX_FORKS).nullish(),
  clientToken: text(run.clientToken.shape, "a token").nullish(),
  executionRoleArn: text(run.executionRoleArn.shape, "the ARN of a role").nullish(),
  idlePolicy: z
    .strictObject({
      maxIdleDurationSeconds: whole(60, 28_800),
      suspendedDurationSeconds: whole(0, Number.MAX_SAFE_INTEGER),
      autoResumeEnabled: z.boolean("expected true or false"),
    })
    .nullish(),
  logging: z
    .strictObject({
      disabled: z.strictObject({}).exactOptional(),
      cloudWatch: z
        .strictObject({
          logGroup: text(cloudWatch.logGroup.shape, "the name of a log group").nullish(),
          logStream: text(cloudWatch.logStream.shape, "the name of a log stream").nullish(),
        })
        .exactOptional(),
    })
    .nullish(),
  maximumDurationInSeconds: whole(1, 28_800).nullish(),
  runHookPayload: text(run.runHookPayload.shape, "a text").nullish(),
});
const page = z.object({
  maxResults: z
    .string()
    .regex(/^([1-9]|[1-4]\d|50)$/, `expected a whole number from 1 to ${MAX_PAGE}`)
    .transform(Number)
    .optional(),
  nextToken: z.string().optional(),
});

/** Checkpoints, forks and rollbacks under /torpor/v1. */
export function registerCheckpoints(app: FastifyInstance, checkpoints: CheckpointExtensions, identify: Identify): void {
  const body = <T>(schema: z.ZodType<T>, request: FastifyRequest): T => check(schema, plain(jsonBodyOf(request)));

  app.post(
    "/torpor/v1/microvms/:microvmId/checkpoints",
    { config: { operation: "CreateCheckpoint" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const { microvmId } = check(microvm, request.params);
      const { name, previous } = body(newCheckpoint, request);
      const made = await checkpoints.create(context, microvmId, name ?? null, { previous: previous ?? false });
      return reply.code(201).send(made);
    },
  );

  app.get(
    "/torpor/v1/microvms/:microvmId/checkpoints",
    { config: { operation: "ListCheckpoints" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const { microvmId } = check(microvm, request.params);
      return await checkpoints.list(context, microvmId, check(page, queryOf(request)));
    },
  );

  app.get("/torpor/v1/checkpoints", { config: { operation: "ListCheckpoints" } }, async (request, reply) => {
    const context = await identify(request, reply);
    return await checkpoints.list(context, undefined, check(page, queryOf(request)));
  });

  app.get(
    "/torpor/v1/checkpoints/:checkpointId",
    { config: { operation: "GetCheckpoint" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      return await checkpoints.get(context, check(checkpoint, request.params).checkpointId);
    },
  );

  app.delete(
    "/torpor/v1/checkpoints/:checkpointId",
    { config: { operation: "DeleteCheckpoint" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      await checkpoints.delete(context, check(checkpoint, request.params).checkpointId);
      return {};
    },
  );

  app.post(
    "/torpor/v1/checkpoints/:checkpointId/fork",
    { config: { operation: "ForkCheckpoint" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const from = check(checkpoint, request.params).checkpointId;
      return await checkpoints.forkCheckpoint(context, from, body(fork, request));
    },
  );

  app.post("/torpor/v1/microvms/:microvmId/fork", { config: { operation: "ForkMicrovm" } }, async (request, reply) => {
    const context = await identify(request, reply);
    const { microvmId } = check(microvm, request.params);
    return await checkpoints.forkMicrovm(context, microvmId, body(fork, request));
  });

  app.post(
    "/torpor/v1/microvms/:microvmId/rollback",
    { config: { operation: "RollbackMicrovm" } },
    async (request, reply) => {
      const context = await identify(request, reply);
      const { microvmId } = check(microvm, request.params);
      return await checkpoints.rollback(context, microvmId, body(rollback, request).checkpointId);
    },
  );

  app.get("/torpor/v1/microvms/:microvmId/lineage", { config: { operation: "GetLineage" } }, async (request, reply) => {
    const context = await identify(request, reply);
    return await checkpoints.lineage(context, check(microvm, request.params).microvmId);
  });
}
