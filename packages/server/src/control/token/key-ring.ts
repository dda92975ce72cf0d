import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { writeFileAtomic } from "../../lib/atomic-file.ts";
import type { Clock } from "../../lib/clock.ts";
import { errnoOf, messageOf, TorporError } from "../../lib/errors.ts";
import { isObject, parseJsonObject } from "./json-object.ts";

/** A 256-bit key. The newest of the ring encrypts; the older ones still open what they have locked. */
export interface TokenKey {
  readonly id: string;
  readonly secret: Uint8Array;
  readonly createdAt: Date;
}

const KEY_BYTES = 32;
const KEY_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What a ring's keys are for, and what is lost with them: for whoever has to decide about a damaged file. */
export interface RingPurpose {
  /** `token keys` */
  readonly keys: string;
  /** `all endpoint tokens then end, and new ones can be made` */
  readonly lost: string;
}

const TOKENS: RingPurpose = { keys: "token keys", lost: "all endpoint tokens then end, and new ones can be made" };

/**
 * The keys in a file, oldest first; a first key is made where there is no file yet. A file that cannot be used is never
 * replaced: that would end all that its keys have locked without a word.
 * @throws TorporError naming the file and what to do
 */
export async function loadKeyRing(file: string, clock: Clock, purpose = TOKENS): Promise<readonly TokenKey[]> {
  const unusable = (what: string, remedy?: string, cause?: unknown): TorporError => {
    const todo = remedy ?? `restore it from a backup, or remove it: ${purpose.lost}`;
    return new TorporError("unavailable", `cannot use the ${purpose.keys} in ${file}: ${what}; ${todo}`, { cause });
  };
  const text = await readPrivate(file, unusable);
  if (text !== undefined) return parseRing(text, unusable);
  const ring = [newTokenKey(clock)];
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  await saveKeyRing(file, ring);
  return ring;
}

export async function saveKeyRing(file: string, ring: readonly TokenKey[]): Promise<void> {
  const keys = ring.map((key) => ({
    id: key.id,
    createdAt: key.createdAt.toISOString(),
    secret: Buffer.from(key.secret).toString("base64url"),
  }));
  await writeFileAtomic(file, `${JSON.stringify({ version: 1, keys }, null, 2)}\n`, 0o600);
}

export function newTokenKey(clock: Clock): TokenKey {
  return { id: randomUUID(), secret: randomBytes(KEY_BYTES), createdAt: new Date(clock.now()) };
}

type Unusable = (what: string, remedy?: string, cause?: unknown) => TorporError;

/** The file's text; undefined when it does not exist. Mode and content are those of the same open file. */
async function readPrivate(file: string, unusable: Unusable): Promise<string | undefined> {
  let handle: Awaited<ReturnType<typeof open>>;
  try {
    handle = await open(file, "r");
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return undefined;
    throw unusable(messageOf(err), "make it readable for the user that Torpor runs as", err);
  }
  try {
    const { mode } = await handle.stat();
    if ((mode & 0o077) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(4, "0");
      throw unusable(`others may read it (mode ${shown})`, "if nobody has read it, run chmod 600 on it");
    }
    return await handle.readFile("utf8");
  } finally {
    await handle.close();
  }
}

function parseRing(text: string, unusable: Unusable): readonly TokenKey[] {
  const parsed = parseJsonObject(text);
  if (parsed === undefined || parsed.version !== 1 || !Array.isArray(parsed.keys) || parsed.keys.length === 0)
    throw unusable("it is not a JSON list of keys of version 1");
  const ring = parsed.keys.map((key: unknown) => parseKey(key));
  if (!ring.every((key) => key !== undefined)) throw unusable("one of its keys is damaged");
  if (new Set(ring.map((key) => key.id)).size !== ring.length) throw unusable("a key id occurs twice");
  return ring;
}

function parseKey(value: unknown): TokenKey | undefined {
  if (!isObject(value)) return undefined;
  const { id, createdAt, secret } = value;
  if (typeof id !== "string" || !KEY_ID.test(id)) return undefined;
  if (typeof createdAt !== "string" || Number.isNaN(Date.parse(createdAt))) return undefined;
  if (typeof secret !== "string") return undefined;
  const bytes = Buffer.from(secret, "base64url");
  if (bytes.length !== KEY_BYTES || bytes.toString("base64url") !== secret) return undefined;
  return { id, secret: bytes, createdAt: new Date(createdAt) };
}
