import { hash } from "node:crypto";
import type { TokenClaims } from "./token.ts";

/**
 * What tokens said that were found to be good, so that the same one, request after request, is not decrypted again. Known
 * by digest: a look into this memory gives nobody a token. Only good ones are here, so whoever guesses pushes none out.
 */
export class KnownTokens {
  readonly #most: number;
  /** Oldest first. */
  readonly #claims = new Map<string, TokenClaims>();

  /** @param most tokens that are remembered */
  constructor(most: number) {
    this.#most = most;
  }

  get(token: string): TokenClaims | undefined {
    return this.#claims.get(digestOf(token));
  }

  add(token: string, claims: TokenClaims): void {
    const [oldest] = this.#claims.keys();
    if (this.#claims.size >= this.#most && oldest !== undefined) this.#claims.delete(oldest);
    this.#claims.set(digestOf(token), claims);
  }

  forget(token: string): void {
    this.#claims.delete(digestOf(token));
  }

  clear(): void {
    this.#claims.clear();
  }
}

/** As text of one byte a character, which is what a Map compares fastest. */
const digestOf = (token: string): string => hash("sha256", token, "binary");
