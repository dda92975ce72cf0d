import fc from "fast-check";
import { expect, test } from "vitest";
import { closeReason, parseControl, parseSessionInit, printable } from "./messages.ts";

const init = (more: object = {}) => JSON.stringify({ type: "session_init", session_id: "a", ...more });
const PLAIN = { command: [], terminal: true, columns: 0, rows: 0, term: "xterm" };

test("a client of the service gets a shell on a terminal without a size", () => {
  expect(parseSessionInit(init())).toEqual({ spec: PLAIN, extended: false });
  expect(parseSessionInit('{"type":"session_init"}')).toEqual({ spec: PLAIN, extended: false });
  expect(parseSessionInit(init({ command: ["ls"], terminal: false }))).toEqual({ spec: PLAIN, extended: false });
});

test("a client that says torpor may say more", () => {
  expect(parseSessionInit(init({ torpor: {} }))).toEqual({ spec: PLAIN, extended: true });
  const torpor = { command: ["ls", ""], terminal: false, cols: 80, rows: 24, term: "vt100" };
  expect(parseSessionInit(init({ torpor }))).toEqual({
    spec: { command: ["ls", ""], terminal: false, columns: 80, rows: 24, term: "vt100" },
    extended: true,
  });
});

test.each([
  "",
  "null",
  "[]",
  "ls\n",
  '{"type":"resize","cols":1,"rows":1}',
  init({ session_id: 7 }),
  init({ session_id: "x".repeat(257) }),
  init({ torpor: null }),
  init({ torpor: { command: "ls" } }),
  init({ torpor: { command: [""] } }),
  init({ torpor: { command: ["a\0b"] } }),
  init({ torpor: { command: ["x".repeat(128 * 1024)] } }),
  init({ torpor: { command: ["é".repeat(65 * 1024)] } }),
  init({ torpor: { cols: 65_536 } }),
  init({ torpor: { rows: 1.5 } }),
  init({ torpor: { term: "x".repeat(65) } }),
  `${"[".repeat(100_000)}`,
])("no session begins with %.40s", (text) => {
  expect(parseSessionInit(text)).toBeUndefined();
});

test("resizes are understood, the end of input by those who asked for more, and all else is typed", () => {
  expect(parseControl('{"type":"resize","cols":120,"rows":40}', false)).toEqual({
    kind: "resize",
    columns: 120,
    rows: 40,
  });
  expect(parseControl('{"type":"eof"}', true)).toEqual({ kind: "end of input" });
  for (const text of [
    '{"type":"eof"}',
    '{"type":"resize","cols":-1,"rows":40}',
    '{"type":"resize","cols":"120","rows":40}',
    '{"type":"resize"}',
    '{"type":"unknown"}',
    "{",
    " ",
    `{"type":"resize","cols":120,"rows":40}${" ".repeat(256)}`,
  ])
    expect(parseControl(text, false), text).toBeUndefined();
});

test("no text breaks a parser, and what is shown of it is bounded and harmless", () => {
  const text = fc.oneof(fc.string({ unit: "binary", maxLength: 400 }), fc.json({ maxDepth: 4 }));
  fc.assert(
    fc.property(text, (hostile) => {
      parseSessionInit(hostile);
      parseControl(hostile, true);
      const reason = closeReason(hostile);
      expect(Buffer.byteLength(reason)).toBeLessThanOrEqual(123);
      expect(reason.isWellFormed()).toBe(true);
      expect(printable(hostile)).not.toMatch(/\p{Cc}|\p{Bidi_Control}/u);
    }),
    { numRuns: 2000 },
  );
});
