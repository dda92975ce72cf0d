import type { IncomingMessage } from "node:http";
import type { FileStore } from "../../blobs/file-store.ts";
import type { AccessKeys } from "../../control/request-context.ts";
import type { Clock } from "../../lib/clock.ts";
import { errnoOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { type Audit, auditEvent } from "../door.ts";
import type { S3Handler } from "../server.ts";
import { authenticate } from "../sigv4/sigv4.ts";
import { originOf, type Throttle } from "../throttle.ts";
import { authoriseS3, s3Arn } from "./permission.ts";
import { Reply } from "./reply.ts";
import { routeOf, type S3Route } from "./route.ts";
import type { S3Call } from "./s3-call.ts";
import { S3Error, toS3Error } from "./s3-error.ts";
import { parseS3Request } from "./s3-request.ts";

export interface S3HandlerOptions {
  readonly store: FileStore;
  readonly keys: AccessKeys;
  readonly throttle: Throttle;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly log: Log;
  readonly region: string;
  /** Hosts under this domain (without port) name their bucket: `<bucket>.<domain>`. Default: path style only. */
  readonly virtualHostDomain?: string;
}

/**
 * S3 over the embedded store. The handler gets requests before their `100 Continue` (Node's `checkContinue` event) and
 * sends it when it wants the body: an upload that is refused is never sent.
 */
export function createS3Handler(options: S3HandlerOptions): S3Handler {
  return async (incoming, response) => {
    const { clock, region } = options;
    const holdsBody = incoming.headers.expect?.toLowerCase() === "100-continue";
    const reply = new Reply(incoming, response, clock, holdsBody);
    const log = options.log.child({ requestId: reply.requestId });
    // A client that goes away shows as a failed read or write where it matters; nobody else is to hear of it.
    response.on("error", (err) => log.debug({ err }, "s3 client went away"));
    const origin = originOf(incoming);
    let stranger = false;
    try {
      options.throttle.admit(origin);
      stranger = true;
      refuseOldSignatures(incoming);
      const auth = await authenticate(signedRequest(incoming), options.keys, {
        now: () => clock.now(),
        expectedRegion: region,
        expectedService: "s3",
      });
      stranger = false;
      options.throttle.acquaintance(origin);
      options.keys.used(auth.key.accessKeyId);
      const request = parseS3Request(incoming, options.virtualHostDomain);
      const route = routeOf(request);
      const call: S3Call = { incoming, request, auth, reply, store: options.store, clock, region, changed: [] };
      if (changes(incoming)) {
        await options.audit.ready();
        reply.holdBack((status, error) => record(call, route, { status, error }, options.audit));
      }
      // Whether single objects may be deleted is asked for each of them.
      if (route.name !== "DeleteObjects") authoriseS3(route.action, s3Arn(request.bucket, request.key), auth.key);
      await route.run(call);
    } catch (err) {
      const refusal = toS3Error(err);
      if (stranger && refusal.status < 500) options.throttle.stranger(origin);
      if (isClientGone(err)) log.debug({ err }, "s3 client went away");
      else if (refusal.status >= 500 && refusal.code !== "NotImplemented")
        log.error({ err, method: incoming.method }, "s3 request failed");
      if (!response.destroyed) reply.error(refusal, incoming.url?.split("?", 1)[0] ?? "");
      else await reply.abandon().catch((err: unknown) => log.error({ err }, "s3 request not recorded"));
    }
    await reply.settled();
  };
}

const changes = ({ method }: IncomingMessage): boolean => method !== "GET" && method !== "HEAD";

/** A line for each object that was changed, or one for the request. */
async function record(
  { request, auth, incoming, reply, clock, changed }: S3Call,
  route: S3Route,
  outcome: { readonly status: number; readonly error: string | null },
  audit: Audit,
): Promise<void> {
  const { accountId, accessKeyId, name: keyName } = auth.key;
  const sourceIp = incoming.socket.remoteAddress ?? "";
  const caller = { accountId, accessKeyId, keyName, sourceIp, requestId: reply.requestId };
  const time = new Date(clock.now()).toISOString();
  const resources = changed.length > 0 ? changed : [s3Arn(request.bucket, request.key)];
  const operation = `s3:${route.name}`;
  await Promise.all(
    resources.map((resource) =>
      audit.append(auditEvent(caller, { time, operation, resource, target: null, ...outcome })),
    ),
  );
}

/** Signature version 2, which some clients still presign with, has words of its own: it says what to change. */
function refuseOldSignatures(incoming: IncomingMessage): void {
  if (/[?&]AWSAccessKeyId=/.test(incoming.url ?? "") || incoming.headers.authorization?.startsWith("AWS "))
    throw new S3Error("InvalidRequest", {
      message: "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    });
}

function signedRequest(incoming: IncomingMessage): Parameters<typeof authenticate>[0] {
  return {
    method: incoming.method ?? "",
    url: incoming.url ?? "",
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
  };
}

const isClientGone = (err: unknown): boolean =>
  ["ECONNRESET", "EPIPE", "ERR_STREAM_PREMATURE_CLOSE", "ERR_STREAM_DESTROYED"].includes(errnoOf(err) ?? "");
