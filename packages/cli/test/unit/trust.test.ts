import { execFileSync, spawnSync } from "node:child_process";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readAuthority } from "../../src/trust/authority.ts";
import { browserStores } from "../../src/trust/browser-stores.ts";
import { systemAdvice, systemStore } from "../../src/trust/system-store.ts";
import { torpor } from "./torpor.ts";

const openssl = (...args: string[]): string => execFileSync("openssl", args, { encoding: "utf8", stdio: "pipe" });
const CERTUTIL = spawnSync("certutil", ["-H"]).error === undefined;
const PATH = process.env.PATH ?? "";

let dir: string;
let ca: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-trust-"));
  ca = join(dir, "ca.pem");
  makeAuthority(ca, "Torpor CA 0a1b2c3d");
});
afterEach(() => rm(dir, { recursive: true }));

function makeAuthority(file: string, name: string): void {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", join(dir, "ca.key")];
  openssl("req", "-x509", ...key, "-days", "30", "-subj", `/CN=${name}`, "-out", file);
}

describe("the system's store", () => {
  const folder = "usr/local/share/ca-certificates";
  let bin: string;
  let log: string;
  beforeEach(async () => {
    bin = join(dir, "bin");
    log = join(dir, "ran");
    await mkdir(bin);
    await mkdir(join(dir, folder), { recursive: true });
    await writeFile(join(bin, "update-ca-certificates"), `#!/bin/sh\necho updated >> ${log}\n`);
    await chmod(join(bin, "update-ca-certificates"), 0o755);
  });

  test("gets the authority once, and loses it again", async () => {
    const store = systemStore("linux", bin, dir)!;
    const authority = readAuthority(ca);
    const file = join(dir, folder, "torpor-ca-0a1b2c3d.crt");
    expect(await store.has(authority)).toBe(false);
    expect(await store.install(authority)).toEqual([`wrote ${file}`, "ran update-ca-certificates"]);
    expect(await readFile(file, "utf8")).toBe(await readFile(ca, "utf8"));
    expect(await store.has(authority)).toBe(true);
    expect(await store.install(authority)).toEqual([]);
    expect(await readFile(log, "utf8")).toBe("updated\n");
    await writeFile(join(dir, folder, "another.crt"), "somebody else's");
    expect(await store.uninstall(authority)).toEqual([`removed ${file}`, "ran update-ca-certificates"]);
    expect(await store.uninstall(authority)).toEqual([]);
    expect(await readdir(join(dir, folder))).toEqual(["another.crt"]);
    expect(await readFile(log, "utf8")).toBe("updated\nupdated\n");
  });

  test("a program that fails is named with what it said", async () => {
    await writeFile(join(bin, "update-ca-certificates"), "#!/bin/sh\necho no room >&2\nexit 3\n");
    await expect(systemStore("linux", bin, dir)!.install(readAuthority(ca))).rejects.toThrow(
      /update-ca-certificates failed: no room/,
    );
  });

  test("on macOS the command is shown, and nothing is done", () => {
    expect(systemStore("darwin", bin, dir)).toBeUndefined();
    expect(systemAdvice("darwin", readAuthority(ca)).install).toContain(`add-trusted-cert -d -r trustRoot`);
  });
});

describe("browsers", () => {
  test.skipIf(!CERTUTIL)("Chromium and each profile of Firefox get the authority once, and lose it again", async () => {
    const folders = [".pki/nssdb", ".mozilla/firefox/abc.default"].map((name) => join(dir, name));
    for (const folder of folders) {
      await mkdir(folder, { recursive: true });
      execFileSync("certutil", ["-N", "--empty-password", "-d", `sql:${folder}`]);
    }
    await mkdir(join(dir, ".mozilla/firefox/Crash Reports"));
    const authority = readAuthority(ca);
    const stores = browserStores(dir, PATH);
    expect(stores.map(({ name }) => name)).toEqual([`Chromium and Chrome, ${folders[0]}`, `Firefox, ${folders[1]}`]);
    for (const [n, store] of stores.entries()) {
      expect(await store.has(authority)).toBe(false);
      expect(await store.uninstall(authority)).toEqual([]);
      expect(await store.install(authority)).toHaveLength(1);
      expect(await store.install(authority)).toEqual([]);
      const listed = execFileSync("certutil", ["-L", "-d", `sql:${folders[n]}`], { encoding: "utf8" });
      expect(listed).toMatch(/^Torpor CA 0a1b2c3d +C,, *$/m); // servers only: not for mail, not for code
      expect(await store.has(authority)).toBe(true);
      expect(await store.uninstall(authority)).toHaveLength(1);
      expect(await store.has(authority)).toBe(false);
    }
  });

  test("without certutil it says what to install", async () => {
    await mkdir(join(dir, ".pki/nssdb"), { recursive: true });
    await writeFile(join(dir, ".pki/nssdb/cert9.db"), "");
    const [store] = browserStores(dir, "/nonexistent");
    await expect(store!.install(readAuthority(ca))).rejects.toMatchObject({
      hint: expect.stringContaining("libnss3-tools"),
    });
  });
});

describe("the command", () => {
  test("changes nothing unless it is told where", async () => {
    const { code, stdout } = await torpor(["trust", "--ca-file", ca], { HOME: dir, PATH });
    expect(code).toBe(0);
    expect(stdout).toContain("Torpor CA 0a1b2c3d, until ");
    expect(stdout).toMatch(/SHA-256 ([0-9A-F]{2}:){31}/);
    expect(stdout).toContain(`curl --cacert ${ca}`);
    expect((await readdir(dir)).sort()).toEqual(["ca.key", "ca.pem"]);
  });

  test("prints the authority for other machines, and no key", async () => {
    const { code, stdout } = await torpor(["trust", "--print", "--ca-file", ca]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: await readFile(ca, "utf8") });
  });

  test("takes the authority that the server wrote down", async () => {
    const credentials = { endpointUrl: "http://127.0.0.1:1", accessKeyId: "A", secretAccessKey: "S", caFile: ca };
    await writeFile(join(dir, "credentials.json"), JSON.stringify(credentials));
    const { stdout } = await torpor(["trust", "--json"], { HOME: dir, PATH, TORPOR_DATA_DIR: dir });
    expect(JSON.parse(stdout)).toMatchObject({ authority: { file: ca, name: "Torpor CA 0a1b2c3d" } });
  });

  test("a browser that was never started has nothing to install to", async () => {
    const { code, stdout } = await torpor(["trust", "--browsers", "--ca-file", ca], { HOME: dir, PATH });
    expect(code).toBe(0);
    expect(stdout).toContain("start it once");
  });

  test("what is no authority is refused, and what contradicts itself", async () => {
    const pem = join(dir, "leaf.pem");
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", join(dir, "k")];
    openssl("req", "-x509", ...key, "-subj", "/CN=leaf", "-addext", "basicConstraints=critical,CA:FALSE", "-out", pem);
    const refused = async (...args: string[]): Promise<string> => {
      const { code, stderr } = await torpor(["trust", ...args], { HOME: dir, PATH });
      return `${code} ${stderr}`;
    };
    expect(await refused("--ca-file", pem)).toMatch(/^2 .*is a certificate, but not an authority's/);
    expect(await refused("--ca-file", join(dir, "ca.key"))).toMatch(/^2 .*no certificate in PEM/);
    expect(await refused("--ca-file", join(dir, "nothing"))).toMatch(/^1 .*cannot be read/);
    expect(await refused("--ca-file", ca, "--uninstall")).toMatch(/^2 .*from where/);
    expect(await refused("--ca-file", ca, "--print", "--system")).toMatch(/^2 /);
  });
});
