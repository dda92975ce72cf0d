import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CHECKSUM_ALGORITHMS, type ChecksumAlgorithm, createChecksum, DIGEST_BYTES } from "./checksum.ts";

/** The check values of the CRC catalogue and of FIPS 180: the digest of "123456789". */
const CHECK: Record<ChecksumAlgorithm, string> = {
  CRC32: "cbf43926",
  CRC32C: "e3069283",
  CRC64NVME: "ae8b14860a799888",
  SHA1: "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
  SHA256: "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
  SHA512:
    "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
  MD5: "25f9e794323b453885f5181f1b624d0b",
};

function digest(algorithm: ChecksumAlgorithm, ...pieces: Uint8Array[]): Buffer {
  const checksum = createChecksum(algorithm);
  for (const piece of pieces) checksum.update(piece);
  return checksum.digest();
}

describe.each(CHECKSUM_ALGORITHMS)("%s", (algorithm) => {
  test("has its published check value", () => {
    expect(digest(algorithm, Buffer.from("123456789")).toString("hex")).toBe(CHECK[algorithm]);
    expect(digest(algorithm)).toHaveLength(DIGEST_BYTES[algorithm]);
  });

  test("does not depend on how the data is cut", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (data, cut) => {
        const whole = digest(algorithm, data);
        expect(digest(algorithm, data.subarray(0, cut), data.subarray(cut))).toEqual(whole);
        expect(digest(algorithm, ...[...data].map((byte) => Uint8Array.of(byte)))).toEqual(whole);
      }),
    );
  });
});
