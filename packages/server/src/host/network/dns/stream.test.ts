import fc from "fast-check";
import { expect, test } from "vitest";
import { framed, MessageReader } from "./stream.ts";

test("messages come out as they were put in, however the stream is cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 50 })),
      fc.array(fc.integer({ min: 1, max: 30 })),
      (messages, cuts) => {
        let rest = Buffer.concat(messages.map(framed));
        const reader = new MessageReader(50);
        const read: Buffer[] = [];
        for (const cut of [...cuts, 1e9]) {
          read.push(...reader.push(rest.subarray(0, cut))!);
          rest = rest.subarray(cut);
        }
        expect(read.map((each) => [...each])).toEqual(messages.map((each) => [...each]));
      },
    ),
  );
});

test("who says that a longer one comes than may is not listened to", () => {
  expect(new MessageReader(10).push(Buffer.from([0, 11]))).toBeUndefined();
});
