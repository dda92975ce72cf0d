import fc from "fast-check";
import { expect, test } from "vitest";
import { BuildLog } from "./build-log.ts";

function logOf(chunks: readonly Uint8Array[], maxBytes = 1 << 20): string[] {
  const written: string[] = [];
  const log = new BuildLog({ maxBytes, write: (text) => written.push(text) });
  for (const chunk of chunks) log.output(chunk);
  log.end();
  return written;
}

test("lines come out whole however the output was cut", () => {
  const text = "first\nzwölf Boxkämpfer\r\nprogress 1\rprogress 2\nlast without end";
  const whole = ["first\n", "zwölf Boxkämpfer\n", "progress 1\n", "progress 2\n", "last without end\n"];
  fc.assert(
    fc.property(fc.array(fc.nat(Buffer.byteLength(text)), { maxLength: 6 }), (cuts) => {
      const bytes = Buffer.from(text);
      const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
      const lines = logOf(at.slice(1).map((end, i) => bytes.subarray(at[i], end)));
      expect(lines.filter((line) => line !== "\n")).toEqual(whole);
    }),
  );
});

test("what a terminal would act on is escaped", () => {
  expect(logOf([Buffer.from("a\u001b[2Jb\tc\u0007\u009bx\n")])).toEqual(["a\\x1b[2Jb\tc\\x07\\x9bx\n"]);
});

test("whatever is printed, each line is text without control characters", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 8 }), (chunks) => {
      for (const line of logOf(chunks)) expect(line).toMatch(/^[^\p{Cc}]*(?:\t[^\p{Cc}]*)*\n$/u);
    }),
  );
});

test("a step that prints without end fills neither the log nor memory", () => {
  const flood = Array.from({ length: 200 }, () => Buffer.alloc(10_000, "x"));
  const lines = logOf(flood, 100_000);
  expect(lines.join("").length).toBeLessThan(101_000);
  expect(lines.at(-1)).toMatch(/the build log ends here/);
});

test("the tail is what came last since the mark, also when the log is full", () => {
  const log = new BuildLog({ maxBytes: 10, write: () => {} });
  log.line("before");
  log.mark();
  for (let i = 0; i < 100; i++) log.output(Buffer.from(`line ${i}\n`));
  expect(log.tail().length).toBe(40);
  expect(log.tail().at(-1)).toBe("line 99");
});
