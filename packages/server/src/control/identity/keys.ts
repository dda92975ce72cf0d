import { randomBytes, randomInt } from "node:crypto";
import type { Clock } from "../../lib/clock.ts";
import { messageOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { pause } from "../../lib/pause.ts";
import type { StoredAccessKey, StoredAccessKeys } from "../../store/access-keys.ts";
import type { AccessKey, AccessKeys } from "../request-context.ts";
import { type Access, parsePolicy } from "./policy.ts";
import type { Sealer } from "./sealer.ts";

const KEY_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/** How old the time of a key's last use in the database may be. */
const RECORD_USES_EVERY_MS = 60_000;

const OPENED_KEPT = 1000;

export const ROOT = "root";

interface Opened {
  readonly sealed: string;
  readonly policy: string | null;
  readonly secretAccessKey: string;
  readonly access: Access;
}

export interface KeysDeps {
  readonly rows: StoredAccessKeys;
  readonly sealer: Sealer;
  readonly clock: Clock;
  readonly log: Log;
}

/** The keys that sign requests. */
export class Keys implements AccessKeys {
  readonly #deps: KeysDeps;
  /** Uses that the database does not know of yet. */
  #uses = new Map<string, number>();
  /** Keys that are known to be damaged: said once, not with each request. */
  readonly #damaged = new Set<string>();
  /** What was last made of a row, by key: requests come far more often than rows change. */
  readonly #opened = new Map<string, Opened>();
  /** Account, and who wants to have its root key. */
  #published: { readonly accountId: string; readonly write: (key: AccessKey) => Promise<unknown> } | undefined;

  constructor(deps: KeysDeps) {
    this.#deps = deps;
  }

  /** Before use: secrets that an earlier version kept as they are get sealed. */
  async open(): Promise<void> {
    const { rows, sealer, log } = this.#deps;
    const sealed = await rows.sealAll((accessKeyId, secret) => sealer.seal(accessKeyId, secret));
    if (sealed > 0) log.info({ keys: sealed }, "secrets of access keys sealed");
  }

  async find(accessKeyId: string): Promise<AccessKey | undefined> {
    const row = await this.#deps.rows.findUsable(accessKeyId);
    return row && this.#usable(row);
  }

  used(accessKeyId: string): void {
    this.#uses.set(accessKeyId, this.#deps.clock.now());
  }

  lastUse(row: StoredAccessKey): Date | null {
    const at = this.#uses.get(row.accessKeyId);
    return at === undefined ? row.lastUsedAt : new Date(at);
  }

  /** The account's newest root key that can be used; made when there is none. */
  async rootKey(accountId: string): Promise<AccessKey> {
    const roots = (await this.#deps.rows.ofAccount(accountId)).filter((row) => row.name === ROOT && row.enabled);
    const known = roots.map((row) => this.#usable(row)).findLast((key) => key && !this.hasExpired(key));
    return known ?? (await this.make({ accountId, name: ROOT, policy: null, expiresAt: null })).key;
  }

  /** Hands out the account's root key now, and again whenever another one has taken its place. */
  async publishRootKey(accountId: string, write: (key: AccessKey) => Promise<unknown>): Promise<void> {
    this.#published = { accountId, write };
    await write(await this.rootKey(accountId));
  }

  /** To be called when an account's root keys are not what they were. */
  async rootChanged(accountId: string): Promise<void> {
    if (this.#published?.accountId === accountId) await this.#published.write(await this.rootKey(accountId));
  }

  /**
   * A new key, younger than the one whose successor it is, whatever the clock says. Its secret is in what is returned,
   * and nowhere else but sealed.
   */
  async make(
    wish: Pick<StoredAccessKey, "accountId" | "name" | "policy" | "expiresAt">,
    predecessor?: Pick<StoredAccessKey, "createdAt">,
  ): Promise<{ readonly key: AccessKey; readonly row: StoredAccessKey }> {
    const accessKeyId = newAccessKeyId();
    const secretAccessKey = randomBytes(30).toString("base64");
    const row: StoredAccessKey = {
      ...wish,
      accessKeyId,
      secret: this.#deps.sealer.seal(accessKeyId, secretAccessKey),
      principalArn: principalArn(wish.accountId, wish.name),
      enabled: true,
      lastUsedAt: null,
      createdAt: new Date(Math.max(this.#deps.clock.now(), (predecessor?.createdAt.getTime() ?? 0) + 1)),
    };
    const key = this.#usable(row);
    if (!key) throw new Error("a new key cannot be used");
    await this.#deps.rows.insert(row);
    return { key, row };
  }

  hasExpired({ expiresAt }: Pick<StoredAccessKey, "expiresAt">): boolean {
    return expiresAt !== null && expiresAt.getTime() <= this.#deps.clock.now();
  }

  /** Writes down uses now and then, until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    for (;;) {
      try {
        await pause(clock, RECORD_USES_EVERY_MS, signal);
      } catch {
        return;
      }
      await this.recordUses().catch((err: unknown) => log.warn({ err }, "uses of access keys not recorded"));
    }
  }

  /** What cannot be written now is kept for the next time. */
  async recordUses(): Promise<void> {
    const uses = this.#uses;
    if (uses.size === 0) return;
    this.#uses = new Map();
    try {
      await this.#deps.rows.recordUses(uses);
    } catch (err) {
      this.#uses = new Map([...uses, ...this.#uses]);
      throw err;
    }
  }

  /** A key whose secret or policy cannot be read is none: it must not allow more than was meant. */
  #usable(row: StoredAccessKey): AccessKey | undefined {
    const { sealer, log } = this.#deps;
    const { accessKeyId, accountId, name, expiresAt } = row;
    const unusable = (why: string): undefined => {
      if (this.#damaged.has(accessKeyId)) return;
      this.#damaged.add(accessKeyId);
      log.error({ accessKeyId, accountId, why }, "an access key cannot be used: rotate it");
    };
    let opened = this.#opened.get(accessKeyId);
    if (opened?.sealed !== row.secret.text || opened.policy !== row.policy) {
      const secretAccessKey = sealer.open(accessKeyId, row.secret);
      if (secretAccessKey === undefined) return unusable("its secret was sealed with a key that is not in keys/");
      try {
        const access = row.policy === null ? "full" : parsePolicy(JSON.parse(row.policy));
        opened = { sealed: row.secret.text, policy: row.policy, secretAccessKey, access };
      } catch (err) {
        return unusable(messageOf(err));
      }
      if (this.#opened.size >= OPENED_KEPT) this.#opened.clear();
      this.#opened.set(accessKeyId, opened);
    }
    const { secretAccessKey, access } = opened;
    return { accessKeyId, secretAccessKey, accountId, principalArn: row.principalArn, name, access, expiresAt };
  }
}

export function principalArn(accountId: string, name: string): string {
  return `arn:aws:iam::${accountId}:${name === ROOT ? ROOT : `user/${name}`}`;
}

/** Twenty characters, in the shape that AWS tools expect of a long-term key. */
function newAccessKeyId(): string {
  const random = Array.from({ length: 16 }, () => KEY_ID_ALPHABET[randomInt(KEY_ID_ALPHABET.length)]);
  return `AKIA${random.join("")}`;
}
