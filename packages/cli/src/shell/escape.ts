/** What a user's keys mean, besides what they type. */
export type Typed =
  | { readonly kind: "type"; readonly bytes: Uint8Array }
  | { readonly kind: "disconnect" }
  | { readonly kind: "help" };

const TILDE = 0x7e;
const DOT = 0x2e;
const QUESTION_MARK = 0x3f;
const isLineEnd = (byte: number | undefined): boolean => byte === 0x0d || byte === 0x0a;

/** Finds ssh's escapes in what is typed: at the beginning of a line `~.`, `~?`, and `~~` for a `~`. */
export class Escapes {
  #atLineStart = true;
  #tilde = false;

  /** In order. What comes behind a `disconnect` is for nobody. */
  *read(keys: Uint8Array): Generator<Typed, void> {
    let bytes: number[] = [];
    const typed = function* (): Generator<Typed, void> {
      if (bytes.length > 0) yield { kind: "type", bytes: Uint8Array.from(bytes) };
      bytes = [];
    };
    for (const key of keys) {
      if (this.#tilde) {
        this.#tilde = false;
        if (key === DOT || key === QUESTION_MARK) {
          yield* typed();
          yield { kind: key === DOT ? "disconnect" : "help" };
          this.#atLineStart = true;
          continue;
        }
        bytes.push(TILDE);
        this.#atLineStart = false;
        if (key === TILDE) continue;
      }
      if (key === TILDE && this.#atLineStart) this.#tilde = true;
      else {
        bytes.push(key);
        this.#atLineStart = isLineEnd(key);
      }
    }
    yield* typed();
  }
}
