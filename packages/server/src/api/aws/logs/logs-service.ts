import type { FastifyRequest } from "fastify";
import type { Log } from "../../../lib/log.ts";
import type { Door } from "../../door.ts";
import { jsonBodyOf } from "../../json-body.ts";
import type { LogGroups } from "../../own/extensions.ts";
import { RequestError } from "../../request-error.ts";
import type { RootService } from "../../root-routes.ts";
import { bindInput } from "../bind.ts";
import { validateInput } from "../validate.ts";
import { toLogsError, UnavailableOperationError } from "./logs-error.ts";
import { LOGS_OPERATIONS, type LogsOperation } from "./logs-operations.ts";

const CONTENT_TYPE = "application/x-amz-json-1.1";
const TARGET = /^Logs_20140328\.([A-Za-z]{1,64})$/;

/** CloudWatch Logs, for readers: its operations are told apart by X-Amz-Target. */
export function createLogs(logs: LogGroups, door: Door, log: Log): RootService {
  return {
    refuse(err, request, reply) {
      const { status, type, message, unexpected } = toLogsError(err);
      if (unexpected) log.error({ err, requestId: request.id, target: targetOf(request) }, "api request failed");
      const headers = { "content-type": CONTENT_TYPE, "x-amzn-requestid": request.id, "x-amzn-errortype": type };
      return reply
        .code(status)
        .headers(headers)
        .send(Buffer.from(JSON.stringify({ __type: type, message })));
    },
    async handle(request, reply) {
      const { name, input: members, permission, run } = operationOf(targetOf(request));
      const asked = { service: "logs", operation: name } as const;
      const output = await door(
        { action: `logs:${name}`, permission, changes: false, status: 200, asked },
        request,
        reply,
        () => {
          const input = bindInput(members, { labels: {}, query: new Map(), body: jsonBodyOf(request) });
          validateInput(members, input);
          return input;
        },
        (input, context) => run(input as never, context, logs), // bound and validated by its own table
      );
      return reply.header("content-type", CONTENT_TYPE).send(Buffer.from(JSON.stringify(output)));
    },
  };
}

function targetOf(request: FastifyRequest): string {
  const { "x-amz-target": target } = request.headers;
  return typeof target === "string" ? target : "";
}

function operationOf(target: string): LogsOperation & { readonly name: string } {
  const name = TARGET.exec(target)?.[1];
  if (name === undefined)
    throw new RequestError("unknown_operation", "X-Amz-Target names no operation of CloudWatch Logs.");
  if (name === "StartLiveTail")
    throw new UnavailableOperationError(
      "StartLiveTail is not available here: it answers with an event stream. Use FilterLogEvents, as `aws logs tail --follow` does, or `torpor logs --group`.",
    );
  const operation = Object.hasOwn(LOGS_OPERATIONS, name) ? LOGS_OPERATIONS[name] : undefined;
  if (operation) return { ...operation, name };
  const known = Object.keys(LOGS_OPERATIONS).join(", ");
  throw new RequestError("unknown_operation", `${name} is not available here: there are ${known}.`);
}
