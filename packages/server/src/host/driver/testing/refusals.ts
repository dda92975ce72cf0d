import { copyFile, open, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { SnapshotError } from "../driver.ts";
import { forever, type Saved, type Workbench } from "./workbench.ts";

/** Files that are not what they were are refused, and the VMM that was to get them is ended. */
export function describeRefusals(bench: () => Workbench): void {
  let whole: Saved;
  beforeAll(async () => {
    const vm = await bench().running();
    await vm.notes.remember("precious", "memory");
    await vm.vmm.pause();
    whole = await bench().saved(vm);
  });

  const half = async (path: string): Promise<void> => await truncate(path, Math.floor((await stat(path)).size / 2));
  const flip = async (path: string, at: number): Promise<void> => {
    await using file = await open(path, "r+");
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    await file.write(Buffer.from([byte[0]! ^ 0xff]), 0, 1, at);
  };
  const damages: Readonly<Record<string, (path: string) => Promise<void>>> = {
    "cut in half": half,
    empty: (path) => truncate(path, 0),
    missing: (path) => rm(path),
    "another kind of file": async (path) => await writeFile(path, "no such thing\n".repeat(1000)),
  };
  /** The same file, but for the damage. */
  const damaged = async (path: string, damage: (path: string) => Promise<void>): Promise<string> => {
    const copy = join(await bench().folder(), "damaged");
    await copyFile(path, copy);
    await damage(copy);
    return copy;
  };

  async function expectRefused(from: Saved): Promise<void> {
    const { cell, vmm } = await bench().prepared();
    const spec = await bench().restoreSpec(cell, from);
    const failure = await vmm.restore(spec, forever).catch((err: unknown) => err);
    expect(failure).toBeInstanceOf(SnapshotError);
    expect((failure as SnapshotError).reason).toMatch(/^(incompatible|corrupt)$/);
    expect(await bench().contender.processes(cell.dir)).toBe(0);
    expect(await vmm.ended).toMatch(/./);
  }

  test("what is whole is taken", async () => {
    const { notes } = await bench().running(whole);
    expect(await notes.recall("precious")).toBe("memory");
  });

  test.each(Object.keys(damages))("device state that is %s is refused", async (what) => {
    await expectRefused({ ...whole, devices: await damaged(whole.devices, damages[what]!) });
  });

  test.each(Object.keys(damages))("memory that is %s is refused", async (what) => {
    const [{ path, indexSha256 }] = whole.memory as [Saved["memory"][number]];
    const copy = await damaged(path, damages[what]!);
    await expectRefused({ ...whole, memory: [{ path: copy, indexSha256 }] });
    await expectCorrupt(copy, whole.diff.sha256);
  });

  test("memory of which one byte is another is refused", async () => {
    const [{ path, indexSha256 }] = whole.memory as [Saved["memory"][number]];
    for (const at of [0, (await stat(path)).size - 1]) {
      const copy = await damaged(path, (file) => flip(file, at));
      await expectRefused({ ...whole, memory: [{ path: copy, indexSha256 }] });
      await expectCorrupt(copy, whole.diff.sha256);
    }
  });

  test("memory of another moment is refused, whole as it is", async () => {
    const vm = await bench().running(whole);
    await vm.notes.remember("precious", "less");
    await vm.vmm.pause();
    const other = await bench().saved(vm);
    const swapped = { path: other.memory[1]!.path, indexSha256: whole.memory[0]!.indexSha256 };
    await expectRefused({ ...whole, memory: [swapped] });
    await expectCorrupt(other.memory[1]!.path, whole.diff.sha256);
  });

  async function expectCorrupt(path: string, sha256: string): Promise<void> {
    const failure = await bench()
      .driver.verifyMemory(path, sha256, forever)
      .catch((err: unknown) => err);
    expect(failure).toBeInstanceOf(SnapshotError);
    expect(failure).toMatchObject({ reason: "corrupt" });
  }
}
