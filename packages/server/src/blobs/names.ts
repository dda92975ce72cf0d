const BUCKET = /^[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]$/;
const IPV4 = /^\d{1,3}(\.\d{1,3}){3}$/;

export const MAX_KEY_BYTES = 1024;

/** 3 to 63 of a-z, 0-9, `-` and single dots, not an IPv4 address: so it is also a safe file name and host label. */
export function isBucketName(name: string): boolean {
  return BUCKET.test(name) && !IPV4.test(name);
}

/** 1 to 1024 bytes of UTF-8 without NUL. `..`, `/` and control characters are allowed: keys are never paths. */
export function isObjectKey(key: string): boolean {
  return key !== "" && !key.includes("\0") && key.isWellFormed() && Buffer.byteLength(key) <= MAX_KEY_BYTES;
}
