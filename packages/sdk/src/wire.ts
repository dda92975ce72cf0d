import type { Members, Operation, Shape } from "@torpor/protocol";

export interface WireRequest {
  readonly method: string;
  /** Encoded path and query. */
  readonly target: string;
  /** JSON, or undefined for operations without a body. */
  readonly body: string | undefined;
}

/** An operation's input as its request (restJson1). @throws TypeError when a part of the path is missing */
export function encodeRequest(operation: Operation, input: Readonly<Record<string, unknown>>): WireRequest {
  const query: string[] = [];
  const body: Record<string, unknown> = {};
  let path = operation.uri;
  let hasBody = false;
  for (const [name, member] of Object.entries(operation.input)) {
    if (member.location === "body") hasBody = true;
    const value = input[name] ?? (member.idempotencyToken ? crypto.randomUUID() : undefined);
    if (member.location === "path") {
      if (typeof value !== "string" || value === "") throw new TypeError(`${name} is missing`);
      path = path.replace(`{${name}}`, encodeLabel(value));
    } else if (value !== undefined) {
      if (member.location === "query")
        for (const one of Array.isArray(value) ? value : [value])
          query.push(`${encodeLabel(member.queryName ?? name)}=${encodeLabel(String(one))}`);
      else body[name] = encode(value);
    }
  }
  return {
    method: operation.method,
    target: query.length === 0 ? path : `${path}?${query.join("&")}`,
    body: hasBody ? JSON.stringify(body) : undefined,
  };
}

/**
 * Everything but the unreserved characters of RFC 3986, as the service's own clients encode labels.
 * @throws TypeError for `.` and `..`, which no encoding keeps a URL from resolving
 */
export function encodeLabel(text: string): string {
  if (text === "." || text === "..") throw new TypeError(`"${text}" cannot be part of a path`);
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** Timestamps go out as seconds since the epoch. */
function encode(value: unknown): unknown {
  if (value instanceof Date) return value.getTime() / 1000;
  if (Array.isArray(value)) return value.map(encode);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, encode(v)]));
  return value;
}

/** The members that the table names: timestamps become Dates, nulls are left out, unknown members are dropped. */
export function decodeMembers(members: Members, value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return {};
  const source = new Map<string, unknown>(Object.entries(value));
  const decoded: Record<string, unknown> = {};
  for (const [name, member] of Object.entries(members)) {
    const found = source.get(name);
    if (found !== null && found !== undefined) decoded[name] = decode(member.shape, found);
  }
  return decoded;
}

function decode(shape: Shape, value: unknown): unknown {
  switch (shape.type) {
    case "timestamp":
      return typeof value === "number" ? new Date(Math.round(value * 1000)) : new Date(String(value));
    case "list":
      return Array.isArray(value) ? value.map((item) => decode(shape.member, item)) : [];
    case "map":
      return Object.fromEntries(Object.entries(Object(value)).map(([k, v]) => [k, decode(shape.value, v)]));
    case "structure":
    case "union":
      return decodeMembers(shape.members, value);
    default:
      return value;
  }
}
