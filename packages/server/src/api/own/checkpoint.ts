import { CHECKPOINT_ID, CHECKPOINT_NAME, OPERATIONS, QUOTAS, type StringShape } from "@torpor/protocol";
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { bodyOf, check, microvm, queryOf, whole } from "./check.ts";
import type { CheckpointExtensions } from "./extensions.ts";
import type { OwnRoute } from "./own-route.ts";

/** More than that is nobody's; what the account may have is looked at later. */
const LONGEST_LIFE_SECONDS = QUOTAS["maximum-duration-seconds"].max;
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
      maxIdleDurationSeconds: whole(60, LONGEST_LIFE_SECONDS),
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
  maximumDurationInSeconds: whole(1, LONGEST_LIFE_SECONDS).nullish(),
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
export function registerCheckpoints(own: OwnRoute, checkpoints: CheckpointExtensions): void {
  const ofMicrovm = ({ params }: FastifyRequest) => check(microvm, params);
  const ofCheckpoint = ({ params }: FastifyRequest) => check(checkpoint, params);
  const pageOf = (request: FastifyRequest) => check(page, queryOf(request));

  own(
    "CreateCheckpoint",
    (request) => ({ ...ofMicrovm(request), ...bodyOf(newCheckpoint, request) }),
    ({ microvmId, name, previous }, context) =>
      checkpoints.create(context, microvmId, name ?? null, { previous: previous ?? false }),
  );
  own(
    "ListMicrovmCheckpoints",
    (request) => ({ ...ofMicrovm(request), page: pageOf(request) }),
    ({ microvmId, page }, context) => checkpoints.list(context, microvmId, page),
  );
  own("ListCheckpoints", pageOf, (page, context) => checkpoints.list(context, undefined, page));
  own("GetCheckpoint", ofCheckpoint, ({ checkpointId }, context) => checkpoints.get(context, checkpointId));
  own("DeleteCheckpoint", ofCheckpoint, async ({ checkpointId }, context) => {
    await checkpoints.delete(context, checkpointId);
    return {};
  });
  own(
    "ForkCheckpoint",
    (request) => ({ ...bodyOf(fork, request), ...ofCheckpoint(request) }),
    ({ checkpointId, ...options }, context) => checkpoints.forkCheckpoint(context, checkpointId, options),
  );
  own(
    "ForkMicrovm",
    (request) => ({ ...bodyOf(fork, request), ...ofMicrovm(request) }),
    ({ microvmId, ...options }, context) => checkpoints.forkMicrovm(context, microvmId, options),
  );
  own(
    "RollbackMicrovm",
    (request) => ({ ...ofMicrovm(request), ...bodyOf(rollback, request) }),
    ({ microvmId, checkpointId }, context) => checkpoints.rollback(context, microvmId, checkpointId),
  );
  own("GetLineage", ofMicrovm, ({ microvmId }, context) => checkpoints.lineage(context, microvmId));
}
