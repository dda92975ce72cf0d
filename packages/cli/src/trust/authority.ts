import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { Failure, usage } from "../failure.ts";

/** The authority behind the microvms' endpoints, as a file that is to be trusted. */
export interface Authority {
  readonly file: string;
  readonly pem: string;
  /** Unique: it has some random digits. */
  readonly name: string;
  readonly until: Date;
  readonly fingerprint: string;
}

/** @throws Failure when there is none, or what is there is no authority */
export function readAuthority(file: string | undefined): Authority {
  if (file === undefined)
    throw new Failure(
      "the server says nothing of an authority of its own: it has a certificate from somewhere else, or is not this machine's",
      "--ca-file with the authority's PEM file",
    );
  let pem: string;
  try {
    pem = readFileSync(file, "utf8");
  } catch (err) {
    throw new Failure(
      `${file} cannot be read: ${err instanceof Error ? err.message : err}`,
      "torpor serve, or --ca-file",
    );
  }
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch {
    throw usage(`${file} is no certificate in PEM`);
  }
  if (!certificate.ca) throw usage(`${file} is a certificate, but not an authority's`);
  const name = /^CN=(.+)$/m.exec(certificate.subject)?.[1] ?? "Torpor CA";
  return { file, pem, name, until: certificate.validToDate, fingerprint: certificate.fingerprint256 };
}

/** The name as a part of a file's name. */
export const slugOf = ({ name }: Authority): string =>
  name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
