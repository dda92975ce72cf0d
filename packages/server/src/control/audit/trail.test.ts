import { appendFile, mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { AuditEvent } from "@torpor/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createLog } from "../../lib/log.ts";
import { temporaryFolder } from "../../store/testing.ts";
import { type AuditFilter, readTrail } from "./read-trail.ts";
import { AuditTrail } from "./trail.ts";

const never = new AbortController().signal;
const START = Date.parse("2027-01-01T00:00:00.000Z");

const event = (n: number, more: Partial<AuditEvent> = {}): AuditEvent => ({
  time: new Date(START + n * 1000).toISOString(),
  accountId: "000000000000",
  accessKeyId: "AKIATEST",
  keyName: "root",
  sourceIp: "127.0.0.1",
  operation: "lambda:RunMicrovm",
  resource: "arn:aws:lambda:us-east-1:000000000000:microvm-image:demo",
  target: `microvm-${n}`,
  requestId: `request-${n}`,
  status: 200,
  error: null,
  ...more,
});

async function openTrail(folder: string, more: { maxFileBytes?: number; maxFiles?: number } = {}) {
  return await AuditTrail.open({ folder, maxFileBytes: 1 << 20, maxFiles: 16, log: createLog("silent"), ...more });
}
const all = async (trail: AuditTrail, filter: AuditFilter = {}) =>
  await Array.fromAsync(readTrail(trail, filter, false, never));
const targets = async (trail: AuditTrail, filter?: AuditFilter) =>
  (await all(trail, filter)).map(({ target }) => target);

describe("a line", () => {
  test("is on the disk when it is acknowledged, in files for their owner alone", async () => {
    const folder = join(await temporaryFolder(), "audit");
    const trail = await openTrail(folder);
    await trail.append(event(1));
    expect(await readFile(join(folder, "00000001.jsonl"), "utf8")).toBe(`${JSON.stringify(event(1))}\n`);
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
    expect((await stat(join(folder, "00000001.jsonl"))).mode & 0o777).toBe(0o600);
  });

  test("of many at once is whole and in order", async () => {
    const trail = await openTrail(await temporaryFolder());
    await Promise.all(Array.from({ length: 500 }, (_, n) => trail.append(event(n))));
    expect(await targets(trail)).toEqual(Array.from({ length: 500 }, (_, n) => `microvm-${n}`));
  });

  test("that a crash has torn stands alone, and is no event", async () => {
    const folder = await temporaryFolder();
    await (await openTrail(folder)).append(event(1));
    await appendFile(join(folder, "00000001.jsonl"), '{"time":"2027-01-01T0');
    const trail = await openTrail(folder);
    await trail.append(event(2));
    expect(await all(trail)).toEqual([event(1), event(2)]);
    const text = await readFile(join(folder, "00000001.jsonl"), "utf8");
    expect(text.split("\n")[1]).toBe('{"time":"2027-01-01T0');
  });
});

describe("files", () => {
  test("are followed by others, and the oldest go", async () => {
    const folder = await temporaryFolder();
    const trail = await openTrail(folder, { maxFileBytes: 1000, maxFiles: 3 });
    for (let n = 0; n < 50; n++) await trail.append(event(n));
    const names = await readdir(folder);
    expect(names.length).toBe(3);
    for (const name of names) expect((await stat(join(folder, name))).size).toBeLessThanOrEqual(1000);
    const kept = await targets(trail);
    expect(kept.at(-1)).toBe("microvm-49");
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, i) => `microvm-${50 - kept.length + i}`));
    const again = await openTrail(folder, { maxFileBytes: 1000, maxFiles: 3 });
    await again.append(event(50));
    expect((await targets(again)).at(-1)).toBe("microvm-50");
  });

  test("hold every acknowledged line once and in order, whatever their size and however often the server starts", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.integer({ min: 0, max: 600 }), { maxLength: 8 }), { maxLength: 5 }),
        fc.integer({ min: 300, max: 3000 }),
        async (starts, maxFileBytes) => {
          const folder = await temporaryFolder();
          const written: AuditEvent[] = [];
          for (const sizes of starts) {
            const trail = await openTrail(folder, { maxFileBytes, maxFiles: 1000 });
            const events = sizes.map((size, n) => event(n, { resource: "é".repeat(size) }));
            await Promise.all(events.map((each) => trail.append(each)));
            written.push(...events);
            expect(await all(trail)).toEqual(written);
          }
          await rm(folder, { recursive: true });
        },
      ),
      { numRuns: 30 },
    );
  });
});

describe("while nothing can be written", () => {
  /** A folder in the way of the file: opening it for writing fails whoever asks. */
  async function broken() {
    const folder = await temporaryFolder();
    const trail = await openTrail(folder);
    await trail.append(event(1));
    const file = join(folder, "00000001.jsonl");
    await rename(file, join(folder, "kept"));
    await mkdir(file);
    const mend = async () => {
      await rm(file, { recursive: true });
      await rename(join(folder, "kept"), file);
    };
    return { trail, mend };
  }

  test("nothing is acknowledged and nothing new is begun, and what was done is written first when it can be", async () => {
    const { trail, mend } = await broken();
    await trail.ready();
    const failures = await Promise.allSettled([trail.append(event(2)), trail.append(event(3))]);
    for (const failure of failures)
      expect(failure).toMatchObject({ status: "rejected", reason: { kind: "unavailable", retryAfterSeconds: 30 } });
    await expect(trail.ready()).rejects.toMatchObject({ kind: "unavailable" });
    await expect(trail.ready()).rejects.toThrow("The audit trail cannot be written");
    await mend();
    await trail.ready();
    await trail.append(event(4));
    expect(await targets(trail)).toEqual(["microvm-1", "microvm-2", "microvm-3", "microvm-4"]);
  });
});

describe("a reader", () => {
  const events = [
    event(1),
    event(2, { operation: "lambda:TerminateMicrovm", accountId: "111111111111" }),
    event(3, { operation: "s3:PutObject", status: 403, error: "AccessDenied" }),
    event(4, { operation: "torpor:CreateCheckpoint", status: 404, error: "ResourceNotFoundException" }),
  ];
  const cases: readonly [what: string, filter: AuditFilter, expected: readonly number[]][] = [
    ["everything", {}, [1, 2, 3, 4]],
    ["an account", { accountId: "111111111111" }, [2]],
    ["a time", { since: new Date(START + 3000) }, [3, 4]],
    ["an operation", { operation: "lambda:runmicrovm" }, [1]],
    ["operations of a kind", { operation: "lambda:*" }, [1, 2]],
    ["what succeeded", { outcome: "success" }, [1, 2]],
    ["what failed", { outcome: "failure" }, [3, 4]],
    ["a type of error", { outcome: "AccessDenied" }, [3]],
    ["several at once", { operation: "*:*", outcome: "failure", since: new Date(START + 3500) }, [4]],
  ];
  test.each(cases)("finds %s", async (_what, filter, expected) => {
    const trail = await openTrail(await temporaryFolder(), { maxFileBytes: 400 });
    for (const each of events) await trail.append(each);
    expect(await targets(trail, filter)).toEqual(expected.map((n) => `microvm-${n}`));
  });

  test("of old files only reads those that may hold what is wanted", async () => {
    const folder = await temporaryFolder();
    const trail = await openTrail(folder, { maxFileBytes: 400 });
    for (let n = 0; n < 10; n++) await trail.append(event(n));
    await writeFile(join(folder, "00000002.jsonl"), `${JSON.stringify(event(1, { target: "read" }))}\n`);
    expect(await targets(trail, { since: new Date(START + 8000) })).toEqual(["microvm-8", "microvm-9"]);
  });

  test("that follows gets what comes, through new files, until it is told to stop", async () => {
    const trail = await openTrail(await temporaryFolder(), { maxFileBytes: 1000, maxFiles: 100 });
    await trail.append(event(0));
    const stop = new AbortController();
    const seen: (string | null)[] = [];
    const reading = (async () => {
      for await (const { target } of readTrail(trail, {}, true, stop.signal)) {
        seen.push(target);
        if (seen.length < 30) await trail.append(event(seen.length));
        else stop.abort(new Error("enough"));
      }
    })();
    await expect(reading).rejects.toThrow("enough");
    expect(seen).toEqual(Array.from({ length: 30 }, (_, n) => `microvm-${n}`));
  });

  test("that is behind goes on with the oldest file that is left", async () => {
    const trail = await openTrail(await temporaryFolder(), { maxFileBytes: 1000, maxFiles: 2 });
    for (let n = 0; n < 4; n++) await trail.append(event(n));
    const reader = readTrail(trail, {}, false, never);
    expect((await reader.next()).value?.target).toBe("microvm-0");
    for (let n = 4; n < 40; n++) await trail.append(event(n));
    const rest = await Array.fromAsync(reader);
    expect(rest.at(-1)?.target).toBe("microvm-39");
  });
});
