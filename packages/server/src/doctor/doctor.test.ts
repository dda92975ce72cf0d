import { createHash } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Config, loadConfig } from "../config.ts";
import { issueAuthority, issueServer } from "../endpoint/certificate/issue.ts";
import { readIdentity } from "../endpoint/certificate/pem.ts";
import type { Check } from "./check.ts";
import { runDoctor } from "./doctor.ts";

const signal = new AbortController().signal;
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-doctor-"));
});
afterEach(() => rm(dir, { recursive: true }));

/** A machine's worth of files in a folder. */
async function prepare(flags: Record<string, unknown> = {}): Promise<Config> {
  const artifactsDir = join(dir, "artifacts");
  await mkdir(join(artifactsDir, "toolchain-1"), { recursive: true });
  for (const name of ["kernel", "initramfs", "helper", "base-debian-12"]) {
    await writeFile(join(artifactsDir, `${name}.bin`), name);
    const sha256 = createHash("sha256").update(name).digest("hex");
    const manifest = { schema: 1, path: `${name}.bin`, sha256, version: "1.0" };
    await writeFile(join(artifactsDir, `${name}.json`), JSON.stringify(manifest));
  }
  await writeFile(join(artifactsDir, "toolchain.json"), '{"schema":1,"path":"toolchain-1","buildah":"1.39.3"}');
  const qemuBinary = join(dir, "qemu");
  await writeFile(qemuBinary, "#!/bin/sh\necho QEMU emulator version 10.0.2\n");
  await chmod(qemuBinary, 0o755);
  const dataDir = join(dir, "not", "yet", "there");
  return loadConfig({ env: {}, flags: { artifactsDir, dataDir, qemuBinary, apiPort: 0, endpointPort: 0, ...flags } })
    .config;
}

async function diagnose(config: Config): Promise<Map<string, Check>> {
  const { checks } = await runDoctor(config, {}, signal);
  return new Map(checks.map((check) => [check.name, check]));
}

test("looks at real files and leaves nothing behind", async () => {
  const checks = await diagnose(await prepare());
  expect(checks.get("qemu")).toMatchObject({ status: "ok", found: "10.0.2" });
  expect(checks.get("artifacts")).toMatchObject({ status: "ok" });
  expect(checks.get("artifacts")?.found).toContain("toolchain 1.39.3");
  expect(checks.get("data directory")?.found).toContain("GiB free");
  expect((await readdir(dir)).sort()).toEqual(["artifacts", "qemu"]);
});

test("notices an artifact that has changed, and one that is gone", async () => {
  const config = await prepare();
  await writeFile(join(config.artifactsDir, "kernel.bin"), "something else");
  await rm(join(config.artifactsDir, "base-debian-12.json"));
  const check = (await diagnose(config)).get("artifacts");
  expect(check?.status).toBe("fail");
  expect(check?.found).toMatch(/kernel\.json: .*kernel\.bin is not what it was made as; base-\*\.json: not there/);
  expect(check?.howToFix).toContain("scripts/setup.sh");
});

test("says who holds a port", async () => {
  const other = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const address = other.address();
  const apiPort = typeof address === "object" ? address?.port : undefined;
  try {
    const check = (await diagnose(await prepare({ apiPort }))).get("api-port");
    expect(check).toMatchObject({ status: "fail", found: "another program uses it" });
  } finally {
    await new Promise((resolve) => other.close(resolve));
  }
});

test("a QEMU that is not there is a finding, not an error", async () => {
  const check = (await diagnose(await prepare({ qemuBinary: join(dir, "nothing") }))).get("qemu");
  expect(check).toMatchObject({ status: "fail", found: `${join(dir, "nothing")}: not there` });
});

test("a guest that cannot be booted leaves the isolation unknown", async () => {
  const config = await prepare();
  const probeAccelerator = async () => Promise.reject(new Error("no kernel"));
  const report = await runDoctor(config, { probeAccelerator }, signal);
  const found = report.checks.find((check) => check.name === "isolation")?.found;
  expect(found).toMatch(/no kernel|dev\/kvm does not open/);
});

test("reads the endpoint's own certificate as the server would", async () => {
  const [endpointCertificate, endpointKey] = [join(dir, "own.pem"), join(dir, "own.key")];
  const config = await prepare({ endpointCertificate, endpointKey, endpointDomain: "vm.example.org" });
  expect((await diagnose(config)).get("endpoint certificate")).toMatchObject({
    status: "fail",
    found: expect.stringContaining(`${endpointCertificate} is not there`),
  });
  const validity = { from: new Date(Date.now() - 1000), to: new Date(Date.now() + 90 * 86_400_000) };
  const ca = readIdentity(issueAuthority("test", "example.org", validity));
  const made = issueServer({ name: "test", key: ca.privateKey }, ["*.vm.example.org"], validity);
  await writeFile(endpointCertificate, made.certificate);
  await writeFile(endpointKey, made.key);
  expect((await diagnose(config)).get("endpoint certificate")).toMatchObject({ status: "ok" });
});
