import { createHash } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { RequestContext } from "../../control/request-context.ts";
import type { Log } from "../../lib/log.ts";
import { ofFramework } from "../app.ts";
import { bodyOf, type Identify } from "../caller.ts";
import type { RootService } from "../root-routes.ts";
import { element, type Markup, rootElement, XML_DECLARATION } from "../s3/wire/xml-write.ts";
import { SignatureError, type SignatureFailure } from "../sigv4/signature-error.ts";
import { toWireError } from "../wire-errors.ts";

const VERSION = "2011-06-15";
const NAMESPACE = `https://sts.amazonaws.com/doc/${VERSION}/`;

/** A refusal in the words of AWS's query protocol. */
class StsError extends Error {
  override readonly name = "StsError";
  readonly code: string;
  readonly status: number;

  constructor(code: string, status: number, message: string) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

const OF_SIGNATURE: Readonly<Record<SignatureFailure, readonly [code: string, status: number]>> = {
  missing: ["MissingAuthenticationToken", 403],
  incomplete: ["IncompleteSignature", 400],
  ambiguous: ["IncompleteSignature", 400],
  bad_payload_hash: ["IncompleteSignature", 400],
  unknown_key: ["InvalidClientTokenId", 403],
  unknown_session_token: ["InvalidClientTokenId", 403],
  expired_key: ["ExpiredToken", 403],
  wrong_scope: ["SignatureDoesNotMatch", 403],
  expired: ["SignatureDoesNotMatch", 403],
  presigned_expired: ["SignatureDoesNotMatch", 403],
  not_yet_current: ["SignatureDoesNotMatch", 403],
  unsigned_header: ["SignatureDoesNotMatch", 403],
  mismatch: ["SignatureDoesNotMatch", 403],
  payload_mismatch: ["SignatureDoesNotMatch", 403],
};

/**
 * The one question of STS that clients ask whichever service they use: who am I? Everybody may, whatever their policy,
 * as on AWS.
 */
export function createSts(identify: Identify, log: Log): RootService {
  return {
    async handle(request, reply) {
      const context = await identify(request, reply, { service: "sts", operation: "GetCallerIdentity" });
      const parameters = parametersOf(request);
      const action = parameters.get("Action") ?? "";
      const version = parameters.get("Version") ?? "";
      if (action === "") throw new StsError("MissingAction", 400, "The request must contain the parameter Action.");
      if (action !== "GetCallerIdentity" || version !== VERSION)
        throw new StsError(
          "InvalidAction",
          400,
          `Could not find operation ${shown(action)} for version ${shown(version)}`,
        );
      return answer(reply, 200, identityOf(context));
    },
    refuse(err, request, reply) {
      const { code, status, message } = refusalOf(err);
      if (status >= 500) log.error({ err, requestId: request.id }, "sts request failed");
      const error = element("Error", [
        element("Type", status < 500 ? "Sender" : "Receiver"),
        element("Code", code),
        element("Message", message),
      ]);
      return answer(reply, status, rootElement("ErrorResponse", [error, element("RequestId", request.id)], NAMESPACE));
    },
  };
}

function identityOf({ principalArn, accountId, keyName, requestId }: RequestContext): Markup {
  return rootElement(
    "GetCallerIdentityResponse",
    [
      element("GetCallerIdentityResult", [
        element("Arn", principalArn),
        element("UserId", userId(accountId, keyName)),
        element("Account", accountId),
      ]),
      element("ResponseMetadata", element("RequestId", requestId)),
    ],
    NAMESPACE,
  );
}

/** Unique to whoever a key is for and the same for all keys of theirs, in IAM's shape. */
function userId(accountId: string, keyName: string): string {
  if (keyName === "root") return accountId;
  const digest = createHash("sha256").update(`${accountId}/${keyName}`).digest();
  return `AIDA${Array.from(digest.subarray(0, 17), (byte) => ALPHABET[byte % ALPHABET.length]).join("")}`;
}
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

function parametersOf(request: FastifyRequest): URLSearchParams {
  const url = request.raw.url ?? "";
  const query = url.includes("?") ? url.slice(url.indexOf("?") + 1) : "";
  const body = request.method === "POST" ? Buffer.from(bodyOf(request)).toString("utf8") : "";
  return new URLSearchParams([query, body].filter((text) => text !== "").join("&"));
}

function refusalOf(err: unknown): { readonly code: string; readonly status: number; readonly message: string } {
  if (err instanceof StsError) return err;
  if (err instanceof SignatureError) {
    const [code, status] = OF_SIGNATURE[err.code];
    return { code, status, message: err.message };
  }
  const { status, type, body } = toWireError(err instanceof Error ? ofFramework(err) : err);
  return { code: type.replace(/Exception$/, ""), status, message: String(body.message ?? body.Message) };
}

function answer(reply: FastifyReply, status: number, markup: Markup): FastifyReply {
  return reply
    .code(status)
    .header("content-type", "text/xml")
    .send(Buffer.from(XML_DECLARATION + markup.text));
}

const shown = (text: string): string => text.slice(0, 64).replace(/[^\x20-\x7e]/g, "?");
