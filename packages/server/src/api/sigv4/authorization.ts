import { createHash } from "node:crypto";
import { decodeBytes } from "./percent.ts";
import { SignatureError } from "./signature-error.ts";
import { formatTimestamp, parseTimestamp } from "./timestamp.ts";

/** What a request says of its own signature: nothing of it is checked yet but its form. */
export interface Claim {
  readonly form: "header" | "query";
  readonly accessKeyId: string;
  /** Date, region, service and terminator of the credential scope. */
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly terminator: string;
  /** Lower case, sorted, each once. */
  readonly signedHeaders: readonly string[];
  /** 64 hex digits in lower case. */
  readonly signature: string;
  /** `20260915T143000Z` */
  readonly timestamp: string;
  readonly signedAtMs: number;
  /** Query form only. */
  readonly expiresInSeconds: number | undefined;
}

/** Header lines by lower-case name, in the order of the wire. */
export type HeaderLines = ReadonlyMap<string, readonly string[]>;
/** Decoded names and values, in the order of the wire. */
export type QueryPairs = readonly (readonly [name: string, value: string])[];

const ALGORITHM = "AWS4-HMAC-SHA256";
const LONGEST_EXPIRY_SECONDS = 7 * 24 * 3600;
const HEADER_NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;

export function headerLines(rawHeaders: readonly string[]): HeaderLines {
  const lines = new Map<string, string[]>();
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    const values = lines.get(name);
    if (values) values.push(rawHeaders[i + 1]!);
    else lines.set(name, [rawHeaders[i + 1]!]);
  }
  return lines;
}

export function queryPairs(url: string): QueryPairs {
  const mark = url.indexOf("?");
  if (mark < 0) return [];
  return url
    .slice(mark + 1)
    .split("&")
    .filter((part) => part !== "")
    .map((part) => {
      const equals = part.indexOf("=");
      return equals < 0
        ? [decodeBytes(part), ""]
        : [decodeBytes(part.slice(0, equals)), decodeBytes(part.slice(equals + 1))];
    });
}

/**
 * @returns undefined when the request does not claim any signature.
 * @throws SignatureError `incomplete` or `ambiguous`
 */
export function readClaim(headers: HeaderLines, query: QueryPairs): Claim | undefined {
  const authorization = headers.get("authorization") ?? [];
  const inQuery = query.some(([name]) => name === "X-Amz-Algorithm" || name === "X-Amz-Signature");
  if (authorization.length > 1) throw new SignatureError("ambiguous", "Only one Authorization header is allowed.");
  if (authorization.length === 1 && inQuery)
    throw new SignatureError(
      "ambiguous",
      "Only one authentication mechanism is allowed: the Authorization header or X-Amz- query parameters.",
    );
  if (inQuery) return fromQuery(query);
  return authorization[0] === undefined ? undefined : fromHeader(authorization[0], headers);
}

/** The service of the credential scope, of however little else makes sense; for choosing who answers. */
export function claimedService(rawHeaders: readonly string[], url: string): string | undefined {
  return claimedCredential(rawHeaders, url)?.split("/").at(-2);
}

/** The id of the key, as above; for telling whether it is worth a look. */
export function claimedKey(rawHeaders: readonly string[], url: string): string | undefined {
  return claimedCredential(rawHeaders, url)?.split("/", 1)[0];
}

function claimedCredential(rawHeaders: readonly string[], url: string): string | undefined {
  const authorization = headerLines(rawHeaders).get("authorization")?.[0];
  return authorization === undefined
    ? queryPairs(url).find(([name]) => name === "X-Amz-Credential")?.[1]
    : /\bCredential=([^\s,]*)/.exec(authorization)?.[1];
}

function fromHeader(value: string, headers: HeaderLines): Claim {
  const space = value.indexOf(" ");
  const algorithm = space < 0 ? value : value.slice(0, space);
  if (algorithm !== ALGORITHM) throw incomplete(`Unsupported AWS 'algorithm': '${printable(algorithm)}'.`);
  const parts = new Map<string, string>();
  for (const part of value.slice(space + 1).split(",")) {
    const text = part.replace(/^[ \t]+|[ \t]+$/g, "");
    if (text === "") continue;
    const equals = text.indexOf("=");
    if (equals < 0)
      throw incomplete(`Invalid key=value pair (missing equal-sign) in Authorization header ${hashed(value)}.`);
    const name = text.slice(0, equals);
    if (parts.has(name)) throw incomplete(`Duplicate '${printable(name)}' parameter in Authorization header.`);
    parts.set(name, text.slice(equals + 1));
  }
  const timestamp = timestampOf(headers);
  const missing = ["Credential", "Signature", "SignedHeaders"]
    .filter((name) => !parts.get(name))
    .map((name) => `Authorization header requires '${name}' parameter.`);
  if (timestamp === undefined)
    missing.push("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.");
  if (missing.length > 0) throw incomplete(`${missing.join(" ")} Authorization=${ALGORITHM}`);
  return claim("header", {
    credential: parts.get("Credential")!,
    signedHeaders: parts.get("SignedHeaders")!,
    signature: parts.get("Signature")!,
    timestamp: timestamp!,
    expires: undefined,
  });
}

function fromQuery(query: QueryPairs): Claim {
  const value = (name: string): string => {
    const found = query.filter(([n]) => n === name);
    if (found.length > 1) throw incomplete(`AWS query-string parameter '${name}' must be given once.`);
    if (!found[0]?.[1])
      throw incomplete(`AWS query-string parameters must include '${name}'. Re-examine the query-string parameters.`);
    return found[0][1];
  };
  const algorithm = value("X-Amz-Algorithm");
  if (algorithm !== ALGORITHM) throw incomplete(`Unsupported AWS 'algorithm': '${printable(algorithm)}'.`);
  return claim("query", {
    credential: value("X-Amz-Credential"),
    signedHeaders: value("X-Amz-SignedHeaders"),
    signature: value("X-Amz-Signature"),
    timestamp: value("X-Amz-Date"),
    expires: value("X-Amz-Expires"),
  });
}

interface ClaimTexts {
  readonly credential: string;
  readonly signedHeaders: string;
  readonly signature: string;
  readonly timestamp: string;
  readonly expires: string | undefined;
}

function claim(form: Claim["form"], texts: ClaimTexts): Claim {
  const credential = texts.credential.split("/");
  const [accessKeyId, date, region, service, terminator] = credential;
  if (credential.length !== 5 || credential.includes(""))
    throw incomplete(
      `Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '${printable(texts.credential)}'`,
    );
  const signedHeaders = texts.signedHeaders.split(";");
  if (!signedHeaders.every((name, i) => HEADER_NAME.test(name) && (i === 0 || signedHeaders[i - 1]! < name)))
    throw incomplete("SignedHeaders must be lower-case header names, sorted, each once, separated by semicolons.");
  if (!/^[0-9a-f]{64}$/.test(texts.signature)) throw incomplete("Signature must be 64 hexadecimal digits.");
  const signedAtMs = parseTimestamp(texts.timestamp);
  if (signedAtMs === undefined)
    throw incomplete(
      `Date must be in ISO-8601 'basic format'. Got '${printable(texts.timestamp)}'. See http://en.wikipedia.org/wiki/ISO_8601`,
    );
  return {
    form,
    accessKeyId: accessKeyId!,
    date: date!,
    region: region!,
    service: service!,
    terminator: terminator!,
    signedHeaders,
    signature: texts.signature,
    timestamp: texts.timestamp,
    signedAtMs,
    expiresInSeconds: texts.expires === undefined ? undefined : expirySeconds(texts.expires),
  };
}

/** X-Amz-Date as it is; else Date, which may also be the HTTP form, as a basic ISO timestamp. */
function timestampOf(headers: HeaderLines): string | undefined {
  const amz = headers.get("x-amz-date");
  if (amz) return amz.join(",");
  const date = headers.get("date")?.join(",");
  if (date === undefined || parseTimestamp(date) !== undefined) return date;
  const ms = Date.parse(date);
  return Number.isNaN(ms) ? date : formatTimestamp(ms);
}

function expirySeconds(text: string): number {
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(seconds >= 1 && seconds <= LONGEST_EXPIRY_SECONDS))
    throw incomplete(`X-Amz-Expires must be a number of seconds from 1 to ${LONGEST_EXPIRY_SECONDS}.`);
  return seconds;
}

const incomplete = (message: string): SignatureError => new SignatureError("incomplete", message);

/** Never echo a whole Authorization header: it may hold what somebody mistook for a signature. */
const hashed = (text: string): string =>
  `(hashed with SHA-256 and encoded with Base64): '${createHash("sha256").update(text, "latin1").digest("base64")}'`;

const printable = (text: string): string => text.slice(0, 128).replace(/[^\x20-\x7e]/g, "?");
