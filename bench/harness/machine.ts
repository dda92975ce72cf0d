import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { promisify } from "node:util";
import type { HostFacts } from "@torpor/sdk";

export type Machine = Readonly<Record<string, string | number>>;

/**
 * What a figure is worth only together with.
 * @param facts of the host that runs the VMs, where there are any
 */
export async function describeMachine(facts: HostFacts | undefined, dataDir: string): Promise<Machine> {
  return {
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryMib: Math.round(totalmem() / 2 ** 20),
    /** Of the minute before: what else the machine was doing. */
    load: Math.round(loadavg()[0]! * 100) / 100,
    os: await osName(),
    kernel: release(),
    disk: await said("findmnt", ["--noheadings", "--output", "FSTYPE", "--target", dataDir]),
    ...(facts && {
      accelerator: facts.accelerator,
      vmm: facts.vmmVersion,
      guestKernel: facts.guestKernelVersion,
      agent: facts.agentVersion,
    }),
    node: process.version,
    commit: await said("git", ["-C", import.meta.dirname, "describe", "--always", "--dirty"]),
    ...(facts && { runc: await said("runc", ["--version"]), runsc: await said("runsc", ["--version"]) }),
  };
}

async function osName(): Promise<string> {
  const text = await readFile("/etc/os-release", "utf8").catch(() => "");
  return /^PRETTY_NAME="(.*)"$/m.exec(text)?.[1] ?? "unknown";
}

/** The first line that a program says; "–" when it is not there. */
async function said(program: string, args: readonly string[]): Promise<string> {
  try {
    return (await promisify(execFile)(program, args)).stdout.split("\n")[0]!.trim();
  } catch {
    return "–";
  }
}
