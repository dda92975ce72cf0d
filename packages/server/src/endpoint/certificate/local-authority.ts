import { randomBytes, type X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../lib/atomic-file.ts";
import type { Clock } from "../../lib/clock.ts";
import { errnoOf, messageOf, TorporError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { isConstrainedTo, issueAuthority, issueServer, type KeyAndCertificate, type Validity } from "./issue.ts";
import { covers, type Identity, joinPem, readIdentity, splitPem } from "./pem.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
const AUTHORITY_DAYS = 3650;
const SERVER_DAYS = 90;
const RENEW_DAYS = 30;
/** Clients whose clocks are behind accept a new certificate too. */
const BACKDATE_MS = 60 * 60 * 1000;

/** Our own CA in a folder: `authority.pem` (secret), `ca.pem` (for clients to trust), `endpoint.pem` (secret). */
export class LocalAuthority {
  readonly #folder: string;
  readonly #domain: string;
  readonly #clock: Clock;
  readonly #log: Log;

  constructor(folder: string, domain: string, clock: Clock, log: Log) {
    this.#folder = folder;
    this.#domain = domain;
    this.#clock = clock;
    this.#log = log;
  }

  get caFile(): string {
    return join(this.#folder, "ca.pem");
  }

  /**
   * The server certificate to use now: the stored one for as long as it is good, else a new one.
   * @throws TorporError when the stored CA cannot be used
   */
  async certificate(): Promise<KeyAndCertificate> {
    await mkdir(this.#folder, { recursive: true, mode: 0o755 });
    const authority = await this.#authority();
    const stored = await this.#storedCertificate();
    if (stored !== undefined && this.#isGood(stored, authority)) return stored;
    const fresh = issueServer(
      { name: nameOf(authority.leaf), key: authority.privateKey },
      [`*.${this.#domain}`, this.#domain],
      this.#validity(SERVER_DAYS),
    );
    await writeFileAtomic(this.#certificateFile, joinPem(fresh), 0o600);
    this.#log.info({ domain: this.#domain, days: SERVER_DAYS }, "endpoint certificate issued");
    return fresh;
  }

  get #authorityFile(): string {
    return join(this.#folder, "authority.pem");
  }
  get #certificateFile(): string {
    return join(this.#folder, "endpoint.pem");
  }

  async #authority(): Promise<Identity> {
    const stored = await this.#storedAuthority();
    const usable = stored !== undefined && this.#canSign(stored);
    const authority = usable ? stored : await this.#newAuthority(stored !== undefined);
    if ((await readIfThere(this.caFile)) !== authority.certificate)
      await writeFileAtomic(this.caFile, authority.certificate, 0o644);
    return authority;
  }

  async #storedAuthority(): Promise<Identity | undefined> {
    const text = await readIfThere(this.#authorityFile);
    if (text === undefined) return undefined;
    try {
      return readIdentity(splitPem(text));
    } catch (err) {
      throw new TorporError(
        "unavailable",
        `cannot use the certificate authority in ${this.#authorityFile}: ${messageOf(err)}; restore it from a backup, ` +
          "or remove it: a new one is then made, which clients have to trust anew",
      );
    }
  }

  async #newAuthority(replaces: boolean): Promise<Identity> {
    const name = `Torpor CA ${randomBytes(4).toString("hex")}`;
    const authority = issueAuthority(name, trustDomain(this.#domain), this.#validity(AUTHORITY_DAYS));
    await writeFileAtomic(this.#authorityFile, joinPem(authority), 0o600);
    const fields = { name, domain: trustDomain(this.#domain), caFile: this.caFile };
    if (replaces) this.#log.warn(fields, "certificate authority replaced: clients have to trust the new one");
    else this.#log.info(fields, "certificate authority made");
    return readIdentity(authority);
  }

  /** Undefined also for a damaged file: it is only a cache. */
  async #storedCertificate(): Promise<Identity | undefined> {
    const text = await readIfThere(this.#certificateFile);
    try {
      return text === undefined ? undefined : readIdentity(splitPem(text));
    } catch (err) {
      this.#log.warn({ reason: messageOf(err) }, "endpoint certificate unreadable, a new one is made");
      return undefined;
    }
  }

  #canSign({ leaf }: Identity): boolean {
    return leaf.ca && this.#outlives(leaf.validToDate, SERVER_DAYS) && isConstrainedTo(leaf, trustDomain(this.#domain));
  }

  #isGood({ leaf }: Identity, authority: Identity): boolean {
    return (
      covers(leaf, this.#domain) &&
      leaf.checkIssued(authority.leaf) &&
      leaf.verify(authority.leaf.publicKey) &&
      leaf.validFromDate.getTime() <= this.#clock.now() &&
      this.#outlives(leaf.validToDate, RENEW_DAYS)
    );
  }

  #outlives(end: Date, days: number): boolean {
    return end.getTime() - this.#clock.now() > days * DAY_MS;
  }

  #validity(days: number): Validity {
    const now = this.#clock.now();
    return { from: new Date(now - BACKDATE_MS), to: new Date(now + days * DAY_MS) };
  }
}

/** All `.localhost` names belong to this machine, so one CA serves whatever domain is chosen among them. */
function trustDomain(domain: string): string {
  return domain.endsWith(".localhost") ? "localhost" : domain;
}

function nameOf(authority: X509Certificate): string {
  return authority.subject.replace(/^CN=/, "");
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (err) {
    if (errnoOf(err) === "ENOENT") return undefined;
    throw new TorporError("unavailable", `cannot read ${file}: ${messageOf(err)}`, { cause: err });
  }
}
