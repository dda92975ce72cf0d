import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  type X509Certificate,
} from "node:crypto";
import {
  bitString,
  context,
  contextPrimitive,
  integer,
  octetString,
  oid,
  sequence,
  set,
  TRUE,
  time,
  utf8String,
} from "./der.ts";

/** A certificate and the key to it, both PEM. */
export interface KeyAndCertificate {
  readonly key: string;
  /** The chain: the leaf comes first. */
  readonly certificate: string;
}

export interface Validity {
  readonly from: Date;
  readonly to: Date;
}

/** Who signs: the name in its certificate, and its key. */
export interface Issuer {
  readonly name: string;
  readonly key: KeyObject;
}

const ECDSA_WITH_SHA256 = sequence(oid("1.2.840.10045.4.3.2"));
const DNS_NAME = 2;
const IP_ADDRESS = 7;

/**
 * A CA whose certificates hold for names within `domain` and for nothing else: trusting it gives away no other site.
 * `name` should be unique, since clients look CAs up by it.
 */
export function issueAuthority(name: string, domain: string, validity: Validity): KeyAndCertificate {
  const { privateKey, publicKey } = newKeyPair();
  const certificate = signCertificate({ name, key: privateKey }, name, publicKey, validity, [
    extension("2.5.29.19", true, sequence(TRUE, integer(Uint8Array.of(0)))), // basicConstraints: CA, no CA below it
    extension("2.5.29.15", true, bitString(Uint8Array.of(0x06), 1)), // keyUsage: keyCertSign, cRLSign
    extension("2.5.29.14", false, octetString(keyId(publicKey))),
    nameConstraints(domain),
  ]);
  return { key: pemOf(privateKey), certificate };
}

/** A server certificate for the names; the first one is also the subject. */
export function issueServer(
  issuer: Issuer,
  names: readonly [string, ...string[]],
  validity: Validity,
): KeyAndCertificate {
  const { privateKey, publicKey } = newKeyPair();
  const certificate = signCertificate(issuer, names[0], publicKey, validity, [
    extension("2.5.29.19", true, sequence()), // basicConstraints: no CA
    extension("2.5.29.15", true, bitString(Uint8Array.of(0x80), 7)), // keyUsage: digitalSignature
    extension("2.5.29.37", false, sequence(oid("1.3.6.1.5.5.7.3.1"))), // extKeyUsage: serverAuth
    extension("2.5.29.14", false, octetString(keyId(publicKey))),
    extension("2.5.29.35", false, sequence(contextPrimitive(0, keyId(createPublicKey(issuer.key))))),
    extension("2.5.29.17", false, sequence(...names.map(dnsName))), // subjectAltName
  ]);
  return { key: pemOf(privateKey), certificate };
}

/** Source: RFC 5280 §4.1. */
function signCertificate(
  issuer: Issuer,
  subject: string,
  subjectKey: KeyObject,
  validity: Validity,
  extensions: readonly Buffer[],
): string {
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // positive and never zero
  const toBeSigned = sequence(
    context(0, integer(Uint8Array.of(2))), // version 3
    integer(serial),
    ECDSA_WITH_SHA256,
    distinguishedName(issuer.name),
    sequence(time(validity.from), time(validity.to)),
    distinguishedName(subject),
    subjectKey.export({ type: "spki", format: "der" }),
    context(3, sequence(...extensions)),
  );
  const signature = sign("sha256", toBeSigned, issuer.key);
  const der = sequence(toBeSigned, ECDSA_WITH_SHA256, bitString(signature));
  const lines = der.toString("base64").replace(/.{64}(?=.)/g, "$&\n");
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

/** True for a CA that `issueAuthority` made for the domain. */
export function isConstrainedTo(authority: X509Certificate, domain: string): boolean {
  return authority.raw.includes(nameConstraints(domain));
}

function nameConstraints(domain: string): Buffer {
  const permitted = sequence(dnsName(domain));
  // Every address, IPv4 and IPv6, is excluded: a constraint on names says nothing about addresses.
  const addresses = [8, 32].map((bytes) => sequence(contextPrimitive(IP_ADDRESS, Buffer.alloc(bytes))));
  return extension("2.5.29.30", true, sequence(context(0, permitted), context(1, ...addresses)));
}

const dnsName = (name: string): Buffer => contextPrimitive(DNS_NAME, Buffer.from(name, "ascii"));
const distinguishedName = (commonName: string): Buffer =>
  sequence(set(sequence(oid("2.5.4.3"), utf8String(commonName.slice(0, 64)))));
const extension = (id: string, critical: boolean, value: Buffer): Buffer =>
  sequence(oid(id), ...(critical ? [TRUE] : []), octetString(value));
const newKeyPair = (): { privateKey: KeyObject; publicKey: KeyObject } =>
  generateKeyPairSync("ec", { namedCurve: "P-256" });
const pemOf = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();
/** Source: RFC 7093 §2, method 4 over the whole key info. */
const keyId = (key: KeyObject): Buffer =>
  createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest()
    .subarray(0, 20);
