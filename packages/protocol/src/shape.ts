/**
 * The vocabulary in which operations are described (operations/): shapes as plain data, and the TypeScript types
 * that follow from them. No behaviour lives here; the server derives routing, validation and serialisation from it.
 */

import type { Permission } from "./permission.ts";

export interface StringShape {
  readonly type: "string";
  /** Length bounds in characters. */
  readonly min?: number;
  readonly max?: number;
  /** Must match the whole value. Spelled as the service's messages spell it. */
  readonly pattern?: string;
  /** Never echoed in messages or logs. */
  readonly sensitive?: boolean;
}
export interface EnumShape<V extends string = string> {
  readonly type: "enum";
  readonly values: readonly V[];
}
export interface IntegerShape {
  readonly type: "integer";
  readonly min?: number;
  readonly max?: number;
}
export interface BooleanShape {
  readonly type: "boolean";
}
/**
 * On the wire a JSON number of seconds since the epoch, with a millisecond fraction, or an ISO 8601 text; a Date in
 * handlers.
 */
export interface TimestampShape {
  readonly type: "timestamp";
  readonly format?: "iso8601";
}
export interface ListShape<M extends Shape = Shape> {
  readonly type: "list";
  readonly member: M;
  readonly min?: number;
  readonly max?: number;
}
export interface MapShape<V extends Shape = Shape> {
  readonly type: "map";
  readonly key: StringShape;
  readonly value: V;
  readonly min?: number;
  readonly max?: number;
}
export interface StructureShape<M extends Members = Members> {
  readonly type: "structure";
  readonly members: M;
}
/** Exactly one member is present. */
export interface UnionShape<M extends Members = Members> {
  readonly type: "union";
  readonly members: M;
}
/** `any` where the recursion would otherwise make TypeScript give up; Value<> recovers the exact type. */
export type Shape =
  | StringShape
  | EnumShape
  | IntegerShape
  | BooleanShape
  | TimestampShape
  // biome-ignore lint/suspicious/noExplicitAny: see above
  | ListShape<any>
  // biome-ignore lint/suspicious/noExplicitAny: see above
  | MapShape<any>
  // biome-ignore lint/suspicious/noExplicitAny: see above
  | StructureShape<any>
  // biome-ignore lint/suspicious/noExplicitAny: see above
  | UnionShape<any>;

export interface Member<S extends Shape = Shape, R extends boolean = boolean> {
  readonly shape: S;
  readonly required: R;
  readonly location: "body" | "path" | "query";
  /** Of the query parameter, where it is not the member's. */
  readonly queryName?: string;
  /** SDKs fill it in by themselves when the caller gives none. */
  readonly idempotencyToken?: true;
}
export type Members = Readonly<Record<string, Member>>;

export interface Operation<I extends Members = Members, O extends Members = Members> {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Path with `{label}` segments. */
  readonly uri: string;
  /** Status of success. */
  readonly status: number;
  readonly permission: Permission;
  readonly input: I;
  readonly output: O;
  /** What becomes of unset members of the answer; absent: they are null. */
  readonly unset?: "omit";
  /** Names of the modelled errors. */
  readonly errors: readonly string[];
}

// ---- types that follow ---------------------------------------------------------------------------------------

export type Value<S> = S extends StringShape
  ? string
  : S extends EnumShape<infer V>
    ? V
    : S extends IntegerShape
      ? number
      : S extends BooleanShape
        ? boolean
        : S extends TimestampShape
          ? Date
          : S extends ListShape<infer M>
            ? readonly Value<M>[]
            : S extends MapShape<infer V>
              ? Readonly<Record<string, Value<V>>>
              : S extends StructureShape<infer M>
                ? StructureValue<M>
                : S extends UnionShape<infer M>
                  ? Partial<{ readonly [K in keyof M]: MemberValue<M[K]> }>
                  : never;
type MemberValue<M> = M extends Member<infer S> ? Value<S> : never;
type RequiredKeys<M> = { [K in keyof M]: M[K] extends { readonly required: true } ? K : never }[keyof M];
/** Optional members may be absent or null: the service sends null, SDKs leave out. */
export type StructureValue<M> = { readonly [K in RequiredKeys<M>]: MemberValue<M[K]> } & {
  readonly [K in Exclude<keyof M, RequiredKeys<M>>]?: MemberValue<M[K]> | null | undefined;
};
export type Input<O> = O extends Operation<infer I, Members> ? StructureValue<I> : never;
export type Output<O> = O extends Operation<Members, infer R> ? StructureValue<R> : never;

// ---- how to write them ---------------------------------------------------------------------------------------

export const string = (bounds: Omit<StringShape, "type"> = {}): StringShape => ({ type: "string", ...bounds });
export const enumeration = <const V extends string>(values: readonly V[]): EnumShape<V> => ({ type: "enum", values });
export const integer = (bounds: Omit<IntegerShape, "type"> = {}): IntegerShape => ({ type: "integer", ...bounds });
export const boolean = (): BooleanShape => ({ type: "boolean" });
export const timestamp = (): TimestampShape => ({ type: "timestamp" });
export const isoTimestamp = (): TimestampShape => ({ type: "timestamp", format: "iso8601" });
type Bounds = { readonly min?: number; readonly max?: number };
export const list = <M extends Shape>(member: M, bounds: Bounds = {}): ListShape<M> => ({
  type: "list",
  member,
  ...bounds,
});
export const map = <V extends Shape>(key: StringShape, value: V, bounds: Bounds = {}): MapShape<V> => ({
  type: "map",
  key,
  value,
  ...bounds,
});
export const structure = <const M extends Members>(members: M): StructureShape<M> => ({ type: "structure", members });
export const union = <const M extends Members>(members: M): UnionShape<M> => ({ type: "union", members });
export const required = <S extends Shape>(shape: S): Member<S, true> => ({ shape, required: true, location: "body" });
export const optional = <S extends Shape>(shape: S): Member<S, false> => ({ shape, required: false, location: "body" });
export const path = <S extends Shape>(shape: S): Member<S, true> => ({ shape, required: true, location: "path" });
export const query = <S extends Shape>(shape: S): Member<S, false> => ({ shape, required: false, location: "query" });
export const requiredQuery = <S extends Shape>(queryName: string, shape: S): Member<S, true> => ({
  shape,
  required: true,
  location: "query",
  queryName,
});
export const idempotencyToken = <S extends Shape>(shape: S): Member<S, false> => ({
  shape,
  required: false,
  location: "body",
  idempotencyToken: true,
});
export const operation = <const I extends Members, const O extends Members>(o: Operation<I, O>): Operation<I, O> => o;
