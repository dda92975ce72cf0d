import { parseJsonObject } from "./json-object.ts";
import type { TokenClaims } from "./token.ts";

/** Claims as they stand inside a token: short names, since every request carries them. */
interface CompactClaims {
  readonly vm: string;
  readonly k: "h" | "s";
  /** Ranges, both ends included. */
  readonly p: readonly (readonly [from: number, to: number])[];
  /** Milliseconds since the epoch. */
  readonly exp: number;
}

export function encodeClaims(claims: TokenClaims): Uint8Array {
  const compact: CompactClaims = {
    vm: claims.microvmId,
    k: claims.kind === "shell" ? "s" : "h",
    p: claims.ports.map(({ from, to }) => [from, to]),
    exp: claims.expiresAt.getTime(),
  };
  return Buffer.from(JSON.stringify(compact));
}

/** What the plaintext says; undefined for anything that `encodeClaims` cannot have written. */
export function decodeClaims(plaintext: Uint8Array): TokenClaims | undefined {
  const compact = parseJsonObject(Buffer.from(plaintext).toString("utf8"));
  if (compact === undefined) return undefined;
  const { vm, k, p, exp } = compact;
  if (typeof vm !== "string" || vm === "" || (k !== "h" && k !== "s")) return undefined;
  if (typeof exp !== "number" || !isTime(exp)) return undefined;
  if (!Array.isArray(p) || !p.every(isRange)) return undefined;
  return {
    microvmId: vm,
    kind: k === "s" ? "shell" : "http",
    ports: p.map(([from, to]) => ({ from, to })),
    expiresAt: new Date(exp),
  };
}

/** Whether the claims can be written into a token and read back. */
export function areSound(claims: TokenClaims): boolean {
  return (
    claims.microvmId !== "" &&
    isTime(claims.expiresAt.getTime()) &&
    claims.ports.every(({ from, to }) => isRange([from, to])) &&
    (claims.kind === "http" || claims.ports.length === 0)
  );
}

const isPort = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= 65535;
const isRange = (value: unknown): value is readonly [number, number] =>
  Array.isArray(value) && value.length === 2 && isPort(value[0]) && isPort(value[1]) && value[0] <= value[1];
const isTime = (value: number): boolean => Number.isSafeInteger(value) && !Number.isNaN(new Date(value).getTime());
