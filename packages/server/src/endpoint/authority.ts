import { join } from "node:path";
import type { Clock } from "../lib/clock.ts";
import { invalidInput, messageOf } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import type { KeyAndCertificate } from "./certificate/issue.ts";
import { LocalAuthority } from "./certificate/local-authority.ts";
import { type OwnFiles, pairOf, readOwn } from "./certificate/own-certificate.ts";
import { watchFiles } from "./certificate/watch-files.ts";

/** What the endpoint shows to its clients, now and after each renewal. */
export interface EndpointCertificates extends Disposable {
  readonly current: KeyAndCertificate;
  /** PEM file that clients are to trust; undefined where the user brought a certificate. */
  readonly caFile: string | undefined;
  /** Called with each certificate that replaces the current one. */
  onRenewal(listener: (renewed: KeyAndCertificate) => void): void;
  /**
   * Looks now whether there is another certificate, or whether ours is due, as happens by itself twice a day and when the
   * user's files change. Never throws: while what is there cannot be used, the old one stays, and the log says so.
   */
  renewIfDue(): Promise<void>;
}

export interface AuthorityOptions {
  /** Our CA and its certificate are kept in `ca/` below it. */
  readonly dataDir: string;
  /** Certificates hold for the domain and for every name directly below it. */
  readonly domain: string;
  /** The user's own certificate instead of ours. */
  readonly own?: OwnFiles | undefined;
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
  const load =
    own === undefined ? () => local.certificate() : async () => pairOf(await readOwn(own, domain, clock.now()));

  let current = await load();
  const listeners: ((renewed: KeyAndCertificate) => void)[] = [];
  let cancel = (): void => {};
  let disposed = false;

  const look = async (): Promise<void> => {
    try {
      const next = await load();
      if (next.certificate === current.certificate && next.key === current.key) return;
      current = next;
      log.info({ domain }, "endpoint certificate renewed");
      for (const listener of listeners) listener(next);
    } catch (err) {
      log.error({ reason: messageOf(err), domain }, "endpoint certificate not renewed, the old one stays in use");
    }
  };
  // One after the other: two that read at once could end in the wrong order.
  let looking = Promise.resolve();
  const renewIfDue = (): Promise<void> => {
    looking = looking.then(look);
    return looking;
  };
  const schedule = (): void => {
    cancel = clock.after(LOOK_EVERY_MS, () => {
      void renewIfDue().finally(() => {
        if (!disposed) schedule();
      });
    });
  };
  schedule();
  const watched = own && (await watchFiles([own.certificateFile, own.keyFile], clock, log, () => void renewIfDue()));

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
      watched?.[Symbol.dispose]();
    },
  };
}
