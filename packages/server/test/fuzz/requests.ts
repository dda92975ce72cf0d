import fc from "fast-check";
import { badInputs, goodInputs, type HttpRequest } from "../../../../contract/bad-input/cases.ts";
import { allDigests } from "../../../../contract/contract.ts";

/** A request before it is signed and written: all of it may be nonsense. */
export interface FuzzRequest {
  readonly method: string;
  /** As it stands in the request line, one character a byte. */
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
  readonly framing: Framing;
  readonly signed: "lambda" | "s3" | "wrongly" | "not";
}

/** How the body's end is told, rightly or wrongly; `garbage` is no HTTP at all. */
export type Framing = (typeof FRAMINGS)[number];
const FRAMINGS = [
  "length",
  "chunks",
  "a length too large",
  "a length too small",
  "length and chunks",
  "two lengths",
  "a broken chunk size",
  "chunks without an end",
  "a negative length",
  "garbage",
] as const;

/** Ids of what the server has, so that some of the requests mean something. */
export interface Targets {
  readonly images: readonly string[];
  readonly microvms: readonly string[];
}

/** Requests from what AWS's model has as right and wrong ones, bent here and there, and some that are only bytes. */
export function fuzzRequests(targets: Targets): fc.Arbitrary<FuzzRequest> {
  const { right, wrong } = modelled(targets);
  const method = fc.constantFrom("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "BREW");
  return fc
    .record({
      seed: fc.oneof(
        { weight: 4, arbitrary: fc.constantFrom(...right) },
        { weight: 2, arbitrary: fc.constantFrom(...wrong) },
        { weight: 2, arbitrary: fc.constantFrom(...others(targets)) },
      ),
      method: oneIn(20, method),
      bendTarget: oneIn(6, bends(fc.oneof(hostileText.map(encodeURIComponent_), bytesText))),
      bendBody: oneIn(4, bends(fc.oneof(hostileText, bytesText, jsonPiece))),
      body: oneIn(8, body),
      headers: fc.oneof(
        { weight: 8, arbitrary: fc.constant([]) },
        { weight: 2, arbitrary: fc.array(header, { maxLength: 4 }) },
        { weight: 1, arbitrary: hugeHeaders },
      ),
      contentType: oneIn(20, contentType),
      framing: fc.oneof(
        { weight: 12, arbitrary: fc.constant<Framing>("length") },
        { weight: 3, arbitrary: fc.constant<Framing>("chunks") },
        { weight: 2, arbitrary: fc.constantFrom(...FRAMINGS) },
      ),
      signed: fc.oneof(
        { weight: 12, arbitrary: fc.constant("lambda" as const) },
        { weight: 3, arbitrary: fc.constantFrom("s3" as const, "wrongly" as const, "not" as const) },
      ),
    })
    .map(({ seed, method, bendTarget, bendBody, body: other, headers, contentType, framing, signed }) => {
      const own = seed.body ?? Buffer.alloc(0);
      const bent = bendBody ? Buffer.from(bendBody(own.toString("latin1")), "latin1") : own;
      return {
        method: method ?? seed.method,
        target: bendTarget ? bendTarget(seed.target) : seed.target,
        headers: [["content-type", contentType ?? "application/json"] as const, ...headers],
        body: other ?? bent,
        framing,
        signed,
      };
    });
}

const oneIn = <T>(n: number, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: 1, arbitrary }, { weight: n - 1, arbitrary: fc.constant(undefined) });

interface Seed {
  readonly method: string;
  readonly target: string;
  readonly body?: Buffer;
}

function modelled({ images, microvms }: Targets): { readonly right: readonly Seed[]; readonly wrong: readonly Seed[] } {
  const known = (n: number) => ({
    imageIdentifier: images[n % images.length]!,
    microvmIdentifier: microvms[n % microvms.length]!,
    Resource: images[n % images.length]!,
    imageVersion: "1.0",
  });
  const right: Seed[] = [];
  const wrong: Seed[] = [];
  for (const model of allDigests())
    for (const operation of Object.values(model.operations)) {
      for (const n of microvms.keys())
        right.push(...[...goodInputs(model, operation, known(n))].map(({ request }) => seedOf(request)));
      wrong.push(...[...badInputs(model, operation, known(0))].map(({ request }) => seedOf(request)));
    }
  return { right, wrong };
}

function seedOf({ method, path, query, body }: HttpRequest): Seed {
  const pairs = Object.entries(query).flatMap(([name, value]) =>
    [value].flat().map((one) => `${encodeURIComponent(name)}=${encodeURIComponent_(one)}`),
  );
  const target = pairs.length === 0 ? path : `${path}?${pairs.join("&")}`;
  return { method, target, ...(body !== undefined && { body: Buffer.from(body) }) };
}

/** Torpor's own operations, S3, and paths that nobody has. */
function others({ images, microvms }: Targets): Seed[] {
  const image = encodeURIComponent(images[0]!);
  const own = microvms.flatMap((id): [string, string, string?][] => [
    ["GET", `/torpor/v1/microvms/${id}/receipts`],
    ["GET", `/torpor/v1/microvms/${id}/usage`],
    ["GET", `/torpor/v1/microvms/${id}/logs?tail=5`],
    ["GET", `/torpor/v1/microvms/${id}/lineage`],
    ["GET", `/torpor/v1/microvms/${id}/checkpoints`],
    ["POST", `/torpor/v1/microvms/${id}/checkpoints`, '{"name":"before"}'],
    ["POST", `/torpor/v1/microvms/${id}/fork`, '{"count":1}'],
    [
      "POST",
      `/torpor/v1/microvms/${id}/rollback`,
      '{"checkpointId":"checkpoint-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60"}',
    ],
  ]);
  const rest: [string, string, string?][] = [
    ["GET", "/torpor/v1/health"],
    ["GET", "/torpor/v1/host"],
    ["GET", "/torpor/v1/checkpoints"],
    ["GET", `/torpor/v1/images/${image}/versions/1.0/log`],
    ["GET", `/torpor/v1/images/${image}/versions/1.0/receipt`],
    ["PUT", "/fuzz-bucket"],
    ["PUT", "/fuzz-bucket/key", "value"],
    ["GET", "/fuzz-bucket/key"],
    ["GET", "/fuzz-bucket?list-type=2"],
    ["POST", "/fuzz-bucket?delete", "<Delete><Object><Key>key</Key></Object></Delete>"],
    ["GET", "/"],
    ["GET", "//"],
    ["GET", "/2025-09-09/../../etc/passwd"],
    ["POST", "/2025-09-09/microvms/%2e%2e/suspend"],
  ];
  return [...own, ...rest].map(([method, target, body]) => ({
    method,
    target,
    ...(body !== undefined && { body: Buffer.from(body) }),
  }));
}

/** Half a surrogate pair cannot be encoded, and is sent as it would be in UTF-8 if it could. */
const encodeURIComponent_ = (text: string): string =>
  text.replace(/[^A-Za-z0-9]/gu, (char) =>
    [...Buffer.from(char)].map((b) => `%${b.toString(16).padStart(2, "0")}`).join(""),
  );

const hostileText = fc.oneof(
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.constantFrom(
    ..."\0|__proto__|constructor|prototype|toString|../..|%00|%2e%2e%2f|%|9007199254740993|-1|NaN|null|\r\n|\n|'--|😀|\u202e".split(
      "|",
    ),
    "\ud800",
    "x".repeat(300),
    "x".repeat(5000),
    "é".repeat(2100),
  ),
);
const bytesText = fc.uint8Array({ maxLength: 12 }).map((bytes) => Buffer.from(bytes).toString("latin1"));

const jsonPiece = fc.constantFrom(
  ...[
    '"__proto__":{"polluted":true},',
    '"a":1,"a":2,',
    "9007199254740993",
    "1e999",
    "-0",
    "1.5",
    '"\\ud800"',
    '"\\u0000"',
    "[".repeat(40),
    '{"a":'.repeat(40),
    "null",
    "true",
    "{}",
    "[]",
    '"',
    "\\",
    "\ufeff",
  ],
);

/** Other bodies than the operation's. */
const body = fc.oneof(
  { weight: 6, arbitrary: fc.json().map((text) => Buffer.from(text)) },
  { weight: 4, arbitrary: fc.json().map((text) => Buffer.from(text.slice(0, -1))) },
  { weight: 4, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
  { weight: 2, arbitrary: fc.integer({ min: 20, max: 50_000 }).map((depth) => Buffer.from("[".repeat(depth))) },
  {
    weight: 2,
    arbitrary: fc.integer({ min: 20, max: 40 }).map((d) => Buffer.from(`${'{"a":'.repeat(d)}1${"}".repeat(d)}`)),
  },
  { weight: 1, arbitrary: fc.constant(Buffer.from(`{"imageIdentifier":"${"x".repeat(1_200_000)}"}`)) },
  {
    weight: 1,
    arbitrary: fc.constant(Buffer.from(`{${Array.from({ length: 20_000 }, (_, i) => `"k${i}":${i}`).join(",")}}`)),
  },
);

/** Puts pieces in, takes pieces out. */
const bends = (piece: fc.Arbitrary<string>): fc.Arbitrary<(text: string) => string> =>
  fc
    .array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: 0, max: 12 }), piece), {
      minLength: 1,
      maxLength: 3,
    })
    .map((changes) => (text) => {
      let bent = text;
      for (const [where, out, put] of changes) {
        const at = Math.floor(where * bent.length);
        bent = bent.slice(0, at) + put + bent.slice(at + out);
      }
      return bent;
    });

const header = fc.tuple(
  fc.constantFrom(
    ..."content-type content-encoding transfer-encoding content-length host connection expect upgrade x-amz-date authorization x-amz-security-token x-amz-target x-http-method-override te trailer cookie x-a".split(
      " ",
    ),
  ),
  fc.oneof(
    hostileText.map((text) => text.replace(/[\r\n]/g, "")),
    bytesText,
    fc.constantFrom(
      "chunked",
      "gzip",
      "100-continue",
      "close",
      "keep-alive",
      "h2c",
      "websocket",
      "0",
      "18446744073709551616",
    ),
  ),
);

const hugeHeaders = fc.oneof(
  fc.integer({ min: 50, max: 200 }).map((n) => Array.from({ length: n }, (_, i) => [`x-${i}`, "1"] as const)),
  fc.integer({ min: 1000, max: 40_000 }).map((n) => [["x-large", "y".repeat(n)] as const]),
);

const contentType = fc.oneof(
  fc.constantFrom(
    "text/xml",
    "application/json; charset=utf-16",
    "application/x-amz-json-1.1",
    "multipart/form-data",
    "",
    "nonsense",
    ";",
  ),
  fc.string({ maxLength: 10 }).map((text) => text.replace(/[\r\n]/g, "")),
);
