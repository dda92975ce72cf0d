import {
  type BotocoreMember,
  type BotocoreModel,
  type BotocoreOperation,
  type BotocoreShape,
  shapeOf,
} from "../botocore.ts";
import { invalidValues, mistypedValues, validValue } from "./samples.ts";
import { camelCase, type Json, javaBuckets, message, ofMembers } from "./wording.ts";

/** A request that has to be refused, and how. */
export interface BadInput {
  /** `idlePolicy.maxIdleDurationSeconds: too small by one` */
  readonly what: string;
  readonly request: HttpRequest;
  readonly type: string;
  /** The whole body of the answer. */
  readonly body: object;
}

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly query: Record<string, string | string[]>;
  readonly body?: string;
}

type Input = Readonly<Record<string, Json>>;

/** Values of the input that exist, so that a request with them would do something. */
export type Known = Readonly<Record<string, string>>;

/** A request for each way in which the operation's input can be wrong, nested members too. */
export function* badInputs(model: BotocoreModel, operation: BotocoreOperation, known: Known): Generator<BadInput> {
  const root = inputOf(model, operation);
  const declared = operation.errors?.map(({ shape }) => shape) ?? [];
  const invalid = ["ValidationException", "InvalidParameterValueException"].find((name) => declared.includes(name));
  const refused = (what: string, input: Input): BadInput => ({
    what,
    request: requestOf(root, operation, input),
    type: invalid ?? "ValidationException",
    body: { message: message(ofMembers(model, root, input, "")) },
  });
  const unreadable = (what: string, request: HttpRequest, text: string): BadInput => ({
    what,
    request,
    type: "SerializationException",
    body: { Message: text },
  });

  const wrongs = new Map<string, Json>();
  for (const { path, member, required } of membersOf(model, root)) {
    const shape = shapeOf(model, member.shape);
    const top = path.length === 1;
    const inBody = !top || member.location === undefined;
    const at = path.join(".");
    const given = (value: Json | undefined): Input => withValue(model, root, base(model, root, known), path, value);
    if (required && (inBody || member.location !== "uri")) yield refused(`${at}: missing`, given(undefined));
    if (required && inBody) yield refused(`${at}: null`, given(null));
    for (const [wrong, value] of invalidValues(model, shape)) {
      const input = given(value);
      // What a query or a label cannot carry.
      if (!inBody && JSON.stringify(value).length > 8000) continue;
      yield refused(`${at}: ${wrong}`, input);
      if (top) wrongs.set(at, value);
    }
    if (inBody)
      for (const [wrong, value, text] of mistypedValues(shape))
        yield unreadable(`${at}: ${wrong}`, requestOf(root, operation, given(value)), text);
    else if (member.location === "querystring" && shape.type !== "list") {
      const request = requestOf(root, operation, given(validValue(model, shape)));
      const name = member.locationName!;
      const [value] = [request.query[name]].flat();
      yield unreadable(
        `${at}: twice`,
        { ...request, query: { ...request.query, [name]: [value!, value!] } },
        `The query parameter '${name}' must be given once.`,
      );
      if (shape.type === "integer")
        yield unreadable(
          `${at}: no number`,
          { ...request, query: { ...request.query, [name]: "ten" } },
          "STRING_VALUE can not be converted to an Integer",
        );
    }
  }
  for (const names of together(root, [...wrongs.keys()])) {
    const input = {
      ...base(model, root, known),
      ...Object.fromEntries(names.map((name) => [name, wrongs.get(name)!])),
    };
    yield refused(`${names.join(" and ")}: wrong together`, input);
  }
  if (bodyMembers(root).some((name) => root.required?.includes(name))) {
    const all = Object.entries(base(model, root, known));
    const labels = all.filter(([name]) => root.members?.[name]?.location === "uri");
    yield refused("an empty object", Object.fromEntries(labels));
  }
}

/** Each two of the members, and all of them, but for those whose order is not known. */
function* together({ members = {} }: BotocoreShape, names: readonly string[]): Generator<readonly string[]> {
  const bySpelling = new Map(Object.keys(members).map((name) => [camelCase(name), name]));
  const first = javaBuckets([...bySpelling.keys()])
    .map((bucket) => bucket.map((spelling) => bySpelling.get(spelling)!).find((name) => names.includes(name)))
    .filter((name) => name !== undefined);
  for (const [i, one] of first.entries()) for (const other of first.slice(i + 1)) yield [other, one];
  if (first.length > 2) yield first.toReversed();
}

/** For each member, nested ones too, a request that has it and is right. */
export function* goodInputs(
  model: BotocoreModel,
  operation: BotocoreOperation,
  known: Known,
): Generator<{ readonly what: string; readonly request: HttpRequest }> {
  const root = inputOf(model, operation);
  yield { what: "the least", request: requestOf(root, operation, base(model, root, known)) };
  for (const { path, member } of membersOf(model, root)) {
    const value = known[path[0]!] !== undefined && path.length === 1 ? known[path[0]!] : undefined;
    const input = withValue(
      model,
      root,
      base(model, root, known),
      path,
      value ?? validValue(model, shapeOf(model, member.shape)),
    );
    yield { what: path.join("."), request: requestOf(root, operation, input) };
  }
}

const inputOf = (model: BotocoreModel, { input }: BotocoreOperation): BotocoreShape =>
  input ? shapeOf(model, input.shape) : { type: "structure", members: {} };

const bodyMembers = ({ members = {} }: BotocoreShape): string[] =>
  Object.keys(members).filter((name) => members[name]!.location === undefined);

function base(model: BotocoreModel, root: BotocoreShape, known: Known): Input {
  const least = validValue(model, root) as Input;
  return Object.fromEntries(Object.entries(least).map(([name, value]) => [name, known[name] ?? value]));
}

interface Found {
  readonly path: readonly string[];
  readonly member: BotocoreMember;
  readonly required: boolean;
}

/** Every member, those of structures in structures and in lists too; a list's item is `1`. */
function* membersOf(model: BotocoreModel, structure: BotocoreShape, prefix: readonly string[] = []): Generator<Found> {
  for (const [name, member] of Object.entries(structure.members ?? {})) {
    const path = [...prefix, name];
    yield { path, member, required: structure.required?.includes(name) ?? false };
    const shape = shapeOf(model, member.shape);
    if (shape.type === "structure") yield* membersOf(model, shape, path);
    const item = shape.member && shapeOf(model, shape.member.shape);
    if (item?.type === "structure") yield* membersOf(model, item, [...path, "1"]);
  }
}

/** The input with the value at the path, and around it whatever must be there; undefined takes the member out. */
function withValue(
  model: BotocoreModel,
  shape: BotocoreShape,
  around: Input,
  [name, ...rest]: readonly string[],
  value: Json | undefined,
): Input {
  const { [name!]: old, ...others } = around;
  const kept = shape.union ? {} : others;
  if (rest.length === 0) return value === undefined ? kept : { ...kept, [name!]: value };
  const inner = shapeOf(model, shape.members![name!]!.shape);
  if (inner.type !== "list") {
    const start = (inner.union ? {} : (old ?? validValue(model, inner))) as Input;
    return { ...kept, [name!]: withValue(model, inner, start, rest, value) };
  }
  const item = shapeOf(model, inner.member!.shape);
  return { ...kept, [name!]: [withValue(model, item, validValue(model, item) as Input, rest.slice(1), value)] };
}

function requestOf(root: BotocoreShape, { http }: BotocoreOperation, input: Input): HttpRequest {
  const members = Object.entries(root.members ?? {});
  const at = (location: string | undefined) =>
    members.filter(([name, member]) => member.location === location && name in input);
  const path = at("uri").reduce(
    (uri, [name, { locationName }]) => uri.replace(`{${locationName}}`, encodeURIComponent(String(input[name]))),
    http.requestUri,
  );
  const query = at("querystring").map(([name, { locationName }]) => {
    const value = input[name];
    return [locationName!, Array.isArray(value) ? value.map(String) : String(value)];
  });
  const body = at(undefined).map(([name, { locationName }]) => [locationName ?? name, input[name]]);
  return {
    method: http.method,
    path,
    query: Object.fromEntries(query),
    ...(bodyMembers(root).length > 0 && { body: JSON.stringify(Object.fromEntries(body)) }),
  };
}
