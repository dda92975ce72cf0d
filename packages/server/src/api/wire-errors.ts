import { type ErrorKind, TorporError } from "../lib/errors.ts";
import { RequestError, type RequestFault } from "./request-error.ts";
import { SignatureError, type SignatureFailure } from "./sigv4/signature-error.ts";

/** The only place that knows status codes: what was thrown, as HTTP tells it. */
export interface WireError {
  readonly status: number;
  /** Goes into x-amzn-errortype. */
  readonly type: string;
  readonly body: Readonly<Record<string, string | null>>;
  readonly retryAfterSeconds: number | undefined;
  /** Not the caller's fault and nothing that was foreseen: to be logged whole. */
  readonly unexpected: boolean;
}

/** Status of each type, and the members that it has besides its message: they are always null. */
const TYPES: Readonly<Record<string, readonly [status: number, ...members: string[]]>> = {
  ValidationException: [400],
  InvalidParameterValueException: [400],
  NetworkConnectorLimitExceededException: [400],
  SerializationException: [400],
  BadRequestException: [400],
  ServiceQuotaExceededException: [402, "resourceId", "resourceType", "quotaCode", "serviceCode"],
  AccessDeniedException: [403],
  MissingAuthenticationTokenException: [403],
  IncompleteSignatureException: [403],
  UnrecognizedClientException: [403],
  ExpiredTokenException: [403],
  InvalidSignatureException: [403],
  ResourceNotFoundException: [404, "resourceId", "resourceType"],
  UnknownOperationException: [404],
  RequestTimeoutException: [408],
  ConflictException: [409, "resourceId", "resourceType"],
  ResourceConflictException: [409],
  RequestEntityTooLargeException: [413],
  UnsupportedMediaTypeException: [415],
  ThrottlingException: [429, "quotaCode", "serviceCode"],
  TooManyRequestsException: [429],
  RequestHeaderFieldsTooLargeException: [431],
  InternalServerException: [500],
  ServiceException: [500],
  InsufficientCapacityException: [500],
  ServiceUnavailableException: [503],
};

/** Undefined for what is no error of the API. */
export const statusOf = (type: string): number | undefined => TYPES[type]?.[0];

/** The first that the operation declares is taken; where it declares none of them, OF_NOBODY's, else the first. */
const OF_KIND: Readonly<Record<ErrorKind, readonly [string, ...string[]]>> = {
  invalid_input: ["ValidationException", "InvalidParameterValueException"],
  not_found: ["ResourceNotFoundException", "ValidationException"],
  invalid_parameter: ["InvalidParameterValueException", "ValidationException"],
  conflict: ["ConflictException", "ResourceConflictException", "ValidationException", "InvalidParameterValueException"],
  denied: ["AccessDeniedException"],
  quota: ["ServiceQuotaExceededException", "NetworkConnectorLimitExceededException", "ValidationException"],
  throttled: ["TooManyRequestsException", "ThrottlingException"],
  capacity: ["InsufficientCapacityException", "ServiceException", "InternalServerException"],
  unavailable: ["ServiceUnavailableException"],
  internal: ["ServiceException", "InternalServerException"],
};

/** Clients that are told nothing else come back after so long. */
const RETRY_AFTER_SECONDS: Readonly<Record<string, number>> = {
  ThrottlingException: 1,
  TooManyRequestsException: 1,
  InternalServerException: 1,
};

/** The tags' operations declare both names for these; where nothing is declared, it is the newer one. */
const OF_NOBODY: Partial<Record<ErrorKind, string>> = {
  throttled: "ThrottlingException",
  internal: "InternalServerException",
};

const OF_SIGNATURE: Readonly<Record<SignatureFailure, string>> = {
  missing: "MissingAuthenticationTokenException",
  incomplete: "IncompleteSignatureException",
  ambiguous: "IncompleteSignatureException",
  bad_payload_hash: "IncompleteSignatureException",
  unknown_key: "UnrecognizedClientException",
  unknown_session_token: "UnrecognizedClientException",
  expired_key: "ExpiredTokenException",
  wrong_scope: "InvalidSignatureException",
  expired: "InvalidSignatureException",
  presigned_expired: "InvalidSignatureException",
  not_yet_current: "InvalidSignatureException",
  unsigned_header: "InvalidSignatureException",
  mismatch: "InvalidSignatureException",
  payload_mismatch: "InvalidSignatureException",
};

const OF_FAULT: Readonly<Record<RequestFault, string>> = {
  unreadable: "SerializationException",
  unknown_operation: "UnknownOperationException",
  too_large: "RequestEntityTooLargeException",
  unsupported_media_type: "UnsupportedMediaTypeException",
  bad_http: "BadRequestException",
  too_many_headers: "RequestHeaderFieldsTooLargeException",
  timeout: "RequestTimeoutException",
};

/** The service spells the text's member with a capital in these. */
const CAPITAL_MESSAGE = new Set(["AccessDeniedException", "SerializationException"]);
const CAPITAL_MESSAGE_OF_CORE = new Set(["ResourceNotFoundException", "ServiceException"]);

/** Lambda Core, whose models have none of the names that microvms' have. */
const isCore = (declared: readonly string[] | undefined): boolean =>
  declared?.includes("InvalidParameterValueException") === true && !declared.includes("ValidationException");

const HIDDEN = "The service failed. The server's log says why, under the request id of this answer.";

/** @param declared names of the errors that the operation's model has; undefined where there is no model */
export function toWireError(err: unknown, declared?: readonly string[]): WireError {
  if (err instanceof SignatureError) return wireError(OF_SIGNATURE[err.code], err.message);
  if (err instanceof RequestError) return wireError(OF_FAULT[err.fault], err.message);
  const kind = err instanceof TorporError ? err.kind : "internal";
  const types = OF_KIND[kind];
  const type = types.find((name) => declared?.includes(name)) ?? OF_NOBODY[kind] ?? types[0];
  const message = err instanceof TorporError && kind !== "internal" ? err.message : HIDDEN;
  const retryAfterSeconds = err instanceof TorporError ? err.retryAfterSeconds : undefined;
  return {
    ...wireError(type, message, isCore(declared)),
    retryAfterSeconds: retryAfterSeconds ?? RETRY_AFTER_SECONDS[type],
    unexpected: kind === "internal",
  };
}

/** @param core it spells more messages with a capital, and leaves out what is null */
function wireError(type: string, message: string, core = false): WireError {
  const [status, ...members] = TYPES[type] ?? [500];
  const capital = CAPITAL_MESSAGE.has(type) || (core && CAPITAL_MESSAGE_OF_CORE.has(type));
  return {
    status,
    type,
    body: {
      [capital ? "Message" : "message"]: message,
      ...Object.fromEntries(core ? [] : members.map((name) => [name, null])),
    },
    retryAfterSeconds: undefined,
    unexpected: false,
  };
}
