import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { errnoOf, invalidInput, messageOf, type TorporError } from "../../lib/errors.ts";
import type { KeyAndCertificate } from "./issue.ts";
import { covers, type Identity } from "./pem.ts";

/** The user's own certificate: PEM files that the settings endpoint-certificate and endpoint-key name. */
export interface OwnFiles {
  /** The server's certificate first, then what signed it, as far as clients do not have it. */
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** @throws TorporError when only one of the two is set. @returns undefined when none is */
export function ownFiles(certificateFile: string, keyFile: string): OwnFiles | undefined {
  if (certificateFile === "" && keyFile === "") return undefined;
  if (certificateFile === "")
    throw invalidInput(`endpoint-key is ${keyFile}, and endpoint-certificate is not set: set both, or none`);
  if (keyFile === "")
    throw invalidInput(`endpoint-certificate is ${certificateFile}, and endpoint-key is not set: set both, or none`);
  return { certificateFile, keyFile };
}

/**
 * Reads the pair and finds out whether clients would take it.
 * @throws TorporError that names the file and what to do
 */
export async function readOwn(files: OwnFiles, domain: string, now: number): Promise<Identity> {
  const { certificateFile, keyFile } = files;
  const certificate = await textOf("endpoint-certificate", certificateFile);
  const key = await textOf("endpoint-key", keyFile);
  const chain = chainOf(certificateFile, certificate);
  const privateKey = keyOf(keyFile, key);
  const [leaf] = chain;
  if (!leaf.checkPrivateKey(privateKey))
    throw invalidInput(
      `endpoint-key: ${keyFile} is not the key of the certificate in ${certificateFile} (${nameOf(leaf)}): ` +
        "name the key that it was made with; where both have just been replaced, the other one is still to come",
    );
  if (!covers(leaf, domain))
    throw invalidInput(
      `endpoint-certificate: ${certificateFile} does not hold for *.${domain}, but for ${namesOf(leaf)}: ` +
        "get a wildcard certificate, or set endpoint-domain to what it is for",
    );
  if (leaf.validToDate.getTime() <= now)
    throw invalidInput(
      `endpoint-certificate: ${certificateFile} has expired at ${leaf.validToDate.toISOString()}: renew it`,
    );
  if (leaf.validFromDate.getTime() > now)
    throw invalidInput(
      `endpoint-certificate: ${certificateFile} is not valid before ${leaf.validFromDate.toISOString()}: ` +
        "look at this machine's clock, or wait",
    );
  return { key, certificate, leaf, privateKey };
}

/** What of an identity TLS needs. */
export const pairOf = ({ key, certificate }: Identity): KeyAndCertificate => ({ key, certificate });

async function textOf(setting: string, file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (err) {
    const code = errnoOf(err);
    const why = code === "ENOENT" ? "is not there" : `cannot be read: ${messageOf(err)}`;
    const next = code === "EACCES" ? "let the server's user read it" : `set ${setting} to a PEM file`;
    throw invalidInput(`${setting}: ${file} ${why}; ${next}`, { cause: err });
  }
}

const CERTIFICATES = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** Clients take the first for the server's, and many of them look for an issuer only in what comes right behind. */
function chainOf(file: string, text: string): readonly [X509Certificate, ...X509Certificate[]] {
  const refuse = (what: string, cause?: unknown): TorporError =>
    invalidInput(`endpoint-certificate: ${file} ${what}`, { cause });
  let chain: X509Certificate[];
  try {
    chain = (text.match(CERTIFICATES) ?? []).map((pem) => new X509Certificate(pem));
  } catch (err) {
    throw refuse(`holds a damaged certificate: ${messageOf(err)}; write it anew`, err);
  }
  const [leaf, ...issuers] = chain;
  if (leaf === undefined) throw refuse("holds no certificate; it is to be in PEM, the server's first");
  let below = leaf;
  for (const issuer of issuers) {
    if (!below.checkIssued(issuer))
      throw refuse(`is out of order: ${nameOf(issuer)} has not signed ${nameOf(below)} before it; sort or remove it`);
    below = issuer;
  }
  return [leaf, ...issuers];
}

function keyOf(file: string, text: string): KeyObject {
  if (/-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(text))
    throw invalidInput(
      `endpoint-key: ${file} is locked with a passphrase, which nobody could type: openssl pkey -in ${file} -out NEW, mode 0600`,
    );
  try {
    return createPrivateKey(text);
  } catch (err) {
    throw invalidInput(`endpoint-key: ${file} holds no private key in PEM; write it anew`, { cause: err });
  }
}

const nameOf = (certificate: X509Certificate): string =>
  certificate.subject.replaceAll("\n", ", ") || namesOf(certificate);
const namesOf = (certificate: X509Certificate): string =>
  certificate.subjectAltName?.replaceAll("DNS:", "") ?? "no name at all";
