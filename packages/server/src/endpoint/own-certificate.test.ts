import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TLSSocket, connect as tlsConnect } from "node:tls";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openTokenService } from "../control/token/token-service.ts";
import { systemClock } from "../lib/clock.ts";
import { createLog } from "../lib/log.ts";
import { type AuthorityOptions, type EndpointCertificates, openAuthority } from "./authority.ts";
import { issueAuthority, issueServer, type KeyAndCertificate } from "./certificate/issue.ts";
import { ownFiles } from "./certificate/own-certificate.ts";
import { readIdentity } from "./certificate/pem.ts";
import { createEndpointServer, type EndpointServer } from "./server.ts";
import { StubGate } from "./testing/stub-gate.ts";

const DOMAIN = "vm.example.org";
const DAY = 24 * 60 * 60 * 1000;
const days = (from: number, to: number) => ({
  from: new Date(Date.now() + from * DAY),
  to: new Date(Date.now() + to * DAY),
});
const CA = issueAuthority("an authority of the user's", "example.org", days(-1, 365));
const issuer = { name: "an authority of the user's", key: createPrivateKey(CA.key) };
const make = (from = -1, to = 90, name = `*.${DOMAIN}`): KeyAndCertificate =>
  issueServer(issuer, [name], days(from, to));

let dir: string;
let own: { certificateFile: string; keyFile: string };
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-own-"));
  own = { certificateFile: join(dir, "own.pem"), keyFile: join(dir, "own.key") };
});
afterEach(() => rm(dir, { recursive: true }));

async function write(pair: { key: string; certificate: string }): Promise<void> {
  await writeFile(own.certificateFile, pair.certificate);
  await writeFile(own.keyFile, pair.key);
}
const open = (more: Partial<AuthorityOptions> = {}): Promise<EndpointCertificates> =>
  openAuthority({ dataDir: dir, domain: DOMAIN, own, clock: systemClock, log: createLog("silent"), ...more });
const renewal = (certificates: EndpointCertificates): Promise<KeyAndCertificate> =>
  new Promise((resolve) => certificates.onRenewal(resolve));

test("a good pair is shown, with its chain, and no CA of ours is made", async () => {
  const pair = make();
  await write({ ...pair, certificate: pair.certificate + CA.certificate });
  using certificates = await open();
  expect(certificates.caFile).toBeUndefined();
  expect(certificates.current).toEqual({ key: pair.key, certificate: pair.certificate + CA.certificate });
});

test.each<[string, () => { key: string; certificate: string }, RegExp]>([
  ["another key", () => ({ ...make(), key: make().key }), /own\.key is not the key of the certificate in .*own\.pem/],
  [
    "another domain",
    () => make(-1, 90, "*.other.org"),
    /own\.pem does not hold for \*\.vm\.example\.org, but for \*\.other\.org.*endpoint-domain/,
  ],
  ["no wildcard", () => make(-1, 90, DOMAIN), /does not hold for \*\.vm\.example\.org.*wildcard/],
  ["expired", () => make(-90, -1), /own\.pem has expired at .*renew it/],
  ["not yet valid", () => make(1, 90), /own\.pem is not valid before .*clock/],
  ["no certificate", () => ({ ...make(), certificate: "" }), /own\.pem holds no certificate/],
  [
    "half a certificate",
    () => ({ ...make(), certificate: make().certificate.replace(/\n.{20}/, "\n") }),
    /own\.pem holds a damaged certificate/,
  ],
  [
    "a chain out of order",
    () => {
      const pair = make();
      return { ...pair, certificate: CA.certificate + pair.certificate };
    },
    /own\.pem is out of order/,
  ],
  [
    "a stranger in the chain",
    () => {
      const pair = make();
      return { ...pair, certificate: pair.certificate + make().certificate };
    },
    /own\.pem is out of order/,
  ],
  ["no key", () => ({ ...make(), key: "garbage" }), /own\.key holds no private key/],
  [
    "a locked key",
    () => {
      const pair = make();
      const key = createPrivateKey(pair.key)
        .export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" })
        .toString();
      return { ...pair, key };
    },
    /own\.key is locked with a passphrase.*openssl pkey/,
  ],
])("%s is refused at the start, with the file and what to do", async (_name, pair, reason) => {
  await write(pair());
  await expect(open()).rejects.toMatchObject({ kind: "invalid_input", message: expect.stringMatching(reason) });
});

test("a file that is not there, or half of the settings, is refused by name", async () => {
  await expect(open()).rejects.toThrow(/endpoint-certificate: .*own\.pem is not there/);
  await writeFile(own.certificateFile, make().certificate);
  await expect(open()).rejects.toThrow(/endpoint-key: .*own\.key is not there/);
  expect(() => ownFiles("/a.pem", "")).toThrow(/endpoint-certificate is \/a\.pem, and endpoint-key is not set/);
  expect(() => ownFiles("", "/a.key")).toThrow(/endpoint-key is \/a\.key, and endpoint-certificate is not set/);
  expect(ownFiles("", "")).toBeUndefined();
});

test("a new pair is taken when the files change, without a signal", async () => {
  await write(make());
  using certificates = await open();
  const renewed = renewal(certificates);
  const next = make();
  await write(next);
  expect(await renewed).toEqual(next);
  expect(certificates.current).toEqual(next);
});

test("a new pair is taken when a link leads to other files, as programs that renew do it", async () => {
  const put = async (name: string, pair: KeyAndCertificate): Promise<void> => {
    await mkdir(join(dir, name));
    await writeFile(join(dir, name, "own.pem"), pair.certificate);
    await writeFile(join(dir, name, "own.key"), pair.key);
    await symlink(name, join(dir, "next"));
    await rename(join(dir, "next"), join(dir, "live"));
  };
  await put("1", make());
  own = { certificateFile: join(dir, "live", "own.pem"), keyFile: join(dir, "live", "own.key") };
  using certificates = await open();
  const next = make();
  await put("2", next);
  await certificates.renewIfDue(); // the link's own folder need not be the files': this is what SIGHUP does
  expect(certificates.current).toEqual(next);
});

test("a broken new pair leaves the old one in use and says so once; a whole one then takes its place", async () => {
  const first = make();
  await write(first);
  const said: unknown[] = [];
  const log = { ...createLog("silent"), error: (fields: unknown) => said.push(fields) };
  using certificates = await open({ log: log as never });
  await writeFile(own.keyFile, "half a key");
  await certificates.renewIfDue();
  expect(certificates.current).toEqual(first);
  expect(JSON.stringify(said)).toMatch(/own\.key holds no private key/);
  const next = make();
  await write(next);
  await certificates.renewIfDue();
  expect(certificates.current).toEqual(next);
});

/** The endpoint with that pair, and what a handshake with it sees. */
async function serve(certificates: EndpointCertificates): Promise<EndpointServer> {
  const log = createLog("silent");
  const tokens = await openTokenService(join(dir, "tokens.json"), systemClock, log);
  const options = { host: "127.0.0.1", port: 0, domain: DOMAIN, gate: new StubGate(), tokens, log, clock: systemClock };
  const server = createEndpointServer({ ...options, tls: certificates });
  await server.listen();
  return server;
}

async function handshake(server: EndpointServer, more: object = {}): Promise<TLSSocket> {
  const socket = tlsConnect({
    socket: connect(server.address.port, "127.0.0.1"),
    servername: `a.${DOMAIN}`,
    ca: CA.certificate,
    ...more,
  });
  await once(socket, "secureConnect");
  return socket;
}
const shown = (socket: TLSSocket): string => new X509Certificate(socket.getPeerCertificate().raw).fingerprint256;
const printOf = (pair: KeyAndCertificate): string => readIdentity(pair).leaf.fingerprint256;

test("a renewal is for new handshakes: connections that are open go on", async () => {
  const [first, next] = [make(), make()];
  await write(first);
  using certificates = await open();
  await using server = await serve(certificates);
  const before = await handshake(server);
  expect(shown(before)).toBe(printOf(first));
  await write(next);
  await certificates.renewIfDue();
  const after = await handshake(server);
  expect(shown(after)).toBe(printOf(next));
  const ask = `GET / HTTP/1.1\r\nHost: a.${DOMAIN}\r\n\r\n`;
  for (const socket of [before, after]) {
    socket.write(ask);
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 403 /);
    socket.destroy();
  }
});

test("TLS 1.2 and 1.3 with forward secrecy and authenticated encryption are spoken, nothing else", async () => {
  await write(make());
  using certificates = await open();
  await using server = await serve(certificates);
  const spoken = async (more: object): Promise<string> => {
    const socket = await handshake(server, more);
    const what = `${socket.getProtocol()} ${socket.getCipher().standardName}`;
    socket.destroy();
    return what;
  };
  expect(await spoken({})).toMatch(/^TLSv1\.3 TLS_/);
  expect(await spoken({ maxVersion: "TLSv1.2" })).toMatch(/^TLSv1\.2 TLS_ECDHE_ECDSA_WITH_(AES_\d+_GCM|CHACHA20)/);
  const old = { minVersion: "TLSv1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" };
  await expect(spoken(old)).rejects.toThrow();
  for (const ciphers of ["ECDHE-ECDSA-AES128-SHA256", "AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-SHA"])
    await expect(spoken({ maxVersion: "TLSv1.2", ciphers }), ciphers).rejects.toThrow();
});

test("a session is resumed while its ticket's key lives, and begun anew after", async () => {
  await write(make());
  using certificates = await open();
  const timers: [ms: number, callback: () => void][] = [];
  const clock = {
    ...systemClock,
    after: (ms: number, callback: () => void) => {
      timers.push([ms, callback]);
      return () => {};
    },
  };
  const log = createLog("silent");
  const tokens = await openTokenService(join(dir, "tokens.json"), systemClock, log);
  const gate = new StubGate();
  await using server = createEndpointServer({
    host: "127.0.0.1",
    port: 0,
    domain: DOMAIN,
    gate,
    tokens,
    log,
    clock,
    tls: certificates,
  });
  await server.listen();
  const first = await handshake(server, { maxVersion: "TLSv1.2" });
  const session = first.getSession();
  first.destroy();
  const reused = async (): Promise<boolean> => {
    const socket = await handshake(server, { maxVersion: "TLSv1.2", session });
    const resumed = socket.isSessionReused();
    socket.destroy();
    return resumed;
  };
  expect(await reused()).toBe(true);
  for (const [, rotate] of timers.filter(([ms]) => ms === 60 * 60 * 1000)) rotate();
  expect(await reused()).toBe(false);
});
