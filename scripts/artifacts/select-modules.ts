// The kernel modules that a guest needs, with what they depend on, decompressed, in the order in which they load.
// usage: node select-modules.ts TREE OUT, where TREE is lib/modules/VERSION of a kernel package
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gunzipSync, zstdDecompressSync } from "node:zlib";

/** Folder in the initramfs → modules. The agent loads `boot` at once, `container` for containers with all capabilities. */
const WANTED: Readonly<Record<string, readonly string[]>> = {
  boot: ["virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "ext4", "tcp_diag"],
  container: ["overlay", "fuse"],
};

class ModuleTree {
  readonly #paths = new Map<string, string>();
  readonly #builtin: ReadonlySet<string>;

  constructor(dir: string) {
    for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true }))
      if (entry.isFile() && /\.ko(\.(xz|gz|zst))?$/.test(entry.name))
        this.#paths.set(moduleName(entry.name), join(entry.parentPath, entry.name));
    this.#builtin = new Set(readFileSync(join(dir, "modules.builtin"), "utf8").trim().split("\n").map(moduleName));
  }

  /** The module and what it needs, dependencies first; nothing for what is built in. */
  *withDependencies(name: string, seen: Set<string>): Generator<{ name: string; data: Buffer }> {
    if (seen.has(name) || this.#builtin.has(name)) return;
    seen.add(name);
    const path = this.#paths.get(name);
    if (!path) throw new Error(`the kernel has no module ${name} and does not have it built in`);
    const data = unpack(path);
    for (const dependency of dependenciesOf(data)) yield* this.withDependencies(dependency, seen);
    yield { name, data };
  }
}

/** `a-b.ko.xz` and `a_b` are the same module. */
function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.\w+)?$/, "")
    .replaceAll("-", "_");
}

function unpack(path: string): Buffer {
  const data = readFileSync(path);
  if (path.endsWith(".xz")) return execFileSync("xz", ["-dc"], { input: data, maxBuffer: 64 << 20 });
  if (path.endsWith(".zst")) return zstdDecompressSync(data);
  if (path.endsWith(".gz")) return gunzipSync(data);
  return data;
}

/** From the .modinfo section: NUL-terminated `key=value` texts. */
function dependenciesOf(module: Buffer): string[] {
  const key = "\0depends=";
  const text = module.toString("latin1");
  const at = text.indexOf(key);
  if (at < 0) return [];
  const value = text.slice(at + key.length, text.indexOf("\0", at + 1));
  return value.split(",").filter(Boolean).map(moduleName);
}

const [tree, out] = process.argv.slice(2);
if (!tree || !out) throw new Error("usage: select-modules.ts TREE OUT");
const modules = new ModuleTree(tree);
const seen = new Set<string>();
for (const [folder, names] of Object.entries(WANTED)) {
  mkdirSync(join(out, folder), { recursive: true });
  const list: string[] = [];
  for (const wanted of names)
    for (const { name, data } of modules.withDependencies(wanted, seen)) {
      list.push(`${name}.ko`);
      writeFileSync(join(out, folder, `${name}.ko`), data);
    }
  writeFileSync(join(out, folder, "list"), list.map((name) => `${name}\n`).join(""));
  console.error(`modules for ${folder}: ${list.join(" ")}`);
}
