import { type BotocoreModel, type BotocoreShape, shapeOf } from "../botocore.ts";
import { type Json, violations } from "./wording.ts";

/**
 * Texts that patterns of the models accept. A pattern that none of them suits makes the tests fail and say so: add one
 * that does.
 */
const TEXTS: readonly string[] = [
  "a",
  "1.0",
  "arn:aws:iam::111122223333:role/a",
  "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo-app",
  "arn:aws:lambda:us-east-1:111122223333:network-connector:nc-1",
  "subnet-0a",
  "sg-0a",
];
/** Texts that some patterns refuse. */
const ODD_TEXTS: readonly string[] = [" ", "*", ":", "{", "not at all"];

/** The simplest value that keeps every constraint: of a structure only what must be there, of a union the first. */
export function validValue(model: BotocoreModel, shape: BotocoreShape): Json {
  switch (shape.type) {
    case "string": {
      const text = shape.enum?.[0] ?? textFor(model, shape, (broken) => broken === 0);
      if (text === undefined) throw new Error(`no sample suits ${JSON.stringify(shape)}: add one to samples.ts`);
      return text;
    }
    case "integer":
    case "long":
      return shape.min ?? 1;
    case "boolean":
      return true;
    case "timestamp":
      return 1_789_483_142;
    case "list":
      return Array.from({ length: shape.min || 1 }, () => validValue(model, shapeOf(model, shape.member!.shape)));
    case "map":
      return { [keyFor(model, shape)]: validValue(model, shapeOf(model, shape.value!.shape)) };
    case "structure": {
      const members = Object.entries(shape.members ?? {});
      const kept = shape.union ? members.slice(0, 1) : members.filter(([name]) => shape.required?.includes(name));
      return Object.fromEntries(kept.map(([name, { shape: of }]) => [name, validValue(model, shapeOf(model, of))]));
    }
    default:
      return shape.type satisfies never;
  }
}

const keyFor = (model: BotocoreModel, { key }: BotocoreShape): string =>
  String(validValue(model, shapeOf(model, key!.shape)));

/** Values that break the shape's own constraints, by what is wrong with them. */
export function* invalidValues(model: BotocoreModel, shape: BotocoreShape): Generator<readonly [string, Json]> {
  const { type, min, max } = shape;
  switch (type) {
    case "string": {
      if (shape.enum) {
        yield ["an unknown value", "UNHEARD_OF"];
        yield ["a known value in lower case", shape.enum[0]!.toLowerCase()];
        break;
      }
      const valid = String(validValue(model, shape));
      if (min) yield ["too short", valid.slice(0, min - 1)];
      if (max !== undefined) {
        yield ["too long by one", valid.padEnd(max + 1, valid.at(-1) ?? "a")];
        yield ["much too long", "é".repeat(max + 2000)];
      }
      const odd = shape.pattern === undefined ? undefined : textFor(model, shape, (broken) => broken > 0, ODD_TEXTS);
      if (odd !== undefined) yield ["against the pattern", odd];
      break;
    }
    case "integer":
    case "long":
      if (min !== undefined) yield ["too small by one", min - 1];
      if (max !== undefined) yield ["too large by one", max + 1];
      if (max !== undefined) yield ["far too large", Number.MAX_SAFE_INTEGER];
      break;
    case "list": {
      const item = shapeOf(model, shape.member!.shape);
      if (min) yield ["too few items", []];
      if (max !== undefined) yield ["too many items", Array(max + 1).fill(validValue(model, item))];
      if (!["structure", "map", "list"].includes(item.type))
        for (const [wrong, value] of invalidValues(model, item))
          yield [`an item that is ${wrong}`, [validValue(model, item), value]];
      break;
    }
    case "map": {
      const [key, item] = [shapeOf(model, shape.key!.shape), shapeOf(model, shape.value!.shape)];
      const value = validValue(model, item);
      if (min) yield ["too few entries", {}];
      if (max !== undefined)
        yield ["too many entries", Object.fromEntries(Array.from({ length: max + 1 }, (_, i) => [`k${i}`, value]))];
      for (const [wrong, name] of invalidValues(model, key))
        yield [`a key that is ${wrong}`, { [String(name)]: value }];
      for (const [wrong, one] of invalidValues(model, item))
        yield [`a value that is ${wrong}`, { [keyFor(model, shape)]: one }];
      break;
    }
    case "structure": {
      if (!shape.union) break;
      yield ["none of the choices", {}];
      const all = Object.entries(shape.members ?? {});
      const both = all.map(([name, { shape: of }]) => [name, validValue(model, shapeOf(model, of))]);
      if (all.length > 1) yield ["all of the choices", Object.fromEntries(both)];
      break;
    }
  }
}

/** The first text with which so many constraints are broken; with one of them too short, filled up. */
function textFor(
  model: BotocoreModel,
  shape: BotocoreShape,
  suits: (broken: number) => boolean,
  texts: readonly string[] = TEXTS,
): string | undefined {
  return texts
    .map((text) => text.padEnd(shape.min ?? 0, text.at(-1)!))
    .find((text) => suits(violations(model, shape, text, "").length));
}

/** Values of other JSON types, and how the service's deserialiser words that it cannot take them. */
export function* mistypedValues({ type }: BotocoreShape): Generator<readonly [string, Json, string]> {
  const list = "Start of list found where not expected";
  const object = "Start of structure or map found where not expected.";
  const scalars: readonly (readonly [string, Json, string])[] = [
    ["a text", "7", "STRING"],
    ["a number", 7, "NUMBER"],
    ["true", true, "TRUE"],
    ["false", false, "FALSE"],
  ];
  const cannot = (own: string, wanted: string) =>
    scalars
      .filter(([, , kind]) => !own.includes(kind))
      .map(([what, value, kind]) => [what, value, `${kind}_VALUE can not be converted to ${wanted}`] as const);
  switch (type) {
    case "string":
      yield* cannot("STRING", "a String");
      yield ["a list", [], list];
      yield ["an object", {}, object];
      break;
    case "integer":
    case "long":
      yield* cannot("NUMBER", "an Integer");
      yield ["a fraction", 1.5, "NUMBER_VALUE can not be converted to an Integer"];
      yield ["a number beyond 2^53", 2 ** 53, "NUMBER_VALUE can not be converted to an Integer"];
      yield ["a list", [1], list];
      yield ["an object", { a: 1 }, object];
      break;
    case "boolean":
      yield* cannot("TRUE FALSE", "a Boolean");
      yield ["a list", [true], list];
      yield ["an object", {}, object];
      break;
    case "list":
      for (const [what, value] of scalars) yield [what, value, "Expected list or null"];
      yield ["an object", {}, object];
      break;
    case "map":
      for (const [what, value] of scalars) yield [what, value, "Expected map or null"];
      yield ["a list", [], list];
      break;
    case "structure":
      for (const [what, value] of scalars) yield [what, value, "Expected null"];
      yield ["a list", [{}], list];
      break;
    case "timestamp":
      throw new Error("no operation takes a timestamp: say here what is wrong with one");
    default:
      throw new Error(`a shape of the type ${String(type satisfies never)}`);
  }
}
