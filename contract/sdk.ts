import { NormalizedSchema } from "@smithy/core/schema";
import type { Facts, OperationFacts, Service } from "./facts.ts";

/**
 * What the schemas say that a client of the AWS SDK for JavaScript serialises by: operations, members, where they go.
 * They have neither lengths nor patterns nor enumerations, and do not say which errors an operation has.
 * @param exports of the client's package
 */
export function ofSdk(exports: Readonly<Record<string, unknown>>, source: string): Service {
  const operations = new Map<string, OperationFacts>();
  for (const schema of Object.values(exports)) if (isOperation(schema)) operations.set(schema[2], read(schema));
  return { source, operations };
}

type OperationSchema = readonly [
  kind: 9,
  namespace: string,
  name: string,
  traits: { readonly http: readonly [method: string, uri: string, status: number] },
  input: unknown,
  output: unknown,
];

const isOperation = (schema: unknown): schema is OperationSchema => Array.isArray(schema) && schema[0] === 9;

function read([, , , { http }, input, output]: OperationSchema): OperationFacts {
  const members = new Map<string, Facts>();
  readMembers(schemaOf(input), "input.", true, members);
  readMembers(schemaOf(output), "output.", true, members);
  const [method, uri, status] = http;
  return { facts: { method, uri, status: String(status) }, members };
}

const schemaOf = (schema: unknown): NormalizedSchema => NormalizedSchema.of(schema as never);

function readMembers(schema: NormalizedSchema, prefix: string, top: boolean, into: Map<string, Facts>): void {
  const raw: unknown = schema.getSchema();
  // Required members are the first ones; the array ends with how many they are.
  const required = Array.isArray(raw) && typeof raw[6] === "number" ? raw[6] : 0;
  for (const [i, [name, member]] of [...schema.structIterator()].entries()) {
    const traits = member.getMergedTraits();
    readShape(member, prefix + name, into, {
      ...(!schema.isUnionSchema() && { required: String(i < required) }),
      ...(top && {
        in: traits.httpLabel ? `path ${name}` : traits.httpQuery ? `query ${traits.httpQuery}` : "body",
        token: String(Boolean(traits.idempotencyToken)),
      }),
    });
  }
}

function readShape(schema: NormalizedSchema, path: string, into: Map<string, Facts>, facts: Facts): void {
  const type = typeOf(schema);
  const sensitive = String(Boolean(schema.getMergedTraits().sensitive));
  into.set(path, { ...(type !== undefined && { type }), ...(type === undefined && { sensitive }), ...facts });
  if (type === "list") readShape(schema.getValueSchema(), `${path}[]`, into, {});
  else if (type === "map") {
    readShape(schema.getKeySchema(), `${path}{key}`, into, {});
    readShape(schema.getValueSchema(), `${path}{value}`, into, {});
  } else if (type === "structure" || type === "union") readMembers(schema, `${path}.`, false, into);
}

/** Undefined for texts: whether one is an enumeration, the schemas do not say. */
function typeOf(schema: NormalizedSchema): string | undefined {
  if (schema.isUnitSchema()) return "structure";
  if (schema.isUnionSchema()) return "union";
  if (schema.isStructSchema()) return "structure";
  if (schema.isListSchema()) return "list";
  if (schema.isMapSchema()) return "map";
  if (schema.isTimestampSchema()) return "timestamp";
  if (schema.isBooleanSchema()) return "boolean";
  if (schema.isNumericSchema()) return "integer";
  if (schema.isStringSchema()) return undefined;
  throw new Error(`a schema of a kind that is not known here: ${JSON.stringify(schema.getSchema())}`);
}
