import { execFileSync } from "node:child_process";
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RunMicrovmCommand, SuspendMicrovmCommand, TerminateMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import { afterAll, beforeAll, expect, test } from "vitest";
import { zipBytes } from "../build/zip-bytes.ts";
import {
  AWAKE_ON_REQUEST,
  buildImage,
  createImage,
  HELLO,
  RunningMicrovm,
  settledImage,
  untilState,
} from "./fixtures.ts";
import { eventually, failedStart, TestServer, zip } from "./server.ts";

const FROM = "FROM public.ecr.aws/lambda/microvms:al2023-minimal\n";

let server: TestServer;
beforeAll(async () => {
  server = await TestServer.start({ "ready-grace-seconds": "2", "max-artifact-bytes": "2000000" });
});
afterAll(() => server?.[Symbol.asyncDispose]());

/** Each artifact, and what the person who sent it reads. */
const REFUSED: Readonly<Record<string, { artifact: () => Promise<Buffer> | Buffer; reason: RegExp }>> = {
  "no-dockerfile": { artifact: () => zip({ "readme.txt": "hello" }), reason: /ARCHIVE_DOCKERFILE_NOT_FOUND/ },
  "not-a-zip": { artifact: () => Buffer.from("this is no zip"), reason: /ARCHIVE_INVALID/ },
  "too-large": { artifact: () => Buffer.alloc(2_000_001), reason: /2000001|2000000|too large|larger/i },
  "zip-slip": {
    artifact: () =>
      zipBytes([
        { name: "Dockerfile", content: FROM },
        { name: "../outside", content: "x" },
      ]),
    reason: /ARCHIVE_INVALID: .*\.\.\/outside/,
  },
  "link-out": {
    artifact: () =>
      zipBytes([
        { name: "Dockerfile", content: FROM },
        { name: "link", content: "../../../etc/passwd", mode: 0o120777 },
      ]),
    reason: /ARCHIVE_INVALID: .*link/,
  },
  "unknown-base": {
    artifact: () => zip({ Dockerfile: "FROM nobody/nothing:1\n" }),
    reason: /Dockerfile:1: base image "nobody\/nothing:1" is not available/,
  },
  "failing-run": {
    artifact: () => zip({ Dockerfile: `${FROM}RUN echo about to fail && exit 7\nCMD ["sleep", "1"]\n` }),
    reason: /^The container image build failed\.[\s\S]*7/,
  },
  "no-command": { artifact: () => zip({ Dockerfile: `${FROM}ENTRYPOINT []\nCMD []\n` }), reason: /CMD|ENTRYPOINT/ },
  "missing-program": {
    artifact: () => zip({ Dockerfile: `${FROM}CMD ["/no/such/program"]\n` }),
    reason: /could not be started.*\/no\/such\/program/,
  },
  "exits-at-once": {
    artifact: () => zip({ Dockerfile: `${FROM}CMD ["sh", "-c", "echo oh no; exit 3"]\n` }),
    reason: /Container Stopped with Exit Code: 3/,
  },
};

test.each(Object.keys(REFUSED))("%s: the build fails with a reason and leaves nothing", async (name) => {
  const { artifact, reason } = REFUSED[name]!;
  const image = await createImage(server, name, await artifact());
  const settled = await settledImage(server, image);
  expect(settled).toMatchObject({ state: "CREATE_FAILED", versionState: "FAILED" });
  expect(settled.stateReason).toMatch(reason);
  expect(await server.vmms()).toEqual([]);
  expect(await readdir(join(server.dataDir, "vms"))).toEqual([]);
  expect(await readdir(join(server.dataDir, "vmms"))).toEqual([]);
  expect(await readdir(join(server.dataDir, "templates"))).toEqual([]);
  const run = server.api.send(new RunMicrovmCommand({ imageIdentifier: image }));
  await expect(run).rejects.toMatchObject({
    name: "ResourceNotFoundException",
    message: `No active version found for MicroVM image ${image}`,
  });
});

test("a ready hook that is never answered with 200 fails the build when its time is over", async () => {
  const artifact = await zip({ Dockerfile: `${FROM}CMD ["sleep", "1000"]\n` });
  const image = await createImage(server, "never-ready", artifact, {
    hooks: { port: 9000, microvmImageHooks: { ready: "ENABLED", readyTimeoutInSeconds: 3 } },
  });
  const settled = await settledImage(server, image);
  expect(settled.stateReason).toBe("Ready hook invocation timed out after PT3S");
  expect(await server.vmms()).toEqual([]);
});

test("a second server on the same data directory ends and names the first", async () => {
  const { code, stderr } = await failedStart({ "data-dir": server.dataDir });
  expect(code).toBe(1);
  expect(stderr).toContain(String(server.pid));
});

test("a port in use is named, with the setting to change", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  const { port } = taken.address() as { port: number };
  const dataDir = await mkdtemp(join(tmpdir(), "torpor-vm-"));
  try {
    for (const setting of ["api-port", "endpoint-port"]) {
      const { code, stderr } = await failedStart({ "data-dir": dataDir, [setting]: String(port) });
      expect(code).toBe(1);
      expect(stderr).toContain(String(port));
      expect(stderr).toContain(setting);
    }
  } finally {
    taken.close();
    await rm(dataDir, { recursive: true });
  }
});

test("without root the server says what needs it", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "torpor-vm-"));
  try {
    await chmod(dataDir, 0o777);
    const asNobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", process.execPath];
    const { code, stderr } = await failedStart({ "data-dir": dataDir }, asNobody);
    expect(code).toBe(1);
    expect(stderr).toMatch(/root/);
  } finally {
    await rm(dataDir, { recursive: true });
  }
});

test("a QEMU that is missing or too old is refused at the start", async () => {
  const dataDir = await mkdtemp(join(tmpdir(), "torpor-vm-"));
  try {
    const missing = await failedStart({ "data-dir": dataDir, "qemu-binary": "/no/qemu" });
    expect(missing).toMatchObject({ code: 1 });
    expect(missing.stderr).toMatch(/QEMU is missing: \/no\/qemu/);
    const old = join(dataDir, "qemu");
    await writeFile(old, "#!/bin/sh\necho QEMU emulator version 7.2.22\n", { mode: 0o755 });
    const tooOld = await failedStart({ "data-dir": dataDir, "qemu-binary": old });
    expect(tooOld).toMatchObject({ code: 1 });
    expect(tooOld.stderr).toMatch(/QEMU 7\.2\.22 .*too old/);
  } finally {
    await rm(dataDir, { recursive: true });
  }
});

test("a full disk fails a build, leaves a microvm running, and is forgotten when there is space again", async () => {
  const mount = await mkdtemp(join(tmpdir(), "torpor-small-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=2200m", "tmpfs", mount]);
  try {
    await using small = await TestServer.start(
      { "reserved-disk-mib": "64", "ready-grace-seconds": "10" },
      { parent: mount },
    );
    const image = await buildImage(small, "hello", HELLO);
    const vm = await RunningMicrovm.run(small, image, AWAKE_ON_REQUEST);
    const before = await vm.hello();

    execFileSync("sh", ["-c", `head -c 10G /dev/zero > ${mount}/filler || true`], { stdio: "ignore" });
    execFileSync("truncate", ["-s", "-1M", join(mount, "filler")]); // room for the database, none for a snapshot
    await small.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id })).catch(() => {});
    await untilState(small, vm.id, "RUNNING");
    expect((await vm.hello()).memory).toBe(before.memory + 1);

    await rm(join(mount, "filler"));
    execFileSync("sh", ["-c", `head -c 200M /dev/zero > ${mount}/filler`]);
    const fill = await zip({ Dockerfile: `${FROM}RUN head -c 4G /dev/zero > /big\nCMD ["sleep", "1"]\n` });
    const settled = await settledImage(small, await createImage(small, "fill", fill));
    expect(settled.stateReason).toMatch(/DISK_STORAGE_FULL/);

    await rm(join(mount, "filler"));
    await small.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }));
    await untilState(small, vm.id, "SUSPENDED");
    expect((await vm.hello()).memory).toBe(before.memory + 2);
    await small.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
    await untilState(small, vm.id, "TERMINATED");
  } finally {
    await eventually("the small disk", async () => {
      try {
        execFileSync("umount", [mount], { stdio: "ignore" });
        return true;
      } catch {
        return undefined; // a process that just ended can still hold it
      }
    });
    await rm(mount, { recursive: true });
  }
});
