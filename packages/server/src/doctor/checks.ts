import { type Check, check, fail, type Outcome, ok, warn } from "./check.ts";
import type { CommandName, DeviceFact, Facts } from "./facts.ts";
import { compareVersions, findVersion, formatVersion } from "./version.ts";

const NODE_NEEDED = [24];
/** 10.0 with the guest kernel 6.12 is the pair that is tested; older versions hang now and then with it. */
const QEMU_NEEDED = [10, 0];
const GIB = 2 ** 30;
const DAY_MS = 86_400_000;

/** The bits of capability.h that the server uses, and what for. */
const CAPABILITIES: readonly (readonly [bit: bigint, name: string, use: string])[] = [
  [12n, "CAP_NET_ADMIN", "networks of microvms"],
  [21n, "CAP_SYS_ADMIN", "namespaces"],
  [19n, "CAP_SYS_PTRACE", "guest memory"],
  [6n, "CAP_SETGID", "VMMs without privileges"],
  [7n, "CAP_SETUID", "VMMs without privileges"],
  [0n, "CAP_CHOWN", "VMMs without privileges"],
];
const PACKAGES: Readonly<Record<CommandName, string>> = {
  ip: "iproute2",
  tc: "iproute2",
  nft: "nftables",
  nsenter: "util-linux",
  sysctl: "procps",
  mke2fs: "e2fsprogs",
};

/** Everything there is to check, in the order in which it is best mended. */
export function checkAll(facts: Facts): readonly Check[] {
  return [
    check("node", "Node 24 or newer", node(facts)),
    check("rights", "root, or the capabilities of a microvm host", rights(facts)),
    check("qemu", "QEMU 10.0 or newer", qemu(facts)),
    check("kvm", "/dev/kvm, for speed and isolation", kvm(facts)),
    check("isolation", "KVM that boots a guest of ours", isolation(facts)),
    check("tun", "/dev/net/tun, for the microvms' networks", tun(facts)),
    ...commands(facts),
    check("artifacts", "guest kernel, initramfs, helper, base image and build toolchain", artifacts(facts)),
    check("data directory", "writable, with 5 GiB free", dataDir(facts)),
    ...facts.ports.map((port) => check(port.name, `port ${port.port} on ${port.host}, free`, portOf(port))),
    ...facts.certificates.map((fact) =>
      check(CERTIFICATES[fact.kind], "one that clients accept", certificate(fact, facts)),
    ),
    check("clock", "a clock that is right", clock(facts)),
    check("user namespaces", "user namespaces, for image builds", userNamespaces(facts)),
    check("ip forwarding", "net.ipv4.ip_forward, for the microvms' way out", ipForward(facts)),
  ];
}

function node({ nodeVersion }: Facts): Outcome {
  const version = findVersion(nodeVersion);
  if (version === undefined || compareVersions(version, NODE_NEEDED) < 0) return fail(nodeVersion, "scripts/setup.sh");
  return ok(formatVersion(version));
}

function rights({ uid, capabilities }: Facts): Outcome {
  if (uid === 0 && capabilities === 0n) return ok("root");
  const missing = CAPABILITIES.filter(([bit]) => ((capabilities >> bit) & 1n) === 0n);
  if (missing.length === 0) return ok(uid === 0 ? "root" : `user ${uid} with the capabilities that are needed`);
  const list = missing.map(([, name, use]) => `${name} (${use})`).join(", ");
  return fail(`${uid === 0 ? "root" : `user ${uid}`} without ${list}`, "sudo torpor serve");
}

function qemu({ qemu, distribution }: Facts): Outcome {
  const mend = qemuFix(distribution.id, distribution.versionId);
  if ("error" in qemu) return fail(`${qemu.binary}: ${qemu.error}`, mend);
  const version = findVersion(qemu.said);
  if (version === undefined) return fail(`${qemu.binary} said ${JSON.stringify(qemu.said.slice(0, 80))}`, mend);
  if (compareVersions(version, QEMU_NEEDED) < 0) return fail(formatVersion(version), mend);
  return ok(formatVersion(version));
}

/** The command that brings QEMU 10, where the distribution has it. */
export function qemuFix(id: string, versionId: string): string {
  const install = "apt-get install -y --no-install-recommends";
  if (id === "debian" && versionId === "12")
    return `scripts/setup.sh, or with bookworm-backports among apt's sources: ${install} -t bookworm-backports qemu-system-x86 qemu-utils`;
  const number = Number(versionId);
  if (id === "debian" && (versionId === "" || number >= 13)) return `${install} qemu-system-x86 qemu-utils`;
  if (id === "ubuntu" && number >= 25.1) return `${install} qemu-system-x86 qemu-utils`;
  return "install QEMU 10.0 or newer and name it with --qemu-binary: this distribution's own is older, or unknown to Torpor";
}

function kvm({ kvm, acceleratorSetting }: Facts): Outcome {
  if (kvm === "opens") return ok("/dev/kvm opens");
  const found = deviceText("/dev/kvm", kvm);
  const mend =
    "enable virtualisation in the firmware, or in the outer virtual machine, and modprobe kvm_intel or kvm_amd";
  if (acceleratorSetting === "kvm") return fail(found, `${mend}; or --accelerator auto`);
  return warn(`${found}: microvms will be emulated`, mend);
}

function isolation({ accelerator, acceleratorSetting }: Facts): Outcome {
  if ("unknown" in accelerator)
    return warn(`not known: ${accelerator.unknown}`, "mend what is said below, and ask again: torpor doctor");
  if (accelerator.kvm) return ok(`hardware (${accelerator.reason})`);
  if (acceleratorSetting === "kvm") return fail(accelerator.reason, "--accelerator auto, or a machine where KVM works");
  return warn(
    `emulated: not a security boundary (${accelerator.reason})`,
    "run only code that you trust, for one account only (allow-emulated-accounts), or use a machine where KVM works",
  );
}

function tun({ tun }: Facts): Outcome {
  if (tun === "opens") return ok("/dev/net/tun opens");
  return fail(deviceText("/dev/net/tun", tun), "modprobe tun, and give the server the right to open it");
}

function deviceText(path: string, device: Exclude<DeviceFact, "opens">): string {
  return device === "missing" ? `${path} is missing` : `${path} does not open: ${device.refused}`;
}

function commands({ commands }: Facts): Check[] {
  const names: readonly CommandName[] = ["ip", "tc", "nft", "nsenter", "sysctl", "mke2fs"];
  return names.map((name) => {
    const path = commands[name];
    const outcome = path === undefined ? fail("not found", `apt-get install -y ${PACKAGES[name]}`) : ok(path);
    return check(name, `the command ${name}`, outcome);
  });
}

function artifacts({ artifacts: { dir, items } }: Facts): Outcome {
  const bad = items.filter((item) => item.problem !== undefined);
  if (bad.length > 0)
    return fail(
      bad.map((item) => `${item.manifest}: ${item.problem}`).join("; "),
      `scripts/setup.sh, or --artifacts-dir with where it put them (now ${dir})`,
    );
  return ok(`${dir}: ${items.map((item) => item.detail).join(", ")}`);
}

function dataDir({ dataDir: { path, problem, freeBytes } }: Facts): Outcome {
  if (problem !== undefined)
    return fail(`${path}: ${problem}`, "--data-dir with a folder that the server may write to");
  const found = `${path}, ${(freeBytes / GIB).toFixed(1)} GiB free`;
  if (freeBytes < GIB) return fail(found, "free some space, or --data-dir on another file system");
  if (freeBytes < 5 * GIB) return warn(found, "free some space: each image takes its size, each suspension its memory");
  return ok(found);
}

function portOf({ name, port, state }: Facts["ports"][number]): Outcome {
  if (state === "free") return ok(port === 0 ? "any free port" : "free");
  if (state === "torpor")
    return warn("a Torpor server listens there already", `--${name} with another port for a second one`);
  return fail(state.refused, `--${name} with another port, or stop what uses it`);
}

const CERTIFICATES = {
  authority: "certificate authority",
  issued: "endpoint certificate",
  own: "endpoint certificate",
} as const;
/** Ours are renewed 30 days ahead, the authority 90; of the user's own two weeks are enough to do something. */
const EARLY_DAYS = { authority: 90, issued: 28, own: 14 } as const;
const RENEWAL = {
  authority: "torpor serve makes a new one, which clients have to trust anew: torpor trust",
  issued: "torpor serve, which makes a new one and then renews it by itself",
  own: "renew it: a server that runs takes the new one by itself, or at kill -HUP",
} as const;

function certificate(fact: Facts["certificates"][number], { now }: Facts): Outcome {
  const { kind, file } = fact;
  if ("problem" in fact) {
    if (kind === "own")
      return fail(fact.problem, "mend the file; a server that runs goes on with what it read before, until its end");
    return warn(fact.problem, kind === "issued" ? "torpor doctor as the server's user" : `mend ${file}`);
  }
  if (fact.until === undefined) return ok("made when the server starts");
  const days = Math.floor((fact.until.getTime() - now.getTime()) / DAY_MS);
  const found = `${file}, until ${fact.until.toISOString().slice(0, 10)}`;
  if (days < 0) return (kind === "own" ? fail : warn)(`${found}: it has expired`, RENEWAL[kind]);
  if (days < EARLY_DAYS[kind]) return warn(`${found}: ${days} days are left`, RENEWAL[kind]);
  return ok(found);
}

function clock({ now, installedAt }: Facts): Outcome {
  const found = now.toISOString();
  if (now.getTime() < installedAt.getTime() - DAY_MS)
    return fail(`${found}, before this program was written (${installedAt.toISOString()})`, "timedatectl set-ntp true");
  if (now.getUTCFullYear() > installedAt.getUTCFullYear() + 20)
    return fail(`${found}, which cannot be`, "timedatectl set-ntp true");
  return ok(found);
}

function userNamespaces({ userNamespaces: { works, detail } }: Facts): Outcome {
  if (works) return ok(detail);
  return fail(
    detail,
    "sysctl -w user.max_user_namespaces=10000, and kernel.unprivileged_userns_clone=1 where it exists",
  );
}

function ipForward({ ipForward }: Facts): Outcome {
  return ipForward ? ok("on") : ok("off: the server turns it on when it starts");
}
