/**
 * Reflected CRCs that Node has no native code for, eight bytes at a step. The 64-bit register is kept as two 32-bit
 * halves, since bigint arithmetic would be a hundred times slower; a 32-bit CRC leaves the upper half at zero.
 */
interface Crc {
  update(data: Uint8Array): void;
  /** Big-endian, as it is sent. */
  digest(): Buffer;
}

interface Tables {
  /** Eight tables of 256 entries: entry 256 * k + b is byte b followed by k zero bytes. */
  readonly low: Int32Array;
  readonly high: Int32Array;
}

const ALL_ONES = 0xffff_ffffn;

function makeTables(reflectedPolynomial: bigint): Tables {
  const low = new Int32Array(8 * 256);
  const high = new Int32Array(8 * 256);
  const set = (at: number, value: bigint): void => {
    low[at] = Number(value & ALL_ONES);
    high[at] = Number(value >> 32n);
  };
  for (let byte = 0; byte < 256; byte++) {
    let value = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) value = value & 1n ? (value >> 1n) ^ reflectedPolynomial : value >> 1n;
    let shifted = value;
    set(byte, shifted);
    for (let k = 1; k < 8; k++) {
      for (let bit = 0; bit < 8; bit++) shifted = shifted & 1n ? (shifted >> 1n) ^ reflectedPolynomial : shifted >> 1n;
      set(256 * k + byte, shifted);
    }
  }
  return { low, high };
}

function createCrc(tables: Tables, width: 32 | 64): Crc {
  const { low: L, high: H } = tables;
  let low = -1;
  let high = width === 64 ? -1 : 0;
  return {
    update(data) {
      const stepped = data.length & ~7;
      let at = 0;
      for (; at < stepped; at += 8) {
        low ^= data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24);
        high ^= data[at + 4]! | (data[at + 5]! << 8) | (data[at + 6]! << 16) | (data[at + 7]! << 24);
        const a = 1792 + (low & 255);
        const b = 1536 + ((low >>> 8) & 255);
        const c = 1280 + ((low >>> 16) & 255);
        const d = 1024 + (low >>> 24);
        const e = 768 + (high & 255);
        const f = 512 + ((high >>> 8) & 255);
        const g = 256 + ((high >>> 16) & 255);
        const h = high >>> 24;
        low = L[a]! ^ L[b]! ^ L[c]! ^ L[d]! ^ L[e]! ^ L[f]! ^ L[g]! ^ L[h]!;
        high = H[a]! ^ H[b]! ^ H[c]! ^ H[d]! ^ H[e]! ^ H[f]! ^ H[g]! ^ H[h]!;
      }
      for (; at < data.length; at++) {
        const index = (low ^ data[at]!) & 255;
        low = ((low >>> 8) | (high << 24)) ^ L[index]!;
        high = (high >>> 8) ^ H[index]!;
      }
    },
    digest() {
      const out = Buffer.alloc(8);
      out.writeInt32BE(~high, 0);
      out.writeInt32BE(~low, 4);
      return out.subarray(width === 64 ? 0 : 4);
    },
  };
}

let crc32cTables: Tables | undefined;
let crc64Tables: Tables | undefined;

/** CRC-32C (Castagnoli). */
export function createCrc32c(): Crc {
  crc32cTables ??= makeTables(0x82f6_3b78n);
  return createCrc(crc32cTables, 32);
}

/** CRC-64/NVME. */
export function createCrc64Nvme(): Crc {
  crc64Tables ??= makeTables(0x9a6c_9329_ac4b_c9b5n);
  return createCrc(crc64Tables, 64);
}
