/**
 * Makes the digests beside this file: the models that botocore ships, without their documentation and with nothing but
 * the operations that Torpor is about.
 *
 *   pip download --no-deps botocore==VERSION && unzip botocore-*.whl -d FOLDER
 *   node contract/oracle/digest.ts FOLDER VERSION
 */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import type { BotocoreModel, BotocoreShape } from "../botocore.ts";

export interface Digest extends BotocoreModel {
  readonly source: {
    readonly package: "botocore";
    readonly version: string;
    readonly license: "Apache-2.0";
    /** In the package, as it is there. */
    readonly file: string;
    readonly sha256: string;
  };
}

interface Wanted {
  readonly service: string;
  readonly file: string;
  /** Lambda Core has other resources than connectors. */
  readonly uri: RegExp;
}

export const SERVICES: readonly Wanted[] = [
  { service: "lambda-microvms", file: "botocore/data/lambda-microvms/2025-09-09/service-2.json.gz", uri: /^\// },
  {
    service: "lambda-core",
    file: "botocore/data/lambda-core/2026-04-30/service-2.json.gz",
    uri: /^\/2026-04-04\/network-connectors/,
  },
];

/** @param folder in which there is `botocore/` */
export function digestOf(folder: string, version: string, { file, uri }: Wanted): Digest {
  const packed = readFileSync(join(folder, file));
  const model: BotocoreModel = JSON.parse(gunzipSync(packed).toString("utf8"));
  const operations = Object.fromEntries(
    Object.entries(model.operations)
      .filter(([, operation]) => uri.test(operation.http.requestUri))
      .map(([name, { http, input, output, errors }]) => [
        name,
        { http, ...(input && { input }), ...(output && { output }), ...(errors && { errors }) },
      ]),
  );
  const shapes = new Map<string, BotocoreShape>();
  const keep = (name: string): void => {
    if (shapes.has(name)) return;
    const { shape, uses } = withoutDocumentation(model.shapes[name]!);
    shapes.set(name, shape);
    for (const used of uses) keep(used);
  };
  for (const { input, output, errors = [] } of Object.values(operations))
    for (const used of [input, output, ...errors]) if (used) keep(used.shape);
  return {
    source: {
      package: "botocore",
      version,
      license: "Apache-2.0",
      file,
      sha256: createHash("sha256").update(packed).digest("hex"),
    },
    metadata: { serviceId: model.metadata.serviceId },
    operations,
    shapes: Object.fromEntries([...shapes].toSorted(([a], [b]) => (a < b ? -1 : 1))),
  };
}

function withoutDocumentation(given: object): { readonly shape: BotocoreShape; readonly uses: readonly string[] } {
  const uses: string[] = [];
  const shape = JSON.parse(
    JSON.stringify(given, (name, value: unknown) => {
      if (name === "documentation" && typeof value === "string") return undefined;
      if (name === "shape" && typeof value === "string") uses.push(value);
      return value;
    }),
  );
  return { shape, uses };
}

/** One line an operation and a shape, so that a later model shows as lines that differ. */
function written({ source, metadata, operations, shapes }: Digest): string {
  const lines = (members: object): string =>
    Object.entries(members)
      .map(([name, value]) => `    ${JSON.stringify(name)}: ${JSON.stringify(value)}`)
      .join(",\n");
  return `{
  "source": ${JSON.stringify(source)},
  "metadata": ${JSON.stringify(metadata)},
  "operations": {\n${lines(operations)}\n  },
  "shapes": {\n${lines(shapes)}\n  }
}\n`;
}

export function readDigest(service: string): Digest {
  return JSON.parse(readFileSync(join(import.meta.dirname, `${service}.json`), "utf8"));
}

if (import.meta.main) {
  const [folder, version] = process.argv.slice(2);
  if (!folder || !version) {
    console.error("usage: node contract/oracle/digest.ts FOLDER VERSION");
    process.exit(2);
  }
  for (const wanted of SERVICES)
    writeFileSync(join(import.meta.dirname, `${wanted.service}.json`), written(digestOf(folder, version, wanted)));
}
