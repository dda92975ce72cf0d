import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer, connect as tlsConnect } from "node:tls";
import { afterEach, beforeEach, expect, test } from "vitest";
import { messageOf } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { type AuthorityOptions, type EndpointCertificates, openAuthority } from "./authority.ts";
import { issueServer, type KeyAndCertificate } from "./certificate/issue.ts";
import { readIdentity, splitPem } from "./certificate/pem.ts";

const DOMAIN = "lambda-microvm.us-east-1.localhost";
const DAY = 24 * 60 * 60 * 1000;

let dataDir: string;
let now: number;
let timers: (() => void)[];
const clock = {
  now: () => now,
  monotonic: () => now,
  after: (_ms: number, callback: () => void) => {
    timers.push(callback);
    return () => {
      timers = timers.filter((timer) => timer !== callback);
    };
  },
};
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "torpor-ca-"));
  now = Date.now();
  timers = [];
});
afterEach(() => rm(dataDir, { recursive: true }));

const open = (more: Partial<AuthorityOptions> = {}): Promise<EndpointCertificates> =>
  openAuthority({ dataDir, domain: DOMAIN, clock, log: createLog("silent"), ...more });
const ca = (name: string): string => join(dataDir, "ca", name);
const leafOf = (certificates: EndpointCertificates): X509Certificate =>
  new X509Certificate(certificates.current.certificate);

/** What a client that trusts `trusted` alone makes of the certificate for the name: undefined, or why it refuses. */
async function refusal(shown: KeyAndCertificate, trusted: string, servername: string): Promise<string | undefined> {
  const server = createServer({ key: shown.key, cert: shown.certificate }, (socket) => socket.end());
  server.on("tlsClientError", () => {});
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as AddressInfo;
  const socket = tlsConnect({ socket: connect(port, "127.0.0.1"), servername, ca: trusted });
  try {
    await once(socket, "secureConnect");
    return undefined;
  } catch (err) {
    return messageOf(err);
  } finally {
    socket.destroy();
    server.close();
    await once(server, "close");
  }
}

test("a client that trusts the exported CA accepts every microvm's name", async () => {
  using certificates = await open();
  const trusted = await readFile(certificates.caFile ?? "", "utf8");
  for (const name of [`9a41c6d2-77b0-4e19-a2c8-5d0e6f718293.${DOMAIN}`, DOMAIN])
    expect(await refusal(certificates.current, trusted, name)).toBeUndefined();
  expect(await refusal(certificates.current, trusted, "example.com")).toMatch(/does not match certificate's altnames/);
});

test("the CA cannot vouch for names outside its domain", async () => {
  using certificates = await open();
  const trusted = await readFile(certificates.caFile ?? "", "utf8");
  const authority = readIdentity(splitPem(await readFile(ca("authority.pem"), "utf8")));
  const issuer = { name: authority.leaf.subject.replace("CN=", ""), key: authority.privateKey };
  const validity = { from: new Date(now - DAY), to: new Date(now + DAY) };
  const inside = issueServer(issuer, ["other.localhost"], validity);
  expect(await refusal(inside, trusted, "other.localhost")).toBeUndefined();
  const outside = issueServer(issuer, ["example.com"], validity);
  expect(await refusal(outside, trusted, "example.com")).toMatch(/permitted subtree violation/);
});

test("keys are private, the CA certificate is not", async () => {
  using _ = await open();
  const modes = await Promise.all(
    ["authority.pem", "endpoint.pem", "ca.pem"].map(async (f) => (await stat(ca(f))).mode & 0o777),
  );
  expect(modes).toEqual([0o600, 0o600, 0o644]);
  expect(await readFile(ca("ca.pem"), "utf8")).not.toContain("PRIVATE KEY");
});

test("a restart uses the same CA and certificate", async () => {
  using first = await open();
  using second = await open();
  expect(second.current).toMatchObject({ key: first.current.key, certificate: first.current.certificate });
});

test("the certificate is renewed in time, by the same CA, while the server runs", async () => {
  using certificates = await open();
  const before = leafOf(certificates);
  const trusted = await readFile(ca("ca.pem"), "utf8");
  const renewed = new Promise<KeyAndCertificate>((resolve) => certificates.onRenewal(resolve));
  now += 59 * DAY;
  await certificates.renewIfDue();
  expect(leafOf(certificates).fingerprint256).toBe(before.fingerprint256);
  now += 2 * DAY;
  timers.at(-1)?.();
  expect(new X509Certificate((await renewed).certificate).fingerprint256).toBe(leafOf(certificates).fingerprint256);
  expect(leafOf(certificates).validToDate.getTime()).toBeGreaterThan(now + 89 * DAY);
  expect(await readFile(ca("ca.pem"), "utf8")).toBe(trusted);
});

test("a CA near its end is replaced before it fails anyone", async () => {
  using certificates = await open();
  const trusted = await readFile(ca("ca.pem"), "utf8");
  now += 3600 * DAY;
  await certificates.renewIfDue();
  const replaced = await readFile(ca("ca.pem"), "utf8");
  expect(replaced).not.toBe(trusted);
  expect(leafOf(certificates).checkIssued(new X509Certificate(replaced))).toBe(true);
});

test("a damaged certificate is made again, a damaged CA is refused by name", async () => {
  (await open())[Symbol.dispose]();
  await writeFile(ca("endpoint.pem"), "garbage");
  await rm(ca("ca.pem"));
  using again = await open();
  expect(await refusal(again.current, await readFile(ca("ca.pem"), "utf8"), `x.${DOMAIN}`)).toBeUndefined();
  await chmod(ca("authority.pem"), 0o600);
  await writeFile(ca("authority.pem"), "garbage");
  await expect(open()).rejects.toThrow(ca("authority.pem"));
  expect(await readFile(ca("authority.pem"), "utf8")).toBe("garbage");
});

test("another domain gets another certificate; beyond the CA's reach also another CA", async () => {
  (await open())[Symbol.dispose]();
  const trusted = await readFile(ca("ca.pem"), "utf8");
  using near = await open({ domain: "vm.localhost" });
  expect(await refusal(near.current, trusted, "x.vm.localhost")).toBeUndefined();
  using far = await open({ domain: "vm.example.org" });
  expect(await refusal(far.current, trusted, "x.vm.example.org")).toBeDefined();
  expect(await refusal(far.current, await readFile(ca("ca.pem"), "utf8"), "x.vm.example.org")).toBeUndefined();
});

test("what is no domain is refused", async () => {
  for (const domain of ["", "UPPER.case", "a..b", "-a.b", "a b", "*.a", "a/../b", `${"a".repeat(64)}.b`])
    await expect(open({ domain }), domain).rejects.toMatchObject({ kind: "invalid_input" });
});
