import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import type { Clock } from "../../lib/clock.ts";
import type { StoredSecret } from "../../store/access-keys.ts";
import { loadKeyRing, type RingPurpose, type TokenKey } from "../token/key-ring.ts";

const CIPHER = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const PURPOSE: RingPurpose = {
  keys: "keys that seal the secrets of access keys",
  lost: "no access key can be used then, a new root key is made, and the others have to be rotated",
};

/**
 * Encrypts the secrets of access keys for the database: checking a signature needs the secret, so it cannot be hashed.
 * A copy of the database is worth nothing without the key file beside it.
 */
export class Sealer {
  readonly #ring: readonly TokenKey[];

  /** The newest key of the ring seals, last. */
  constructor(ring: readonly TokenKey[]) {
    this.#ring = ring;
  }

  /** @throws TorporError when the key file cannot be used */
  static async open(keyFile: string, clock: Clock): Promise<Sealer> {
    return new Sealer(await loadKeyRing(keyFile, clock, PURPOSE));
  }

  /** `subject` is sealed with it: the text opens for no other. */
  seal(subject: string, secret: string): StoredSecret {
    const key = this.#ring.at(-1);
    if (!key) throw new Error("a key ring is never empty");
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, key.secret, nonce).setAAD(Buffer.from(subject));
    const sealed = Buffer.concat([nonce, cipher.update(secret, "utf8"), cipher.final(), cipher.getAuthTag()]);
    return { text: sealed.toString("base64url"), sealedWith: key.id };
  }

  /** Undefined when its key is not in the ring, or it is not what was sealed. */
  open(subject: string, { text, sealedWith }: StoredSecret): string | undefined {
    if (sealedWith === null) return text;
    const key = this.#ring.find(({ id }) => id === sealedWith);
    const sealed = Buffer.from(text, "base64url");
    if (!key || sealed.length < NONCE_BYTES + TAG_BYTES) return undefined;
    const decipher = createDecipheriv(CIPHER, key.secret, sealed.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
      .setAAD(Buffer.from(subject))
      .setAuthTag(sealed.subarray(-TAG_BYTES));
    try {
      return decipher.update(sealed.subarray(NONCE_BYTES, -TAG_BYTES), undefined, "utf8") + decipher.final("utf8");
    } catch {
      return undefined;
    }
  }
}
