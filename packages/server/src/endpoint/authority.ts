import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../lib/clock.ts";
import { invalidInput, messageOf, type TorporError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { KeyAndCertificate } from "./certificate/issue.ts";
import { LocalAuthority } from "./certificate/local-authority.ts";
import { covers, readIdentity } from "./certificate/pem.ts";

/** What the endpoint shows to its clients, now and after each renewal. */
export interface EndpointCertificates extends Disposable {
  readonly current: KeyAndCertificate;
  /** PEM file that clients are to trust; undefined where the user brought a certificate. */
  readonly caFile: string | undefined;
  /** Called with each certificate that replaces the current one. */
  onRenewal(listener: (renewed: KeyAndCertificate) => void): void;
  /** Looks now whether the certificate is due, as happens by itself twice a day. Never throws: the old one stays. */
  renewIfDue(): Promise<void>;
}

export interface AuthorityOptions {
  /** Our CA and its certificate are kept in `ca/` below it. */
  readonly dataDir: string;
  /** Certificates hold for the domain and for every name directly below it. */
  readonly domain: string;
  /** The user's own certificate instead of ours: PEM files, read again before each look at their expiry. */
  readonly own?: { readonly certificateFile: string; readonly keyFile: string };
  readonly clock: Clock;
  readonly log: Log;
}

const DOMAIN = /^(?=.{1,200}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const LOOK_EVERY_MS = 12 * 60 * 60 * 1000;

/** @throws TorporError when the domain, the user's certificate or the stored CA cannot be used */
export async function openAuthority(options: AuthorityOptions): Promise<EndpointCertificates> {
  const { dataDir, domain, own, clock, log } = options;
  if (!DOMAIN.test(domain))
    throw invalidInput(`endpoint-domain: expected a domain name in lower case, got ${JSON.stringify(domain)}`);
  const local = new LocalAuthority(join(dataDir, "ca"), domain, clock, log);
  const load = own === undefined ? () => local.certificate() : () => readOwn(own, domain, clock, log);

  let current = await load();
  const listeners: ((renewed: KeyAndCertificate) => void)[] = [];
  let cancel = (): void => {};
  let disposed = false;

  const renewIfDue = async (): Promise<void> => {
    try {
      const next = await load();
      if (next.certificate === current.certificate && next.key === current.key) return;
      current = next;
      log.info({ domain }, "endpoint certificate renewed");
      for (const listener of listeners) listener(next);
    } catch (err) {
      log.error({ err, domain }, "endpoint certificate not renewed, the old one stays in use");
    }
  };
  const schedule = (): void => {
    cancel = clock.after(LOOK_EVERY_MS, () => {
      void renewIfDue().finally(() => {
        if (!disposed) schedule();
      });
    });
  };
  schedule();

  return {
    get current() {
      return current;
    },
    caFile: own === undefined ? local.caFile : undefined,
    onRenewal: (listener) => listeners.push(listener),
    renewIfDue,
    [Symbol.dispose]: () => {
      disposed = true;
      cancel();
    },
  };
}

async function readOwn(
  own: { readonly certificateFile: string; readonly keyFile: string },
  domain: string,
  clock: Clock,
  log: Log,
): Promise<KeyAndCertificate> {
  const { certificateFile, keyFile } = own;
  const refuse = (what: string): TorporError =>
    invalidInput(`cannot use the endpoint certificate ${certificateFile} with the key ${keyFile}: ${what}`);
  let identity: ReturnType<typeof readIdentity>;
  try {
    const [certificate, key] = await Promise.all([readFile(certificateFile, "utf8"), readFile(keyFile, "utf8")]);
    identity = readIdentity({ certificate, key });
  } catch (err) {
    throw refuse(messageOf(err));
  }
  const { leaf, key, certificate } = identity;
  if (!covers(leaf, domain))
    throw refuse(`it does not hold for *.${domain}, but for ${leaf.subjectAltName ?? leaf.subject}`);
  if (leaf.validToDate.getTime() <= clock.now())
    log.error({ certificateFile, expiredAt: leaf.validToDate }, "endpoint certificate has expired");
  return { key, certificate };
}
