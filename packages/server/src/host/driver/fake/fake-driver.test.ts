import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeAgent, NOTEBOOK_PORT } from "../../agent/testing/fake-agent.ts";
import { Notebook } from "../../agent/testing/notebook.ts";
import { HostLayout } from "../../layout.ts";
import { FakeNetwork, FakeSlots } from "../../network/testing/fake-slots.ts";
import { agents, cellsOf } from "../testing/cells.ts";
import type { Contender } from "../testing/contender.ts";
import { describeDriver } from "../testing/contract.ts";
import { FakeDriver } from "./fake-driver.ts";
import { FakeMachine } from "./machine.ts";

const forever = new AbortController().signal;

async function openFake(): Promise<Contender> {
  const machine = new FakeMachine(new FakeAgent());
  const root = await mkdtemp(join(tmpdir(), "torpor-fake-"));
  const layout = new HostLayout(join(root, "data"));
  await layout.create();
  const network = await FakeNetwork.claim();
  const slots = new FakeSlots(network);
  const diskBytes = 1 << 20;
  const agentOf = agents();
  return {
    driver: () => new FakeDriver(machine),
    shape: { memoryMib: 16, vcpus: 1 },
    diskBytes,
    kernel: "/dev/null",
    initramfs: "/dev/null",
    scratch: root,
    ...cellsOf(layout, slots),
    async bootDisk({ dir }) {
      const disk = join(dir.disks, "disk.raw");
      await writeFile(disk, "");
      await truncate(disk, diskBytes);
      return disk;
    },
    async started(vmm, slot) {
      const container = { argv: ["notebook"], env: [], user: "", workdir: "/", hostname: "localhost" };
      await agentOf(vmm, slot).start({ ...container, capabilities: "default" }, forever);
    },
    notes: (vmm, slot) => new Notebook(() => agentOf(vmm, slot).forward(NOTEBOOK_PORT, forever)),
    processes: async (dir) => machine.alive(dir.id).length,
    spawned: async (dir) => (await machine.spawned(dir.id)).pid,
    kill: (pid) => machine.process(pid)?.end("was killed by SIGKILL"),
    record: (dir) => join(dir.path, "vmm.json"),
    socket: (dir) => join(dir.path, "vmm.sock"),
    async bystander() {
      const process = machine.spawn("something else");
      const { pid, startTime } = process;
      return { pid, startTime, alive: () => process.alive, end: () => process.end("ended") };
    },
    async [Symbol.asyncDispose]() {
      await network[Symbol.asyncDispose]();
      await rm(root, { recursive: true });
    },
  };
}

describeDriver("the fake", openFake);
