import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ChunkedOptions, type ChunkVerifier, decodeChunks, type Trailer } from "./chunked.ts";

/** Accepts what `sign` made: the "signature" is the length of the data so far, in 64 digits. */
function countingVerifier(): ChunkVerifier {
  let length = 0;
  const check = (signature: string | undefined): void => {
    if (signature !== sign(length)) throw new Error("wrong signature");
  };
  return {
    update: (data) => {
      length += data.length;
    },
    endChunk: check,
    endTrailer: (trailers, signature) => {
      if (trailers.length > 0) check(signature);
    },
  };
}
const sign = (length: number): string => String(length).padStart(64, "0");

interface Wire {
  readonly chunks: readonly Uint8Array[];
  readonly trailers?: readonly Trailer[];
  readonly signed?: boolean;
}
function encode({ chunks, trailers = [], signed = false }: Wire): Buffer {
  let length = 0;
  const parts = [...chunks, new Uint8Array(0)].map((data, i, all) => {
    length += data.length;
    const extension = signed ? `;chunk-signature=${sign(length)}` : "";
    const end = i < all.length - 1 ? "\r\n" : "";
    return Buffer.concat([Buffer.from(`${data.length.toString(16)}${extension}\r\n`), data, Buffer.from(end)]);
  });
  const lines = trailers.map(([name, value]) => `${name}:${value}\r\n`);
  if (signed && trailers.length > 0) lines.push(`x-amz-trailer-signature:${sign(length)}\r\n`);
  return Buffer.concat([...parts, Buffer.from(`${lines.join("")}\r\n`)]);
}

/** Cuts the bytes where a network might. */
async function* cut(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Buffer> {
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const size = sizes.length === 0 ? bytes.length : sizes[i % sizes.length]!;
    yield bytes.subarray(at, at + size);
    at += size;
  }
}

async function decode(source: AsyncIterable<Buffer>, options: ChunkedOptions): Promise<Buffer> {
  const out: Buffer[] = [];
  for await (const data of decodeChunks(source, options)) out.push(Buffer.from(data));
  return Buffer.concat(out);
}
const decodeText = (wire: string, decodedLength: number, more: Partial<ChunkedOptions> = {}): Promise<Buffer> =>
  decode(cut(Buffer.from(wire), []), { decodedLength, ...more });

/** Signed chunks but the last are large, as S3 wants them. */
const chunkList = fc.record({
  signed: fc.boolean(),
  sizes: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 5 }),
  trailers: fc.array(fc.tuple(fc.constantFrom("x-amz-checksum-crc32", "x-amz-other"), fc.constantFrom("AAAA", "b c"))),
  cuts: fc.array(fc.integer({ min: 1, max: 5000 }), { maxLength: 4 }),
});

describe("aws-chunked", () => {
  test("decodes to what was encoded, however the network cuts it", async () => {
    await fc.assert(
      fc.asyncProperty(chunkList, async ({ signed, sizes, trailers, cuts }) => {
        const chunks = sizes.map((size, i) => Buffer.alloc(signed && i < sizes.length - 1 ? 8192 + size : size, i + 1));
        const expected = Buffer.concat(chunks);
        const wire = encode({ chunks, trailers, signed });
        let seen: readonly Trailer[] = [];
        const options: ChunkedOptions = {
          decodedLength: expected.length,
          onTrailers: (lines) => {
            seen = lines;
          },
          ...(signed ? { verifier: countingVerifier() } : {}),
        };
        expect((await decode(cut(wire, cuts), options)).equals(expected)).toBe(true);
        expect(seen).toEqual(trailers);
      }),
      { numRuns: 100 },
    );
  });

  test("is refused when it ends early, wherever that is", async () => {
    const wire = encode({ chunks: [Buffer.from("hello"), Buffer.from("world")] });
    // The very last CRLF may be missing: everything has been said then.
    for (let end = 0; end < wire.length - 2; end++) {
      await expect(decode(cut(wire.subarray(0, end), [3]), { decodedLength: 10 })).rejects.toThrow();
    }
    expect((await decode(cut(wire, [1]), { decodedLength: 10 })).toString()).toBe("helloworld");
  });

  test("is never taken for something else when a byte is changed", async () => {
    const chunks = [Buffer.alloc(8192, "a"), Buffer.from("end")];
    const wire = encode({ chunks, signed: true });
    const expected = Buffer.concat(chunks);
    const headers = [...Array(87).keys(), ...Array.from({ length: wire.length - 8281 }, (_, i) => 8281 + i)];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...headers), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const changed = Buffer.from(wire);
        changed[at]! ^= flip;
        const options = { decodedLength: expected.length, verifier: countingVerifier() };
        const out = await decode(cut(changed, []), options).catch(() => undefined);
        // Data is the verifier's to check, and this one counts only.
        if (out) expect(out.length).toBe(expected.length);
      }),
    );
  });

  test.each([
    ["no chunk at all", "", 0],
    ["another length than announced", "5\r\nhello\r\n0\r\n\r\n", 6],
    ["more than announced", "5\r\nhello\r\n0\r\n\r\n", 4],
    ["a size that is no number", "xyz\r\nhello\r\n0\r\n\r\n", 5],
    ["a negative size", "-5\r\nhello\r\n0\r\n\r\n", 5],
    ["an endless size", `${"f".repeat(5000)}\r\n`, 5],
    ["a size beyond all numbers", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", 5],
    ["an unknown extension", "5;x=y\r\nhello\r\n0\r\n\r\n", 5],
    ["data longer than its chunk", "5\r\nhello!\r\n0\r\n\r\n", 5],
    ["a trailer that is no header", "0\r\nnonsense\r\n\r\n", 0],
    ["too many trailers", `0\r\n${"a:b\r\n".repeat(17)}\r\n`, 0],
    ["something after the end", "0\r\n\r\nGET / HTTP/1.1\r\n", 0],
  ])("is refused with %s", async (_, wire, decodedLength) => {
    await expect(decodeText(wire, decodedLength)).rejects.toMatchObject({ name: "S3Error" });
  });

  test("is refused without signatures where they are due, and with small signed chunks in between", async () => {
    const verifier = countingVerifier();
    await expect(decodeText("5\r\nhello\r\n0\r\n\r\n", 5, { verifier })).rejects.toThrow("well-formed");
    const small = encode({ chunks: [Buffer.from("a"), Buffer.from("b")], signed: true });
    await expect(decode(cut(small, []), { decodedLength: 2, verifier: countingVerifier() })).rejects.toMatchObject({
      code: "InvalidChunkSizeError",
    });
  });

  test("may end its last trailer with LF alone, as some clients do", async () => {
    const trailers: Trailer[] = [];
    const onTrailers = (lines: readonly Trailer[]): void => void trailers.push(...lines);
    await decodeText("0\r\nX-Amz-Checksum-Crc32: AAAA\n\r\n\r\n", 0, { onTrailers });
    expect(trailers).toEqual([["x-amz-checksum-crc32", "AAAA"]]);
  });
});
