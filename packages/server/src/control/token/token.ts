/** What an endpoint token says. Only TokenService reads and writes the encrypted form. */
export interface TokenClaims {
  readonly microvmId: string;
  readonly kind: "http" | "shell";
  /** Ports that it opens; empty for a shell token. Inclusive ranges. */
  readonly ports: readonly { readonly from: number; readonly to: number }[];
  readonly expiresAt: Date;
}
export interface TokenService {
  mint(claims: TokenClaims): Promise<string>;
  /**
   * `garbled`: not a token at all. `invalid`: shaped like one, but not ours, tampered with, or expired. No oracle: the
   * caller answers both `invalid` and a foreign microvm in the same way.
   */
  verify(token: string): Promise<TokenClaims | "garbled" | "invalid">;
}
