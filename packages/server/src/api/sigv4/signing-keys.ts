import { deriveSigningKey } from "./canonical-request.ts";

/** Far more than there are keys in use on one day; what is dropped is derived again. */
const MOST = 256;
const derived = new Map<string, Buffer>();

/**
 * As `deriveSigningKey`, which is half the work of checking a signature, and the same for all requests of a key on one
 * day. Whether the access key is still valid is not asked here. The buffer is shared: nobody writes to it.
 */
export function signingKeyOf(secretAccessKey: string, date: string, region: string, service: string): Buffer {
  const name = [secretAccessKey, date, region, service].join("\n");
  const known = derived.get(name);
  if (known) return known;
  const oldest = derived.size < MOST ? undefined : derived.keys().next().value;
  if (oldest !== undefined) derived.delete(oldest);
  const key = deriveSigningKey(secretAccessKey, date, region, service);
  derived.set(name, key);
  return key;
}
