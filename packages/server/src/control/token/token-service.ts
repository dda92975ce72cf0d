import { CompactEncrypt, compactDecrypt } from "jose";
import type { Clock } from "../../lib/clock.ts";
import { invalidInput } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { areSound, decodeClaims, encodeClaims } from "./claims.ts";
import { parseJsonObject } from "./json-object.ts";
import { loadKeyRing, newTokenKey, saveKeyRing, type TokenKey } from "./key-ring.ts";
import { KnownTokens } from "./known-tokens.ts";
import type { TokenClaims, TokenService } from "./token.ts";

/** Longest token that is made or looked at, in characters: far below any limit on header lines. */
export const MAX_TOKEN_LENGTH = 8192;
/** Retired keys stay for as long as a token of theirs may live: the longest lifetime, and some for clocks that differ. */
const RETIRED_KEY_LIFE_MS = 2 * 60 * 60 * 1000;

/** A key encrypts for so long: what somebody who has got hold of one can do with it has an end. */
const KEY_LIFE_MS = 24 * 60 * 60 * 1000;
const LOOK_EVERY_MS = 60 * 60 * 1000;
/** Tokens whose claims are remembered; some 300 bytes each. */
const KNOWN_TOKENS = 8192;

const ALG = "dir";
const ENC = "A256GCM";
// header . no encrypted key . 96-bit IV . ciphertext . 128-bit tag
const SHAPE = /^([A-Za-z0-9_-]{1,512})\.\.([A-Za-z0-9_-]{16})\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{22})$/;
const KEY_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Disposing of it ends the rotation by age. */
export interface RotatingTokenService extends TokenService, Disposable {
  /** New tokens get a new key from now on; those that are out stay valid. */
  rotate(): Promise<void>;
}

/**
 * Endpoint tokens: JWE compact, direct encryption with A256GCM and nothing else, the key named by `kid`. The keys live
 * in `keyFile` (mode 0600), which is made at the first start. A key that has become old makes way for a new one.
 * @throws TorporError when the key file cannot be used
 */
export async function openTokenService(keyFile: string, clock: Clock, log: Log): Promise<RotatingTokenService> {
  let ring = await loadKeyRing(keyFile, clock);
  const known = new KnownTokens(KNOWN_TOKENS);

  async function mint(claims: TokenClaims): Promise<string> {
    if (!areSound(claims)) throw invalidInput("token claims need a microvm, ports from 1 to 65535 and a valid expiry");
    const key = newest(ring);
    const token = await new CompactEncrypt(encodeClaims(claims))
      .setProtectedHeader({ kid: key.id, alg: ALG, enc: ENC })
      .encrypt(key.secret);
    if (token.length > MAX_TOKEN_LENGTH)
      throw invalidInput(`a token for ${claims.ports.length} port ranges is too long; use fewer, wider ranges`);
    return token;
  }

  const isOver = (claims: TokenClaims): boolean => claims.expiresAt.getTime() <= clock.now();

  async function verify(token: string): Promise<TokenClaims | "garbled" | "invalid"> {
    if (token.length > MAX_TOKEN_LENGTH) return "garbled";
    const before = known.get(token);
    if (before !== undefined) {
      if (!isOver(before)) return before;
      known.forget(token);
      return "invalid";
    }
    const keyId = keyIdOf(token);
    if (keyId === undefined) return "garbled";
    const key = ring.find((candidate) => candidate.id === keyId);
    // One text for one token: spare bits of the last characters could otherwise be flipped unnoticed.
    if (key === undefined || !isCanonical(token)) return "invalid";
    const claims = await decrypt(token, key);
    if (claims === undefined || isOver(claims)) return "invalid";
    if (ring.includes(key)) known.add(token, claims); // not when the key has gone meanwhile
    return claims;
  }

  async function rotate(): Promise<void> {
    const kept = ring.filter((_, i) => {
      const retiredAt = ring[i + 1]?.createdAt.getTime() ?? clock.now();
      return clock.now() - retiredAt < RETIRED_KEY_LIFE_MS;
    });
    const next = [...kept, newTokenKey(clock)];
    await saveKeyRing(keyFile, next);
    ring = next;
    known.clear(); // of keys that have gone
    log.info({ keys: next.length, keyId: newest(next).id }, "token key rotated");
  }

  /** Also when a clock that was wrong says that the newest is of a far future: it would never become old. */
  const isDue = (): boolean => Math.abs(clock.now() - newest(ring).createdAt.getTime()) >= KEY_LIFE_MS;
  const rotateIfDue = async (): Promise<void> => {
    try {
      if (isDue()) await rotate();
    } catch (err) {
      log.error({ err, keyFile }, "token key not rotated, the old one stays in use");
    }
  };
  let cancel = (): void => {};
  let disposed = false;
  const schedule = (): void => {
    cancel = clock.after(LOOK_EVERY_MS, () => {
      void rotateIfDue().finally(() => {
        if (!disposed) schedule();
      });
    });
  };
  await rotateIfDue();
  schedule();
  return {
    mint,
    verify,
    rotate,
    [Symbol.dispose]: () => {
      disposed = true;
      cancel();
    },
  };
}

/** The key that the token names; undefined when its outside is not that of one of our tokens. */
function keyIdOf(token: string): string | undefined {
  const encoded = SHAPE.exec(token)?.[1];
  if (encoded === undefined) return undefined;
  const header = parseJsonObject(Buffer.from(encoded, "base64url").toString("utf8"));
  if (header === undefined) return undefined;
  // Exactly these three members: no zip, no crit, no key derivation parameters reach the library.
  const { kid, alg, enc, ...others } = header;
  if (alg !== ALG || enc !== ENC || Object.keys(others).length > 0) return undefined;
  return typeof kid === "string" && KEY_ID.test(kid) ? kid : undefined;
}

function isCanonical(token: string): boolean {
  return token.split(".").every((part) => Buffer.from(part, "base64url").toString("base64url") === part);
}

async function decrypt(token: string, key: TokenKey): Promise<TokenClaims | undefined> {
  try {
    const { plaintext } = await compactDecrypt(token, key.secret, {
      keyManagementAlgorithms: [ALG],
      contentEncryptionAlgorithms: [ENC],
    });
    return decodeClaims(plaintext);
  } catch {
    return undefined; // tampered with; which part does not matter to anyone
  }
}

function newest(ring: readonly TokenKey[]): TokenKey {
  const key = ring.at(-1);
  if (key === undefined) throw new Error("the token key ring is empty");
  return key;
}
