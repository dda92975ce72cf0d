import { describe, expect, test } from "vitest";
import type { Check } from "./check.ts";
import { checkAll, qemuFix } from "./checks.ts";
import type { Facts } from "./facts.ts";

const GIB = 2 ** 30;
const INSTALLED = new Date("2026-11-01T00:00:00Z");

/** A machine on which everything is as it should be. */
const GOOD: Facts = {
  nodeVersion: "v24.21.0",
  uid: 0,
  capabilities: 0x1ff_ffff_ffffn,
  distribution: { id: "debian", versionId: "12", name: "Debian GNU/Linux 12 (bookworm)" },
  qemu: { binary: "/usr/bin/qemu-system-x86_64", said: "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)" },
  kvm: "opens",
  tun: "opens",
  accelerator: { kvm: true, reason: "a guest booted" },
  acceleratorSetting: "auto",
  commands: {
    ip: "/sbin/ip",
    tc: "/sbin/tc",
    nft: "/usr/sbin/nft",
    nsenter: "/usr/bin/nsenter",
    sysctl: "/sbin/sysctl",
    mke2fs: "/sbin/mke2fs",
  },
  artifacts: { dir: "/a", items: [{ manifest: "kernel.json", problem: undefined, detail: "kernel 6.12" }] },
  dataDir: { path: "/var/lib/torpor", problem: undefined, freeBytes: 50 * GIB },
  ports: [{ name: "api-port", host: "127.0.0.1", port: 4700, state: "free" }],
  certificates: [
    { kind: "authority", file: "/var/lib/torpor/ca/ca.pem", until: new Date("2036-01-01T00:00:00Z") },
    { kind: "issued", file: "/var/lib/torpor/ca/endpoint.pem", until: new Date("2027-02-01T00:00:00Z") },
  ],
  now: new Date("2026-11-24T00:00:00Z"),
  installedAt: INSTALLED,
  userNamespaces: { works: true, detail: "they can be made" },
  ipForward: true,
};

function only(name: string, change: Partial<Facts>): Check {
  const checks = checkAll({ ...GOOD, ...change });
  const others = checks.filter((check) => check.name !== name && check.status !== "ok");
  expect(others).toEqual([]);
  const found = checks.find((check) => check.name === name);
  if (found === undefined) throw new Error(`no check ${name}`);
  return found;
}

test("a machine that has everything has nothing to fix", () => {
  const checks = checkAll(GOOD);
  expect(checks.filter((check) => check.status !== "ok" || check.howToFix !== null)).toEqual([]);
});

test.each([
  ["authority", "2027-02-01", "warn", /69 days are left/],
  ["issued", "2026-12-01", "warn", /7 days are left/],
  ["issued", "2026-11-23", "warn", /has expired/],
  ["own", "2026-12-01", "warn", /7 days are left/],
  ["own", "2026-11-23", "fail", /has expired/],
] as const)("a certificate (%s) that ends at %s: %s", (kind, end, status, found) => {
  const certificates = [{ kind, file: "/x.pem", until: new Date(`${end}T00:00:00Z`) }];
  const name = kind === "authority" ? "certificate authority" : "endpoint certificate";
  const result = only(name, { certificates });
  expect(result).toMatchObject({ status, found: expect.stringMatching(found) });
  expect(result.howToFix).not.toBeNull();
});

test("an own certificate that cannot be used fails with the reason", () => {
  const certificates = [{ kind: "own", file: "/x.pem", problem: "endpoint-key: /x.key is not the key" } as const];
  expect(only("endpoint certificate", { certificates })).toMatchObject({
    status: "fail",
    found: expect.stringContaining("not the key"),
  });
});

test("whatever is not well says how to fix it", () => {
  const nothing: Facts = {
    ...GOOD,
    nodeVersion: "v20.1.0",
    uid: 1000,
    capabilities: 0n,
    qemu: { binary: "/x", error: "not there" },
    kvm: "missing",
    tun: { refused: "EACCES" },
    accelerator: { kvm: false, reason: "/dev/kvm does not open" },
    commands: {
      ip: undefined,
      tc: undefined,
      nft: undefined,
      nsenter: undefined,
      sysctl: undefined,
      mke2fs: undefined,
    },
    artifacts: { dir: "/a", items: [{ manifest: "kernel.json", problem: "not there", detail: "kernel" }] },
    dataDir: { path: "/x", problem: "EACCES", freeBytes: 0 },
    ports: [{ name: "api-port", host: "::1", port: 1, state: { refused: "EACCES" } }],
    certificates: [{ kind: "own", file: "/x.pem", problem: "not there" }],
    now: new Date(0),
    userNamespaces: { works: false, detail: "EPERM" },
    ipForward: false,
  };
  for (const check of checkAll(nothing)) {
    if (check.status === "ok")
      expect(check.name).toBe("ip forwarding"); // the server turns it on
    else expect(check.howToFix, check.name).toMatch(/.{10}/);
  }
});

describe("isolation", () => {
  const isolation = (change: Partial<Facts>): Check => only("isolation", change);

  test("is hardware only when a guest booted", () => {
    expect(isolation({})).toMatchObject({ status: "ok", found: "hardware (a guest booted)" });
  });
  test("is said plainly when it is none", () => {
    const check = isolation({ accelerator: { kvm: false, reason: "the guest never printed a line" } });
    expect(check.status).toBe("warn");
    expect(check.found).toBe("emulated: not a security boundary (the guest never printed a line)");
  });
  test("stays unknown when no guest could be booted", () => {
    const check = isolation({ accelerator: { unknown: "kernel.json is missing" } });
    expect(check).toMatchObject({ status: "warn", found: "not known: kernel.json is missing" });
  });
  test("fails when KVM is insisted on and does not work", () => {
    const change = { accelerator: { kvm: false, reason: "no line" }, acceleratorSetting: "kvm" } as const;
    expect(isolation(change).status).toBe("fail");
  });
});

describe("QEMU", () => {
  const said = (text: string): Check => only("qemu", { qemu: { binary: "/q", said: text } });

  test("of Debian 12 itself is too old, and its backports are named", () => {
    const check = said("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)");
    expect(check).toMatchObject({ status: "fail", found: "7.2.22" });
    expect(check.howToFix).toContain("-t bookworm-backports qemu-system-x86");
  });
  test("newer than what is tested will do", () => {
    expect(said("QEMU emulator version 11.1.0").status).toBe("ok");
  });
  test("that says something else is not QEMU", () => {
    expect(said("hello").status).toBe("fail");
  });
  test.each([
    ["debian", "13", "apt-get install"],
    ["debian", "", "apt-get install"],
    ["ubuntu", "25.10", "apt-get install"],
    ["ubuntu", "24.04", "--qemu-binary"],
    ["fedora", "43", "--qemu-binary"],
  ])("of %s %s comes by %s", (id, version, by) => {
    expect(qemuFix(id, version)).toContain(by);
  });
});

test("a user without root's rights is told which are missing", () => {
  const netAdmin = 1n << 12n;
  const check = only("rights", { uid: 1000, capabilities: netAdmin });
  expect(check.status).toBe("fail");
  expect(check.found).toContain("CAP_SYS_ADMIN (namespaces)");
  expect(check.found).not.toContain("CAP_NET_ADMIN");
  expect(only("rights", { uid: 1000, capabilities: GOOD.capabilities }).status).toBe("ok");
});

test("root inside a container without capabilities is not enough", () => {
  expect(only("rights", { uid: 0, capabilities: 0xa80425fbn }).status).toBe("fail");
});

test("disk space is warned of before it runs out", () => {
  const space = (gib: number): string =>
    only("data directory", { dataDir: { ...GOOD.dataDir, freeBytes: gib * GIB } }).status;
  expect([space(0.5), space(3), space(6)]).toEqual(["fail", "warn", "ok"]);
});

test("a port that a Torpor holds is no failure, another program's is", () => {
  const port = (state: Facts["ports"][number]["state"]): Check =>
    only("api-port", { ports: [{ name: "api-port", host: "127.0.0.1", port: 4700, state }] });
  expect(port("torpor").status).toBe("warn");
  expect(port({ refused: "another program uses it" })).toMatchObject({ status: "fail" });
});

test("a clock from before the installation cannot be right", () => {
  expect(only("clock", { now: new Date("1970-01-01T00:00:00Z") }).status).toBe("fail");
  expect(only("clock", { now: new Date("2099-01-01T00:00:00Z"), certificates: [] }).status).toBe("fail");
  expect(only("clock", { now: INSTALLED }).status).toBe("ok");
});
