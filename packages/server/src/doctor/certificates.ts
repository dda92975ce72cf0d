import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Config, endpointDomain } from "../config.ts";
import { ownFiles, readOwn } from "../endpoint/certificate/own-certificate.ts";
import { errnoOf, messageOf } from "../lib/errors.ts";
import type { CertificateFact } from "./facts.ts";

/** What the endpoint would show to its clients, as the files are now. */
export async function certificateFacts(config: Config, now: Date): Promise<readonly CertificateFact[]> {
  const { endpointCertificate, endpointKey, dataDir } = config;
  if (endpointCertificate !== "" || endpointKey !== "") {
    const file = endpointCertificate || endpointKey;
    try {
      const files = ownFiles(endpointCertificate, endpointKey)!;
      const { leaf } = await readOwn(files, endpointDomain(config), now.getTime());
      return [{ kind: "own", file, until: leaf.validToDate }];
    } catch (err) {
      return [{ kind: "own", file, problem: messageOf(err) }];
    }
  }
  return Promise.all([
    storedFact("authority", join(dataDir, "ca", "ca.pem")),
    storedFact("issued", join(dataDir, "ca", "endpoint.pem")),
  ]);
}

async function storedFact(kind: CertificateFact["kind"], file: string): Promise<CertificateFact> {
  try {
    const text = await readFile(file, "utf8");
    const at = text.indexOf("-----BEGIN CERTIFICATE-----");
    return { kind, file, until: new X509Certificate(text.slice(Math.max(0, at))).validToDate };
  } catch (err) {
    const code = errnoOf(err);
    if (code === "ENOENT" || code === "ENOTDIR") return { kind, file, until: undefined };
    return { kind, file, problem: messageOf(err) };
  }
}
