import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeFrame, encodeIdentity, type Frame, FrameDecoder, MAX_FRAME } from "./frames.ts";

function drain(decoder: FrameDecoder, chunk: Buffer): Frame[] {
  decoder.add(chunk);
  const frames = [];
  for (let f = decoder.next(); f; f = decoder.next()) frames.push(f);
  return frames;
}

const frame = fc.record({ type: fc.integer({ min: 0, max: 255 }), payload: fc.uint8Array({ maxLength: 2000 }) });

test("frames survive any way of cutting the stream", () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 8 }), fc.array(fc.nat(500), { maxLength: 40 }), (frames, cuts) => {
      const stream = Buffer.concat(frames.map((f) => encodeFrame(f.type, f.payload)));
      const decoder = new FrameDecoder();
      const got = [];
      let at = 0;
      for (const cut of cuts) {
        got.push(...drain(decoder, stream.subarray(at, at + cut)));
        at = Math.min(stream.length, at + cut);
      }
      got.push(...drain(decoder, stream.subarray(at)));
      expect(got.map((f) => ({ type: f.type, payload: [...f.payload] }))).toEqual(
        frames.map((f) => ({ type: f.type, payload: [...f.payload] })),
      );
      expect(decoder.rest().length).toBe(0);
    }),
  );
});

test("a length that the protocol forbids is refused before anything is allocated", () => {
  for (const length of [0, MAX_FRAME + 1, 0xffffffff]) {
    const header = Buffer.alloc(4);
    header.writeUInt32BE(length);
    expect(() => drain(new FrameDecoder(), header)).toThrow(RangeError);
  }
});

test("arbitrary bytes yield frames or a RangeError, never anything else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        for (const f of drain(new FrameDecoder(), Buffer.from(bytes))) expect(f.payload.length).toBeLessThan(300);
      } catch (err) {
        expect(err).toBeInstanceOf(RangeError);
      }
    }),
  );
});

test("an identity has the layout that the agent reads", () => {
  const bytes = encodeIdentity({
    unixMs: 1_789_483_142_026,
    entropy: new Uint8Array(32).fill(1),
    machineId: new Uint8Array(16).fill(2),
    microvmId: "microvm-x",
  });
  expect(bytes.readBigUInt64BE(0)).toBe(1_789_483_142_026_000_000n);
  expect(bytes.subarray(8, 40)).toEqual(Buffer.alloc(32, 1));
  expect(bytes.subarray(40, 56)).toEqual(Buffer.alloc(16, 2));
  expect(bytes[56]).toBe(9);
  expect(bytes.subarray(57).toString()).toBe("microvm-x");
});
