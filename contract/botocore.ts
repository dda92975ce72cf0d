import { enumFact, type Facts, NONE, type OperationFacts, type Service } from "./facts.ts";

/** What is used here of a model in the format of botocore's `service-2.json`. */
export interface BotocoreModel {
  readonly metadata: { readonly serviceId: string };
  readonly operations: Readonly<Record<string, BotocoreOperation>>;
  readonly shapes: Readonly<Record<string, BotocoreShape>>;
}
export interface BotocoreOperation {
  readonly http: { readonly method: string; readonly requestUri: string; readonly responseCode?: number };
  readonly input?: { readonly shape: string };
  readonly output?: { readonly shape: string };
  readonly errors?: readonly { readonly shape: string }[];
}
export interface BotocoreMember {
  readonly shape: string;
  readonly location?: "uri" | "querystring" | "header" | "headers";
  readonly locationName?: string;
  readonly idempotencyToken?: boolean;
}
export interface BotocoreShape {
  readonly type: "string" | "integer" | "long" | "boolean" | "timestamp" | "list" | "map" | "structure";
  readonly members?: Readonly<Record<string, BotocoreMember>>;
  readonly required?: readonly string[];
  readonly union?: boolean;
  readonly member?: BotocoreMember;
  readonly key?: BotocoreMember;
  readonly value?: BotocoreMember;
  readonly min?: number;
  readonly max?: number;
  readonly pattern?: string;
  readonly enum?: readonly string[];
  readonly sensitive?: boolean;
  readonly timestampFormat?: string;
  readonly error?: { readonly httpStatusCode?: number };
}

const IN: Readonly<Record<string, string>> = { uri: "path", querystring: "query", header: "header" };

/** All that the model says: operations, members, constraints, errors. */
export function ofBotocore(model: BotocoreModel, source: string): Service {
  return {
    source,
    operations: new Map(Object.entries(model.operations).map(([name, operation]) => [name, read(model, operation)])),
  };
}

export function shapeOf(model: BotocoreModel, name: string): BotocoreShape {
  const shape = model.shapes[name];
  if (!shape) throw new Error(`the model of ${model.metadata.serviceId} has no shape ${name}`);
  return shape;
}

function read(model: BotocoreModel, operation: BotocoreOperation): OperationFacts {
  const { http, errors = [] } = operation;
  const members = new Map<string, Facts>();
  for (const side of ["input", "output"] as const) {
    const root = operation[side];
    if (root) readMembers(model, shapeOf(model, root.shape), `${side}.`, true, members);
  }
  return {
    facts: {
      method: http.method,
      uri: http.requestUri,
      status: String(http.responseCode ?? 200),
      ...Object.fromEntries(
        errors.map(({ shape }) => [`error ${shape}`, String(shapeOf(model, shape).error?.httpStatusCode)]),
      ),
    },
    members,
  };
}

function readMembers(
  model: BotocoreModel,
  shape: BotocoreShape,
  prefix: string,
  top: boolean,
  into: Map<string, Facts>,
): void {
  for (const [name, member] of Object.entries(shape.members ?? {})) {
    const where = IN[member.location ?? ""] ?? "body";
    const wireName = member.locationName ?? name;
    readShape(model, member, prefix + name, into, {
      required: String(shape.required?.includes(name) ?? false),
      ...(top && {
        in: where === "body" && wireName === name ? where : `${where} ${wireName}`,
        token: String(member.idempotencyToken ?? false),
      }),
    });
  }
}

function readShape(
  model: BotocoreModel,
  member: BotocoreMember,
  path: string,
  into: Map<string, Facts>,
  facts: Facts,
): void {
  const shape = shapeOf(model, member.shape);
  into.set(path, { ...ofShape(shape), ...facts });
  if (shape.member) readShape(model, shape.member, `${path}[]`, into, {});
  if (shape.key) readShape(model, shape.key, `${path}{key}`, into, {});
  if (shape.value) readShape(model, shape.value, `${path}{value}`, into, {});
  readMembers(model, shape, `${path}.`, false, into);
}

function ofShape(shape: BotocoreShape): Facts {
  const bound = (value: number | undefined): string => String(value ?? NONE);
  switch (shape.type) {
    case "string":
      if (shape.enum) return { type: "enum", enum: enumFact(shape.enum), sensitive: String(shape.sensitive ?? false) };
      return {
        type: "string",
        sensitive: String(shape.sensitive ?? false),
        min: bound(shape.min),
        max: bound(shape.max),
        pattern: shape.pattern ?? NONE,
      };
    case "integer":
    case "long":
      return { type: "integer", min: bound(shape.min), max: bound(shape.max) };
    case "list":
    case "map":
      return { type: shape.type, min: bound(shape.min), max: bound(shape.max) };
    case "timestamp":
      return { type: "timestamp", format: shape.timestampFormat ?? "unixTimestamp" };
    case "structure":
      return { type: shape.union ? "union" : "structure" };
    case "boolean":
      return { type: "boolean" };
    default:
      throw new Error(`a shape of the type ${String(shape.type satisfies never)}`);
  }
}
