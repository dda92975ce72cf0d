import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeFileAtomic } from "../../../lib/atomic-file.ts";
import { messageOf } from "../../../lib/errors.ts";
import type { Log } from "../../../lib/log.ts";
import { bootId } from "./process.ts";

/** The guest prints this line on its console when its agent runs. */
const AGENT_LINE = /torpor-agent/;

export interface ProbeOptions {
  readonly qemu: string;
  readonly qemuVersion: string;
  readonly kernel: { readonly path: string; readonly sha256: string };
  readonly initramfs: { readonly path: string; readonly sha256: string };
  /** Where the verdict is kept; empty keeps none. */
  readonly cacheFile: string;
  readonly timeoutMs: number;
  readonly log: Log;
}

export interface Verdict {
  readonly kvm: boolean;
  /** For people: what was tried and what came of it. */
  readonly reason: string;
}

/**
 * Does KVM run our guest? The only proof is a guest that comes up: on para-virtualised hosts the device opens, QEMU
 * reports it enabled, and no kernel ever prints a line.
 */
export async function probeKvm(options: ProbeOptions, signal: AbortSignal): Promise<Verdict> {
  const key = [options.qemuVersion, options.kernel.sha256, options.initramfs.sha256, bootId()].join(" ");
  const cached = await readCache(options.cacheFile, key);
  if (cached) return cached;
  const verdict = await boot(options, signal);
  options.log.info({ kvm: verdict.kvm, reason: verdict.reason }, "probed kvm");
  if (options.cacheFile !== "") await writeFileAtomic(options.cacheFile, JSON.stringify({ key, ...verdict }));
  return verdict;
}

async function boot(options: ProbeOptions, signal: AbortSignal): Promise<Verdict> {
  const dir = await mkdtemp(join(tmpdir(), "torpor-probe-"));
  const args = [
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", "microvm", "-m", "256M"],
    ...["-accel", "kvm", "-cpu", "host", "-serial", "stdio"],
    ...["-kernel", options.kernel.path, "-initrd", options.initramfs.path],
    ...["-append", "console=ttyS0 reboot=t panic=-1"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
  ];
  const child = spawn(options.qemu, args, { cwd: dir, stdio: ["ignore", "pipe", "pipe"], env: {} });
  try {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs)]);
    return await new Promise<Verdict>((resolve, reject) => {
      let console_ = "";
      let messages = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        console_ = (console_ + text).slice(-65_536);
        if (AGENT_LINE.test(console_)) resolve({ kvm: true, reason: "a guest booted to its agent under KVM" });
      });
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        messages = (messages + text).slice(-1024);
      });
      child.once("error", reject);
      child.once("close", () => resolve({ kvm: false, reason: `the VMM ended: ${messages.trim() || "no message"}` }));
      limited.addEventListener("abort", () => {
        if (signal.aborted) reject(signal.reason);
        const seen = console_ === "" ? "never printed a line" : "did not reach its agent";
        resolve({ kvm: false, reason: `/dev/kvm opens, but the guest ${seen} within ${options.timeoutMs} ms` });
      });
    });
  } catch (err) {
    signal.throwIfAborted();
    return { kvm: false, reason: messageOf(err) };
  } finally {
    if (child.exitCode === null && child.signalCode === null) {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
    }
    await rm(dir, { recursive: true, force: true });
  }
}

async function readCache(file: string, key: string): Promise<Verdict | undefined> {
  try {
    const cached = JSON.parse(await readFile(file, "utf8")) as { key?: unknown; kvm?: unknown; reason?: unknown };
    if (cached.key !== key || typeof cached.kvm !== "boolean") return undefined;
    return { kvm: cached.kvm, reason: String(cached.reason) };
  } catch {
    return undefined;
  }
}
