import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { watch } from "node:fs";
import { access, chown, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadConfig } from "../../src/config.ts";
import { Notebook } from "../../src/host/agent/testing/notebook.ts";
import { loadGuestArtifacts } from "../../src/host/artifacts.ts";
import type { VmmDir } from "../../src/host/driver/driver.ts";
import { openDriver } from "../../src/host/driver/open-driver.ts";
import { identify } from "../../src/host/driver/qemu/process.ts";
import { agents, cellsOf } from "../../src/host/driver/testing/cells.ts";
import type { Bystander, Contender } from "../../src/host/driver/testing/contender.ts";
import { HostLayout } from "../../src/host/layout.ts";
import { slotLimits } from "../../src/host/network/limits.ts";
import { SlotPool } from "../../src/host/network/slot-pool.ts";
import { createLog } from "../../src/lib/log.ts";
import { run } from "../../src/lib/run.ts";

const NOTEBOOK = fileURLToPath(new URL("notebook/main.go", import.meta.url));
const DISK_BYTES = 64 << 20;
const PORT = 8080;
const BOOT_MS = 60_000;
const forever = new AbortController().signal;

/** QEMU in emulation, with the jail, the slots and the guest that production has. */
export async function openQemuContender(): Promise<Contender> {
  const { config } = loadConfig();
  const log = createLog("silent");
  const artifacts = await loadGuestArtifacts(config.artifactsDir, config.helperBinary);
  const root = await mkdtemp(join(tmpdir(), "torpor-driver-"));
  const layout = new HostLayout(join(root, "data"));
  await layout.create();
  const disk = await makeDisk(root);
  const settings = { dataDir: root, qemuBinary: config.qemuBinary, accelerator: "tcg" } as const;
  const open = () => openDriver({ settings, artifacts, log }, forever);
  // What a driver is opened for takes a look at the machine: once is enough.
  const drivers = await Promise.all(Array.from({ length: 32 }, open));
  const slots = new SlotPool({
    dataDir: root,
    cidr: config.slotCidr,
    uidBase: 230_000,
    max: 64,
    spare: 0,
    limits: slotLimits(config),
    log,
  });
  await slots.start(new Map());
  const agentOf = agents();
  return {
    driver() {
      const driver = drivers.pop();
      if (!driver) throw new Error("the contract takes more drivers than there are");
      return driver;
    },
    shape: { memoryMib: 256, vcpus: 1 },
    diskBytes: DISK_BYTES,
    kernel: artifacts.kernel.path,
    initramfs: artifacts.initramfs.path,
    scratch: root,
    ...cellsOf(layout, slots),
    async bootDisk({ dir, slot }) {
      const path = join(dir.disks, "disk.raw");
      await copyFile(disk, path);
      await chown(path, slot.uid, slot.uid);
      return path;
    },
    async started(vmm, slot) {
      const agent = agentOf(vmm, slot);
      await agent.hello(forever, BOOT_MS);
      const container = { argv: ["/notebook"], env: [], user: "", workdir: "/", hostname: "localhost" };
      await agent.start({ ...container, capabilities: "default" }, forever);
      const listening = await agent.listening([PORT], BOOT_MS, forever);
      if (!("port" in listening && listening.port === PORT))
        throw new Error(`no notebook: ${JSON.stringify(listening)}`);
      await agent.quiesce({ dropCaches: true }, forever);
    },
    notes: (vmm, slot) => new Notebook(() => agentOf(vmm, slot).forward(PORT, forever)),
    processes: async (dir) => (await processesOf(dir)).length,
    spawned,
    kill: (pid) => process.kill(pid, "SIGKILL"),
    record,
    socket: (dir) => join(dir.path, "vmm.sock"),
    bystander,
    async [Symbol.asyncDispose]() {
      for (const driver of drivers) await driver[Symbol.asyncDispose]();
      await slots.close();
      await rm(root, { recursive: true });
    },
  };
}

const record = (dir: VmmDir): string => join(dir.path, "vmm.json");

/** A file system with the notebook in it, and nothing else. */
async function makeDisk(folder: string): Promise<string> {
  const tree = join(folder, "tree");
  for (const name of ["notes", "proc", "sys", "dev", "etc", "tmp", "run"])
    await mkdir(join(tree, name), { recursive: true });
  const env = { PATH: `${process.env.PATH}:/usr/local/go/bin:/usr/lib/go/bin`, HOME: tmpdir(), CGO_ENABLED: "0" };
  await run("go", ["build", "-o", join(tree, "notebook"), NOTEBOOK], { env, cwd: folder });
  const disk = join(folder, "disk.raw");
  await writeFile(disk, "");
  await run("mkfs.ext4", ["-q", "-d", tree, disk, `${DISK_BYTES / 1024}k`]);
  return disk;
}

async function processesOf(dir: VmmDir): Promise<number[]> {
  const found: number[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const args = (await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "")).split("\0");
    if (args[args.indexOf("-name") + 1] === dir.id && identify(Number(name))) found.push(Number(name));
  }
  return found;
}

/** The helper says who it is before it becomes the VMM. */
async function spawned(dir: VmmDir): Promise<number> {
  const file = record(dir);
  const changes = watch(dir.path);
  try {
    while (await access(file).catch(() => true)) await once(changes, "change");
    return (JSON.parse(await readFile(file, "utf8")) as { pid: number }).pid;
  } finally {
    changes.close();
  }
}

async function bystander(): Promise<Bystander> {
  const child: ChildProcess = spawn("sleep", ["600"], { stdio: "ignore" });
  await once(child, "spawn");
  const identity = identify(child.pid!)!;
  return {
    pid: identity.pid,
    startTime: identity.startTime,
    alive: () => child.exitCode === null && child.signalCode === null,
    end: () => child.kill("SIGKILL"),
  };
}
