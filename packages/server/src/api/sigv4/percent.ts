/**
 * Percent-encoding as SigV4 wants it. Texts here are as Node hands them out of a request line: one character per byte
 * (latin1), so that what is hashed are the bytes of the wire.
 */

/** Every byte but letters, digits and `-._~` becomes `%XX`; `/` too. */
export function encodeBytes(text: string): string {
  return text.replace(/[^A-Za-z0-9\-._~]/g, encodeByte);
}

/** As `encodeBytes`, but `/` stays. */
export function encodePathBytes(text: string): string {
  return text.replace(/[^A-Za-z0-9\-._~/]/g, encodeByte);
}

/** `%XX` becomes its byte, once; a `%` that begins no escape stays. */
export function decodeBytes(text: string): string {
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

const encodeByte = (byte: string): string => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
