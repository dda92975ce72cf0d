import type { FastifyRequest } from "fastify";
import { bodyOf } from "./caller.ts";
import { type JsonValue, parseJson } from "./json.ts";
import { RequestError } from "./request-error.ts";

/** The request's body as strict JSON; an empty object when there is none. @throws RequestError */
export function jsonBodyOf(request: FastifyRequest): JsonValue {
  const body = bodyOf(request);
  if (body.length === 0) return new Map();
  const type = request.headers["content-type"];
  if (type !== undefined && !/^application\/(json|x-amz-json-1\.[01])\s*(;|$)/i.test(type))
    throw new RequestError("unsupported_media_type", "The request body must be of the type application/json.");
  return parseJson(body);
}

/** As JSON.parse would have it; `__proto__` is a member like any other. */
export function plain(value: JsonValue): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([name, member]) => [name, plain(member)]));
  return Array.isArray(value) ? value.map(plain) : value;
}
