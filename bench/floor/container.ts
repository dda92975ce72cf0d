import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "../../packages/server/src/lib/run.ts";
import type { Sample } from "../harness/figure.ts";
import { Watch } from "../harness/stopwatch.ts";
import { get } from "../lab/http.ts";
import type { Template } from "../lab/server.ts";
import { type RawHost, WORKLOAD_PORT } from "./raw-host.ts";

export interface Runtime {
  readonly program: "runc" | "runsc";
  readonly flags: readonly string[];
}

export const RUNC: Runtime = { program: "runc", flags: [] };
/** With the slot's network as it is: gVisor's own stack would take its addresses over, and need a new one each time. */
export const RUNSC: Runtime = { program: "runsc", flags: ["--network=host", "--ignore-cgroups"] };

const COMMAND = ["python3", "-u", "/srv/app.py"];
const READY_MS = 30_000;
let containers = 0;

/** The files of the template's disk, unpacked once. */
export async function unpackRootfs(host: RawHost, template: Template): Promise<string> {
  const path = join(host.folder, "rootfs");
  try {
    await access(path);
  } catch {
    await mkdir(path);
    await run("debugfs", ["-R", `rdump / ${path}`, template.files.disk]);
  }
  return path;
}

/** Why it cannot be measured here; undefined when it can. */
export async function whyNot({ program }: Runtime): Promise<string | undefined> {
  for (const needed of [program, "debugfs"]) {
    try {
      await run("which", [needed]);
    } catch {
      return `${needed} is not installed`;
    }
  }
  return undefined;
}

/** `RUNTIME run` of the same files and server, natively, to its first answer. */
export async function startContainer(host: RawHost, rootfs: string, runtime: Runtime): Promise<Sample> {
  const slot = await host.takeBareSlot();
  const bundle = await host.newFolder();
  const state = join(host.folder, runtime.program);
  const id = `bench-${process.pid}-${++containers}`;
  await writeFile(join(bundle, "config.json"), JSON.stringify(config(rootfs, slot.netns)));
  const flags = ["--root", state, ...runtime.flags];
  const url = new URL(`http://${slot.address}:${WORKLOAD_PORT}`);
  try {
    const watch = new Watch();
    const child = spawn(runtime.program, [...flags, "run", "--bundle", bundle, id], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const gone = once(child, "exit");
    let said = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-2048);
    });
    try {
      for (;;) {
        try {
          await get({ url }, "/", READY_MS);
          break;
        } catch (err) {
          if (child.exitCode !== null || performance.now() > READY_MS * 1000)
            throw new Error(`${runtime.program} run: ${said || String(err)}`, { cause: err });
          await sleep(1);
        }
      }
      watch.mark("first byte");
      return watch.sample();
    } finally {
      await run(runtime.program, [...flags, "kill", id, "KILL"]).catch(() => child.kill("SIGKILL"));
      await gone;
      await run(runtime.program, [...flags, "delete", "--force", id]).catch(() => {});
    }
  } finally {
    await host.release(slot);
  }
}

const NAMESPACES = ["pid", "mount", "ipc", "uts"];

function config(rootfs: string, netns: string): object {
  const caps = ["CAP_NET_BIND_SERVICE", "CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"];
  return {
    ociVersion: "1.0.2",
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args: COMMAND,
      env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
      cwd: "/",
      capabilities: { bounding: caps, effective: caps, permitted: caps },
      noNewPrivileges: true,
    },
    root: { path: rootfs, readonly: true },
    hostname: "bench",
    mounts: [
      { destination: "/proc", type: "proc", source: "proc" },
      { destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755", "size=65536k"] },
      { destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev", "size=65536k"] },
    ],
    linux: { namespaces: [...NAMESPACES.map((type) => ({ type })), { type: "network", path: netns }] },
  };
}
