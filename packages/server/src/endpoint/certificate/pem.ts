import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import type { KeyAndCertificate } from "./issue.ts";

/** A key and its certificate, read and found to belong together. */
export interface Identity extends KeyAndCertificate {
  readonly leaf: X509Certificate;
  readonly privateKey: KeyObject;
}

/** @throws Error when one of them cannot be read, or the key is not the certificate's. */
export function readIdentity(pem: KeyAndCertificate): Identity {
  const privateKey = createPrivateKey(pem.key);
  const leaf = new X509Certificate(pem.certificate);
  if (!leaf.checkPrivateKey(privateKey)) throw new Error("the key does not belong to the certificate");
  return { ...pem, leaf, privateKey };
}

/** Key and certificate in one file, so that they change together. */
export function joinPem({ key, certificate }: KeyAndCertificate): string {
  return key + certificate;
}

export function splitPem(text: string): KeyAndCertificate {
  const at = text.indexOf("-----BEGIN CERTIFICATE-----");
  return at < 0 ? { key: text, certificate: "" } : { key: text.slice(0, at), certificate: text.slice(at) };
}

/** True when the certificate holds for the domain and for every name directly below it. */
export function covers(leaf: X509Certificate, domain: string): boolean {
  return leaf.checkHost(`any.${domain}`) !== undefined;
}
