import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { access, mkdtemp, open, readdir, readFile, rm, stat, statfs } from "node:fs/promises";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import type { Config } from "../config.ts";
import { errnoOf, messageOf } from "../lib/errors.ts";
import { run } from "../lib/run.ts";
import { certificateFacts } from "./certificates.ts";
import type { ArtifactFact, CommandName, DeviceFact, Facts, PortFact, ProbeAccelerator } from "./facts.ts";
import { parseOsRelease } from "./version.ts";

/** Looks at the machine. Changes nothing, needs no rights, and whatever cannot be seen is a fact too. */
export async function gatherFacts(
  config: Config,
  probe: ProbeAccelerator | undefined,
  signal: AbortSignal,
): Promise<Facts> {
  const kvm = await device("/dev/kvm");
  const now = new Date();
  const [tun, qemu, commands, artifacts, dataDir, ports, certificates, userNamespaces, installed] = await Promise.all([
    device("/dev/net/tun"),
    qemuFact(config.qemuBinary, signal),
    commandFacts(),
    artifactFacts(config),
    dataDirFact(config.dataDir),
    portFacts(config, signal),
    certificateFacts(config, now),
    userNamespaceFact(signal),
    stat(fileURLToPath(import.meta.url)),
  ]);
  return {
    nodeVersion: process.version,
    uid: process.getuid?.() ?? -1,
    capabilities: await effectiveCapabilities(),
    distribution: parseOsRelease(await textOrEmpty("/etc/os-release")),
    qemu,
    kvm,
    tun,
    accelerator: await verdict(config, kvm, probe, signal),
    acceleratorSetting: config.accelerator,
    commands,
    artifacts: { dir: config.artifactsDir, items: artifacts },
    dataDir,
    ports,
    certificates,
    now,
    installedAt: installed.mtime,
    userNamespaces,
    ipForward: (await textOrEmpty("/proc/sys/net/ipv4/ip_forward")).trim() === "1",
  };
}

async function verdict(
  config: Config,
  kvm: DeviceFact,
  probe: ProbeAccelerator | undefined,
  signal: AbortSignal,
): Promise<Facts["accelerator"]> {
  if (config.accelerator === "tcg") return { kvm: false, reason: "the setting accelerator is tcg" };
  if (kvm !== "opens") return { kvm: false, reason: "/dev/kvm does not open" };
  if (probe === undefined) return { unknown: "no guest was booted" };
  try {
    return await probe(signal);
  } catch (err) {
    signal.throwIfAborted();
    return { unknown: `no guest could be booted: ${messageOf(err)}` };
  }
}

async function textOrEmpty(path: string): Promise<string> {
  return readFile(path, "utf8").catch(() => "");
}

async function effectiveCapabilities(): Promise<bigint> {
  const found = /^CapEff:\s*([0-9a-f]+)$/m.exec(await textOrEmpty("/proc/self/status"));
  return found ? BigInt(`0x${found[1]}`) : 0n;
}

async function device(path: string): Promise<DeviceFact> {
  try {
    await using _ = await open(path, constants.O_RDWR);
    return "opens";
  } catch (err) {
    const code = errnoOf(err);
    return code === "ENOENT" ? "missing" : { refused: code ?? messageOf(err) };
  }
}

async function qemuFact(binary: string, signal: AbortSignal): Promise<Facts["qemu"]> {
  try {
    return { binary, said: (await run(binary, ["--version"], { signal })).split("\n")[0] ?? "" };
  } catch (err) {
    signal.throwIfAborted();
    return { binary, error: errnoOf(err) === "ENOENT" ? "not there" : messageOf(err) };
  }
}

const PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

async function commandFacts(): Promise<Facts["commands"]> {
  const names = ["ip", "tc", "nft", "nsenter", "sysctl", "mke2fs"] as const;
  const found = await Promise.all(names.map(async (name) => [name, await find(name)] as const));
  return Object.fromEntries(found) as Facts["commands"];
}

async function find(name: CommandName): Promise<string | undefined> {
  for (const dir of PATH) {
    const path = join(dir, name);
    const there = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (there) return path;
  }
  return undefined;
}

const MANIFESTS = ["kernel.json", "initramfs.json", "helper.json", "toolchain.json"] as const;

async function artifactFacts({ artifactsDir: dir, helperBinary }: Config): Promise<readonly ArtifactFact[]> {
  const names = await readdir(dir).catch((): string[] => []);
  const bases = names.filter((name) => /^base-.+\.json$/.test(name)).sort();
  const fixed = MANIFESTS.filter((name) => helperBinary === "" || name !== "helper.json");
  const manifests = [...fixed, ...(bases.length === 0 ? ["base-*.json"] : bases)];
  return Promise.all(manifests.map((manifest) => artifactFact(dir, manifest)));
}

/** A manifest names a path beside it, and the sha256 that it must have when it is a file. */
async function artifactFact(dir: string, manifest: string): Promise<ArtifactFact> {
  const kind = manifest.replace(/\.json$/, "");
  const bad = (problem: string): ArtifactFact => ({ manifest, problem, detail: kind });
  let fields: Map<string, unknown>;
  try {
    fields = new Map(Object.entries(Object(JSON.parse(await readFile(join(dir, manifest), "utf8")))));
  } catch (err) {
    return bad(errnoOf(err) === "ENOENT" ? "not there" : messageOf(err));
  }
  const path = fields.get("path");
  const sha256 = fields.get("sha256");
  if (typeof path !== "string") return bad("it names no path");
  try {
    const full = resolve(dir, path);
    if (typeof sha256 === "string" && (await sha256Of(full)) !== sha256)
      return bad(`${full} is not what it was made as`);
    if (sha256 === undefined && !(await stat(full)).isDirectory()) return bad(`${full} has no checksum`);
  } catch (err) {
    return bad(messageOf(err));
  }
  const version = ["version", "agentVersion", "buildah", "os"]
    .map((name) => fields.get(name))
    .find((v) => v !== undefined);
  return { manifest, problem: undefined, detail: version === undefined ? kind : `${kind} ${String(version)}` };
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

/** The nearest folder that exists decides, and stays as it is. */
async function dataDirFact(path: string): Promise<Facts["dataDir"]> {
  let existing = path;
  while ((await stat(existing).catch(() => undefined)) === undefined && dirname(existing) !== existing)
    existing = dirname(existing);
  try {
    const trial = await mkdtemp(join(existing, ".torpor-doctor-"));
    await rm(trial, { recursive: true });
    const { bavail, bsize } = await statfs(existing);
    return { path, problem: undefined, freeBytes: bavail * bsize };
  } catch (err) {
    return { path, problem: messageOf(err), freeBytes: 0 };
  }
}

/** A port in use is ours when a Torpor answers on the API's port; the endpoint's says nothing to strangers. */
async function portFacts(config: Config, signal: AbortSignal): Promise<readonly PortFact[]> {
  const { apiHost, apiPort, endpointHost, endpointPort } = config;
  const [api, endpoint] = await Promise.all([tryPort(apiHost, apiPort), tryPort(endpointHost, endpointPort)]);
  const ours = api === "EADDRINUSE" && (await isTorpor(apiHost, apiPort, signal));
  const state = (errno: string | undefined): PortFact["state"] => {
    if (errno === undefined) return "free";
    if (errno !== "EADDRINUSE") return { refused: errno };
    return ours ? "torpor" : { refused: "another program uses it" };
  };
  return [
    { name: "api-port", host: apiHost, port: apiPort, state: state(api) },
    { name: "endpoint-port", host: endpointHost, port: endpointPort, state: state(endpoint) },
  ];
}

/** Listens for a moment: undefined, or why that is refused. */
async function tryPort(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (err) => resolve(errnoOf(err) ?? err.message));
    server.listen(port, host, () => server.close(() => resolve(undefined)));
  });
}

async function isTorpor(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(2000)]);
  const at = host.includes(":") ? `[${host}]` : host;
  try {
    const answer = await fetch(`http://${at}:${port}/torpor/v1/health`, { signal: limited, redirect: "error" });
    await answer.arrayBuffer();
    return answer.headers.has("x-amzn-requestid");
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

async function userNamespaceFact(signal: AbortSignal): Promise<Facts["userNamespaces"]> {
  try {
    await run("unshare", ["--user", "--map-root-user", "true"], { signal });
    return { works: true, detail: "they can be made" };
  } catch (err) {
    signal.throwIfAborted();
    return { works: false, detail: errnoOf(err) === "ENOENT" ? "unshare (util-linux) is not there" : messageOf(err) };
  }
}
