import { stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SnapshotError, type Vmm } from "../driver.ts";
import type { ContenderCell } from "./contender.ts";
import { forever, type Workbench } from "./workbench.ts";

/** How VMMs end: because they are told to, by themselves, and because nobody wants them any more. */
export function describeEnds(bench: () => Workbench): void {
  const processes = ({ dir }: ContenderCell): Promise<number> => bench().contender.processes(dir);
  const kill = (pid: number): void => bench().contender.kill(pid);

  test("kill ends a VMM in whatever state it is, until it is gone, and can be repeated", async () => {
    const [waiting, still, running] = [await bench().prepared(), await bench().restored(), await bench().running()];
    for (const { cell, vmm } of [waiting, still, running]) {
      await vmm.kill();
      expect(await processes(cell)).toBe(0);
      expect(await vmm.ended).toMatch(/./);
      await vmm.kill();
    }
  });

  describe("a process that dies is told of, and what is in progress fails:", () => {
    test("while it boots", async () => {
      const { driver, contender } = bench();
      const cell = await bench().cell();
      const { dir, slot } = cell;
      const { shape, kernel, initramfs } = contender;
      const disk = await contender.bootDisk(cell);
      void contender.spawned(dir).then(kill);
      const booting = driver.boot({ dir, slot, shape, disk, kernel, initramfs }, forever);
      await expect(booting).rejects.toThrow();
      expect(await processes(cell)).toBe(0);
    });

    test("while it is prepared", async () => {
      const cell = await bench().cell();
      void bench().contender.spawned(cell.dir).then(kill);
      await expect(bench().driver.prepare(bench().prepareSpec(cell), forever)).rejects.toThrow();
      expect(await processes(cell)).toBe(0);
    });

    test("while it waits for a snapshot", async () => {
      const { cell, vmm } = await bench().prepared();
      kill(vmm.pid);
      expect(await vmm.ended).toMatch(/./);
      const spec = await bench().restoreSpec(cell);
      await expectNotTheSnapshots(vmm.restore(spec, forever));
      expect(await processes(cell)).toBe(0);
    });

    test("while it is restored, which is not the snapshot's fault", async () => {
      const { cell, vmm } = await bench().prepared();
      const spec = await bench().restoreSpec(cell);
      const restoring = vmm.restore(spec, forever);
      kill(vmm.pid);
      await expectNotTheSnapshots(restoring);
      expect(await vmm.ended).toMatch(/./);
      expect(await processes(cell)).toBe(0);
    });

    test("while it stands still, and while it is saved", async () => {
      const vm = await bench().running();
      await vm.notes.remember("a", "b");
      await vm.vmm.pause();
      const out = join(await bench().folder(), "memory.diff");
      const saving = vm.vmm.saveMemory(out, [], forever).catch(() => {});
      kill(vm.vmm.pid);
      await saving;
      expect(await vm.vmm.ended).toMatch(/./);
      await expectDead(vm.vmm);
    });

    test("while it runs", async () => {
      const { vmm, cell } = await bench().running();
      kill(vmm.pid);
      expect(await vmm.ended).toMatch(/./);
      expect(await processes(cell)).toBe(0);
      await expectDead(vmm);
    });

    test("while a later server has it", async () => {
      const { vmm, cell } = await bench().running();
      vmm.detach();
      await using driver = bench().contender.driver();
      const adopted = (await driver.adopt(cell.dir, forever))!;
      kill(adopted.pid);
      expect(await adopted.ended).toMatch(/./);
      await expectDead(adopted);
    });

    async function expectNotTheSnapshots(restoring: Promise<Vmm>): Promise<void> {
      const failure = await restoring.then(
        () => expect.unreachable("it was restored"),
        (err: unknown) => err,
      );
      expect(failure).toBeInstanceOf(Error);
      expect(failure).not.toBeInstanceOf(SnapshotError);
    }

    /** Nothing can be had of it any more, and nobody waits for it. */
    async function expectDead(vmm: Vmm): Promise<void> {
      const out = join(await bench().folder(), "memory.diff");
      await expect(vmm.run()).rejects.toThrow();
      await expect(vmm.pause()).rejects.toThrow();
      await expect(vmm.running()).rejects.toThrow();
      await expect(vmm.privateBytes()).rejects.toThrow();
      await expect(vmm.pssBytes()).rejects.toThrow();
      await expect(vmm.saveDevices()).rejects.toThrow();
      await expect(vmm.saveMemory(out, [], forever)).rejects.toThrow();
      await expect(vmm.freeze(forever)).rejects.toThrow();
      await expect(vmm.switchDisk(join(await bench().folder(), "disk-9.qcow2"))).rejects.toThrow();
      await expect(stat(out)).rejects.toThrow("ENOENT");
      await vmm.kill();
    }
  });

  describe("who no longer wants it gets the signal's reason, and nothing is left:", () => {
    const reason = new Error("nobody wants it any more");
    const aborted = AbortSignal.abort(reason);

    test("before it begins", async () => {
      const { driver, contender } = bench();
      const cell = await bench().cell();
      const { dir, slot } = cell;
      const { shape, kernel, initramfs } = contender;
      const disk = await contender.bootDisk(cell);
      await expect(driver.boot({ dir, slot, shape, disk, kernel, initramfs }, aborted)).rejects.toBe(reason);
      await expect(stat(join(dir.run, "memory"))).rejects.toThrow("ENOENT");
      await expect(driver.prepare(bench().prepareSpec(cell), aborted)).rejects.toBe(reason);
      expect(await processes(cell)).toBe(0);

      const prepared = await bench().prepared();
      const spec = await bench().restoreSpec(prepared.cell);
      await expect(prepared.vmm.restore(spec, aborted)).rejects.toBe(reason);
      expect(await processes(prepared.cell)).toBe(0);
      const folder = await bench().folder();
      const merged = join(folder, "merged.qcow2");
      await expect(driver.mergeLayers(merged, contender.diskBytes, [], aborted)).rejects.toBe(reason);
      await expect(stat(merged)).rejects.toThrow("ENOENT");
      await expect(driver.verifyMemory(join(folder, "none"), "", aborted)).rejects.toBe(reason);
    });

    test("of a VMM, which is as it was", async () => {
      const { vmm, cell, notes } = await bench().running();
      await notes.remember("a", "b");
      await vmm.pause();
      const out = join(await bench().folder(), "memory.diff");
      await expect(vmm.saveMemory(out, [], aborted)).rejects.toBe(reason);
      await expect(vmm.freeze(aborted)).rejects.toBe(reason);
      const frozen = await vmm.freeze(forever);
      await expect(frozen.saveMemory(out, [], aborted)).rejects.toBe(reason);
      await frozen[Symbol.asyncDispose]();
      await expect(stat(out)).rejects.toThrow("ENOENT");
      expect(await processes(cell)).toBe(1);
      await vmm.run();
      expect(await notes.recall("a")).toBe("b");
      vmm.detach();
      await using driver = bench().contender.driver();
      await expect(driver.adopt(cell.dir, aborted)).rejects.toBe(reason);
      const adopted = (await driver.adopt(cell.dir, forever))!;
      expect(await adopted.running()).toBe(true);
      await adopted.kill();
    });

    test("in the middle of it", async () => {
      const { driver, contender } = bench();
      const cell = await bench().cell();
      const { dir, slot } = cell;
      const { shape, kernel, initramfs } = contender;
      const disk = await contender.bootDisk(cell);
      await abortedHalfWay(cell, (signal) => driver.boot({ dir, slot, shape, disk, kernel, initramfs }, signal));
      const second = await bench().cell();
      await abortedHalfWay(second, (signal) => driver.prepare(bench().prepareSpec(second), signal));
      const third = await bench().prepared();
      const spec = await bench().restoreSpec(third.cell);
      await abortedHalfWay(third.cell, (signal) => third.vmm.restore(spec, signal));
    });

    /** It may have been too late: then it is there, and the caller ends it. */
    async function abortedHalfWay(
      cell: ContenderCell,
      begin: (signal: AbortSignal) => Promise<{ kill(): Promise<void> }>,
    ): Promise<void> {
      const stop = new AbortController();
      const begun = begin(stop.signal);
      if ((await processes(cell)) === 0) await bench().contender.spawned(cell.dir);
      stop.abort(reason);
      const outcome = await begun.catch((err: unknown) => err);
      if (outcome !== reason) await (outcome as { kill(): Promise<void> }).kill();
      expect(await processes(cell)).toBe(0);
    }
  });
}
