import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../../../lib/run.ts";
import { emptyQcow2 } from "./qcow2.ts";

test.each([8, 16, 32])("qemu-img accepts an empty overlay of %i GiB", async (gib) => {
  const dir = await mkdtemp(join(tmpdir(), "torpor-qcow2-"));
  try {
    const file = join(dir, "disk.qcow2");
    await writeFile(file, emptyQcow2(gib * 2 ** 30));
    const info = JSON.parse(await run("qemu-img", ["info", "--output=json", file])) as Record<string, unknown>;
    expect(info).toMatchObject({ format: "qcow2", "virtual-size": gib * 2 ** 30, "cluster-size": 65536 });
    expect(info).not.toHaveProperty("backing-filename");
    await run("qemu-img", ["check", "-q", file]); // exits non-zero for any error or leak
  } finally {
    await rm(dir, { recursive: true });
  }
});

test("sizes that no disk has are refused", () => {
  for (const bytes of [0, -512, 1, 513, 1.5, Number.NaN, 2 ** 53]) expect(() => emptyQcow2(bytes)).toThrow(RangeError);
});
