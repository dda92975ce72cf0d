import type { Member, Members, Operation, Shape } from "../packages/protocol/src/shape.ts";
import { enumFact, type Facts, NONE, type OperationFacts, type Service } from "./facts.ts";

/**
 * What our operation table says.
 * @param statusOf the status that the server gives an error; undefined when it does not know it
 */
export function ofTable(
  operations: Readonly<Record<string, Operation>>,
  statusOf: (error: string) => number | undefined,
): Service {
  const read = ({ method, uri, status, input, output, errors }: Operation): OperationFacts => {
    const members = new Map<string, Facts>();
    readMembers(input, "input.", true, members);
    readMembers(output, "output.", true, members);
    return {
      facts: {
        method,
        uri,
        status: String(status),
        ...Object.fromEntries(errors.map((name) => [`error ${name}`, String(statusOf(name) ?? "unknown")])),
      },
      members,
    };
  };
  return {
    source: "the operation table",
    operations: new Map(Object.entries(operations).map(([name, operation]) => [name, read(operation)])),
  };
}

function readMembers(members: Members, prefix: string, top: boolean, into: Map<string, Facts>): void {
  for (const [name, member] of Object.entries(members))
    readShape(member.shape, prefix + name, into, {
      required: String(member.required),
      ...(top && { in: placeOf(name, member), token: String(member.idempotencyToken ?? false) }),
    });
}

const placeOf = (name: string, { location, queryName = name }: Member): string =>
  location === "body" ? location : `${location} ${queryName}`;

function readShape(shape: Shape, path: string, into: Map<string, Facts>, facts: Facts): void {
  into.set(path, { ...ofShape(shape), ...facts });
  switch (shape.type) {
    case "list":
      readShape(shape.member, `${path}[]`, into, {});
      break;
    case "map":
      readShape(shape.key, `${path}{key}`, into, {});
      readShape(shape.value, `${path}{value}`, into, {});
      break;
    case "structure":
    case "union":
      readMembers(shape.members, `${path}.`, false, into);
      break;
  }
}

function ofShape(shape: Shape): Facts {
  const bound = (value: number | undefined): string => String(value ?? NONE);
  switch (shape.type) {
    case "string":
      return {
        type: "string",
        sensitive: String(shape.sensitive ?? false),
        min: bound(shape.min),
        max: bound(shape.max),
        pattern: shape.pattern ?? NONE,
      };
    case "enum":
      return { type: "enum", sensitive: "false", enum: enumFact(shape.values) };
    case "integer":
      return { type: "integer", min: bound(shape.min), max: bound(shape.max) };
    case "list":
    case "map":
      return { type: shape.type, min: bound(shape.min), max: bound(shape.max) };
    case "timestamp":
      return { type: "timestamp", format: shape.format ?? "unixTimestamp" };
    case "boolean":
    case "structure":
    case "union":
      return { type: shape.type };
    default:
      return shape satisfies never;
  }
}
