import { link, readFile, rm, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import type { VmmDir } from "../driver.ts";
import { forever, type Restored, type Workbench } from "./workbench.ts";

/** What a server does with the VMMs of an earlier one. */
export function describeTakingOver(bench: () => Workbench): void {
  const left = async (): Promise<Restored> => {
    const vm = await bench().running();
    await vm.notes.remember("left", "alone");
    vm.vmm.detach();
    return vm;
  };
  const later = () => bench().contender.driver();

  test("a VMM that is let go of runs on, and a later server has all of it", async () => {
    const vm = await left();
    await using driver = later();
    const adopted = (await driver.adopt(vm.cell.dir, forever))!;
    expect(adopted.pid).toBe(vm.vmm.pid);
    expect(await adopted.running()).toBe(true);
    expect(await vm.notes.recall("left")).toBe("alone");
    await adopted.switchDisk(await bench().layer(vm.cell, 2));
    await adopted.pause();
    const devices = await adopted.saveDevices();
    const saved = await bench().savedWith(vm, devices, adopted);
    let heard = false;
    void vm.vmm.ended.then(() => {
      heard = true;
    });
    await adopted.kill();
    expect(await adopted.ended).not.toBe("");
    expect(heard, "whoever has let go hears no more").toBe(false);
    const again = await bench().running({ ...saved, layers: await bench().seal(vm.layers) });
    expect(await again.notes.recall("left")).toBe("alone");
  });

  test("a VMM that dies while nobody looks is not adopted", async () => {
    const vm = await left();
    bench().contender.kill(vm.vmm.pid);
    await gone(bench(), vm.cell.dir);
    await using driver = later();
    expect(await driver.adopt(vm.cell.dir, forever)).toBeUndefined();
  });

  describe("is not adopted, and is not touched:", () => {
    test("a process that began at another time than the folder says", async () => {
      const vm = await left();
      await edit(vm.cell.dir, { startTime: "1" });
      await expectNobody(vm.cell.dir);
      await expectUntouched(vm);
    });

    test("a process that has got the VMM's id", async () => {
      const vm = await left();
      const bystander = await bench().contender.bystander();
      try {
        await edit(vm.cell.dir, { pid: bystander.pid, startTime: bystander.startTime });
        await expectNobody(vm.cell.dir);
        expect(bystander.alive()).toBe(true);
        await expectUntouched(vm);
      } finally {
        bystander.end();
      }
    });

    test("the VMM of another folder", async () => {
      const vm = await left();
      const { record, socket } = bench().contender;
      const { dir } = await bench().cell();
      await link(record(vm.cell.dir), record(dir));
      await link(socket(vm.cell.dir), socket(dir));
      await expectNobody(dir);
      await expectUntouched(vm);
    });

    test.each(["", "{", "null", '"vmm"', "{}"])("what a folder with the record %j names", async (text) => {
      const { dir } = await bench().cell();
      await writeFile(bench().contender.record(dir), text);
      await expectNobody(dir);
    });

    test("what an empty folder names, or one that is not there", async () => {
      const { dir } = await bench().cell();
      await expectNobody(dir);
      await rm(dir.path, { recursive: true });
      await expectNobody(dir);
    });

    /** Neither adopted nor ended by who takes the folder for a VMM's. */
    async function expectNobody(dir: VmmDir): Promise<void> {
      await using driver = later();
      expect(await driver.adopt(dir, forever)).toBeUndefined();
      await driver.destroy(dir);
    }

    async function expectUntouched({ cell, vmm, notes }: Restored): Promise<void> {
      expect(await notes.recall("left")).toBe("alone");
      bench().contender.kill(vmm.pid); // its folder names it no more
      await gone(bench(), cell.dir);
    }
  });

  describe("is ended by destroy, until nothing is left:", () => {
    test.each(["that is adoptable", "whose socket is gone"])("a VMM %s", async (what) => {
      const vm = await left();
      await using driver = later();
      if (what === "whose socket is gone") {
        await rm(bench().contender.socket(vm.cell.dir));
        expect(await driver.adopt(vm.cell.dir, forever)).toBeUndefined();
      }
      for (let n = 0; n < 2; n++) {
        await driver.destroy(vm.cell.dir);
        expect(await bench().contender.processes(vm.cell.dir)).toBe(0);
      }
    });

    test("one that waits for a snapshot", async () => {
      const { cell } = await bench().prepared();
      await using driver = later();
      await driver.destroy(cell.dir);
      expect(await bench().contender.processes(cell.dir)).toBe(0);
    });

    test("one that is held by somebody else, who hears of it", async () => {
      const { cell, vmm } = await bench().running();
      await using driver = later();
      await driver.destroy(cell.dir);
      expect(await vmm.ended).not.toBe("");
    });
  });

  async function edit(dir: VmmDir, change: object): Promise<void> {
    const path = bench().contender.record(dir);
    const record = JSON.parse(await readFile(path, "utf8")) as object;
    await writeFile(path, JSON.stringify({ ...record, ...change }));
  }
}

/** Waits until the folder has no process any more. */
async function gone({ contender }: Workbench, dir: VmmDir): Promise<void> {
  await expect.poll(() => contender.processes(dir), { timeout: 10_000 }).toBe(0);
}
