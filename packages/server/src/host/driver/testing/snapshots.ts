import { createHash } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { forever, type Restored, type Saved, type Workbench } from "./workbench.ts";

/** What is saved, and what comes of it. */
export function describeSnapshots(bench: () => Workbench): void {
  describe("a VMM that boots", () => {
    test("runs when it is handed over, with its memory in a file", async () => {
      const { driver, contender, cell } = using(bench());
      const { dir, slot } = await cell();
      const disk = await contender.bootDisk({ dir, slot });
      const { shape, kernel, initramfs } = contender;
      const vmm = await driver.boot({ dir, slot, shape, disk, kernel, initramfs }, forever);
      expect(await vmm.running()).toBe(true);
      expect((await stat(join(dir.run, "memory"))).size).toBe(shape.memoryMib * 2 ** 20);
      expect(await contender.processes(dir)).toBe(1);
      await vmm.pause();
      const out = join(await bench().folder(), "memory.diff");
      await expect(vmm.saveMemory(out, [], forever), "it has no template to differ from").rejects.toThrow();
      await expect(stat(out)).rejects.toThrow("ENOENT");
    });
  });

  describe("a VMM that is restored", () => {
    test("stands still, has run nothing, and then goes on as the template", async () => {
      const vm = await bench().restored();
      expect(await vm.vmm.running()).toBe(false);
      expect(await changed(vm)).toBe(0);
      await vm.vmm.run();
      expect(await vm.vmm.running()).toBe(true);
      expect(await vm.notes.recall("origin")).toBe("template");
      expect(await vm.notes.read("origin")).toBe("template");
    });

    test("stands still and runs as often as it is told to, and does nothing in between", async () => {
      const { vmm, notes } = await bench().running();
      await notes.remember("before", "1");
      await vmm.run();
      await vmm.pause();
      await vmm.pause();
      expect(await vmm.running()).toBe(false);
      let answered = false;
      const answer = notes.recall("before").finally(() => {
        answered = true;
      });
      await vmm.saveDevices();
      expect(answered).toBe(false);
      await vmm.run();
      expect(await answer).toBe("1");
    });

    test("is what it was: from one diff, from a chain of diffs, with all layers of its disk", async () => {
      let from: Saved | undefined;
      for (const generation of ["1", "2", "3"]) {
        const vm = await bench().restored(from);
        expect(await vm.vmm.running()).toBe(false);
        expect(await changed(vm), "memory of a restored VMM that has not run").toBe(0);
        await vm.vmm.run();
        await expectAllNotes(vm, Number(generation) - 1);
        await vm.notes.remember(`memory-${generation}`, generation);
        await vm.notes.write(`disk-${generation}`, generation);
        await vm.notes.remember("origin", `generation ${generation}`);
        await vm.vmm.pause();
        from = await bench().saved(vm);
        expect(from.diff.dataPages).toBeGreaterThan(0);
        expect(from.diff.livePages).toBeGreaterThanOrEqual(from.diff.dataPages);
        expect(from.diff.bytes).toBe((await stat(from.memory.at(-1)!.path)).size);
        expect(from.diff.sha256).toBe(await digest(from.memory.at(-1)!.path));
      }
      expect(from?.memory.length).toBe(3);
      const last = await bench().running(from);
      await expectAllNotes(last, 3);
      expect(await last.notes.recall("origin")).toBe("generation 3");
    });

    test("shares nothing with another of the same template but what neither has changed", async () => {
      const [one, other] = [await bench().running(), await bench().running()];
      await one.notes.remember("origin", "one");
      await one.notes.write("origin", "one");
      expect(await other.notes.recall("origin")).toBe("template");
      expect(await other.notes.read("origin")).toBe("template");
      await other.notes.remember("origin", "other");
      await other.notes.write("origin", "other");
      expect(await one.notes.recall("origin")).toBe("one");
      expect(await one.notes.read("origin")).toBe("one");
      const third = await bench().running();
      expect(await third.notes.recall("origin")).toBe("template");
      expect(await third.notes.read("origin")).toBe("template");
    });

    test("says how much memory it has of its own", async () => {
      const { vmm, notes } = await bench().running();
      await notes.remember("anything", "at all");
      expect(await vmm.privateBytes()).toBeGreaterThan(0);
      expect(await vmm.pssBytes()).toBeGreaterThan(0);
    });
  });

  describe("what is saved", () => {
    test("is a new file each time, and never in place of another", async () => {
      const vm = await bench().running();
      await vm.notes.remember("a", "b");
      await vm.vmm.pause();
      const first = await readFile(await vm.vmm.saveDevices());
      expect(first.length).toBeGreaterThan(0);
      expect((await readFile(await vm.vmm.saveDevices())).length).toBe(first.length);
      const out = join(await bench().folder(), "memory.diff");
      await writeFile(out, "precious");
      await expect(vm.vmm.saveMemory(out, [], forever)).rejects.toThrow();
      expect(await readFile(out, "utf8")).toBe("precious");
    });

    test("is read as a whole by verifyMemory", async () => {
      const vm = await bench().running();
      await vm.vmm.pause();
      const { memory, diff } = await bench().saved(vm);
      await bench().driver.verifyMemory(memory[0]!.path, diff.sha256, forever);
    });
  });

  describe("a disk", () => {
    test("is written into the next layer only, once it was switched", async () => {
      const vm = await bench().running();
      await vm.notes.write("before", "1");
      const next = await bench().layer(vm.cell, 2);
      await vm.vmm.pause();
      await vm.vmm.switchDisk(next);
      const [sealed] = await bench().seal(vm.layers);
      const before = await digest(sealed!);
      await vm.vmm.run();
      await vm.notes.write("after", "2");
      await vm.notes.write("origin", "changed");
      await vm.vmm.pause();
      expect(await digest(sealed!)).toBe(before);
      const saved = await bench().saved({ ...vm, layers: [...vm.layers, next] });
      const again = await bench().running(saved);
      for (const [name, text] of Object.entries({ before: "1", after: "2", origin: "changed" }))
        expect(await again.notes.read(name)).toBe(text);
    });

    test("reads the same when its layers were merged", async () => {
      const vm = await bench().running();
      const layers = [...vm.layers];
      for (const n of [1, 2, 3]) {
        await vm.notes.write("origin", `layer ${n}`);
        await vm.notes.write(`only-${n}`, `${n}`);
        await vm.vmm.pause();
        layers.push(await bench().layer(vm.cell, n + 1));
        await vm.vmm.switchDisk(layers.at(-1)!);
        await vm.vmm.run();
      }
      await vm.vmm.pause();
      const saved = await bench().saved({ ...vm, layers });
      const merged = join(await bench().folder(), "merged.qcow2");
      const { driver, contender } = bench();
      await driver.mergeLayers(merged, contender.diskBytes, saved.layers, forever);
      await expect(driver.mergeLayers(merged, contender.diskBytes, saved.layers, forever), "twice").rejects.toThrow();
      const again = await bench().running({ ...saved, layers: await bench().seal([merged]) });
      expect(await again.notes.read("origin")).toBe("layer 3");
      for (const n of [1, 2, 3]) expect(await again.notes.read(`only-${n}`)).toBe(`${n}`);
    });

    test("has no layer that takes another one's place", async () => {
      const cell = await bench().cell();
      await bench().layer(cell, 1);
      await expect(bench().layer(cell, 1)).rejects.toThrow("EEXIST");
    });
  });

  describe("an image of memory", () => {
    test("is of its moment while the VMM goes on, and goes when it is disposed of", async () => {
      const { contender } = bench();
      const vm = await bench().running();
      await vm.notes.remember("moment", "then");
      await vm.notes.write("moment", "then");
      const next = await bench().layer(vm.cell, 2);
      await vm.vmm.pause();
      const frozen = await vm.vmm.freeze(forever);
      const devices = await vm.vmm.saveDevices();
      await vm.vmm.switchDisk(next);
      await vm.vmm.run();
      await vm.notes.remember("moment", "now");
      await vm.notes.write("moment", "now");
      const saved = await bench().savedWith(vm, devices, frozen);
      await frozen[Symbol.asyncDispose]();
      expect(await contender.processes(vm.cell.dir), "nothing but the VMM").toBe(1);
      expect(await vm.notes.recall("moment")).toBe("now");
      const [sealed] = await bench().seal(vm.layers);
      const then = await bench().running({ ...saved, layers: [sealed!] });
      expect(await then.notes.recall("moment")).toBe("then");
      expect(await then.notes.read("moment")).toBe("then");
      expect(await vm.notes.recall("moment")).toBe("now");
    });
  });

  test("an image of memory is gone with its driver", async () => {
    const vm = await bench().running();
    vm.vmm.detach();
    const driver = bench().contender.driver();
    const adopted = (await driver.adopt(vm.cell.dir, forever))!;
    await adopted.pause();
    await adopted.freeze(forever);
    adopted.detach();
    await driver[Symbol.asyncDispose]();
    await expect.poll(() => bench().contender.processes(vm.cell.dir), { timeout: 10_000 }).toBe(1);
  });

  /** Pages in which a VMM that stands still differs from what it was restored from. */
  async function changed({ vmm, memory }: Restored): Promise<number> {
    const out = join(await bench().folder(), "memory.diff");
    const parents = memory.map(({ path }) => path);
    return (await vmm.saveMemory(out, parents, forever)).dataPages;
  }
}

async function expectAllNotes({ notes }: Restored, generations: number): Promise<void> {
  for (let n = 1; n <= generations; n++) {
    expect(await notes.recall(`memory-${n}`)).toBe(`${n}`);
    expect(await notes.read(`disk-${n}`)).toBe(`${n}`);
  }
}

const using = (bench: Workbench) => ({
  driver: bench.driver,
  contender: bench.contender,
  cell: () => bench.cell(),
});

async function digest(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}
