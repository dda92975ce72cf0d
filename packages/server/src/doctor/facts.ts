import type { Distribution } from "./version.ts";

/** What was found on the machine: plain data, so that the checks can be tried on any machine's. */
export interface Facts {
  readonly nodeVersion: string;
  readonly uid: number;
  /** Effective capabilities, a bit each (capability.h); 0n when they cannot be read. */
  readonly capabilities: bigint;
  readonly distribution: Distribution;
  readonly qemu:
    | { readonly binary: string; readonly said: string }
    | { readonly binary: string; readonly error: string };
  readonly kvm: DeviceFact;
  readonly tun: DeviceFact;
  /** Whether KVM ran a guest of ours, or why nobody knows. */
  readonly accelerator: AcceleratorVerdict | { readonly unknown: string };
  readonly acceleratorSetting: "auto" | "kvm" | "tcg";
  /** Where each command is; undefined when it is nowhere in the path. */
  readonly commands: Readonly<Record<CommandName, string | undefined>>;
  readonly artifacts: { readonly dir: string; readonly items: readonly ArtifactFact[] };
  readonly dataDir: { readonly path: string; readonly problem: string | undefined; readonly freeBytes: number };
  readonly ports: readonly PortFact[];
  readonly certificates: readonly CertificateFact[];
  readonly now: Date;
  /** When this program's files were written: the clock cannot be before it. */
  readonly installedAt: Date;
  readonly userNamespaces: { readonly works: boolean; readonly detail: string };
  readonly ipForward: boolean;
}

export type CommandName = "ip" | "tc" | "nft" | "nsenter" | "sysctl" | "mke2fs";

/** `refused` carries the system's error name: EACCES, EPERM, ENXIO, … */
export type DeviceFact = "opens" | "missing" | { readonly refused: string };

export interface AcceleratorVerdict {
  readonly kvm: boolean;
  /** What was tried and what came of it. */
  readonly reason: string;
}

/** Boots our own guest kernel under KVM: nothing less proves that KVM works. */
export type ProbeAccelerator = (signal: AbortSignal) => Promise<AcceleratorVerdict>;

export interface ArtifactFact {
  /** `kernel.json`, … */
  readonly manifest: string;
  readonly problem: string | undefined;
  /** Version or name, when the manifest says one. */
  readonly detail: string;
}

export interface PortFact {
  /** The setting. */
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** `torpor`: a server of ours listens there. */
  readonly state: "free" | "torpor" | { readonly refused: string };
}

/** The authority, the certificate that it has issued, or the user's own instead of both. */
export type CertificateFact = { readonly kind: "authority" | "issued" | "own"; readonly file: string } & (
  | { readonly problem: string }
  /** Undefined: there is none yet. */
  | { readonly until: Date | undefined }
);
