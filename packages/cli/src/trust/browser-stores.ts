import { X509Certificate } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../failure.ts";
import type { Authority } from "./authority.ts";
import type { Place } from "./place.ts";
import { findProgram, runProgram } from "./run-program.ts";

/** Folders that hold, or whose folders hold, a database of NSS. */
const CHROMIUM = [".pki/nssdb", "snap/chromium/current/.pki/nssdb"];
const FIREFOX = [".mozilla/firefox", "snap/firefox/common/.mozilla/firefox"];

/** The databases of this user's browsers: Chromium has one, Firefox one a profile. */
export function browserStores(home: string, path: string): readonly Place[] {
  const certutil = findProgram("certutil", path);
  const chromium = CHROMIUM.map((folder) => join(home, folder)).filter(isDatabase);
  const firefox = FIREFOX.map((folder) => join(home, folder))
    .flatMap((folder) => foldersIn(folder).map((profile) => join(folder, profile)))
    .filter(isDatabase);
  return [
    ...chromium.map((folder) => placeOf("Chromium and Chrome", folder, certutil)),
    ...firefox.map((folder) => placeOf("Firefox", folder, certutil)),
  ];
}

const isDatabase = (folder: string): boolean => existsSync(join(folder, "cert9.db"));

function foldersIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function placeOf(browser: string, folder: string, certutil: string | undefined): Place {
  const run = async (...args: string[]): Promise<string> => {
    if (certutil === undefined)
      throw new Failure(
        `certutil is not there, without which nothing can be changed in ${folder}`,
        "apt-get install -y libnss3-tools, or dnf install nss-tools",
      );
    return await runProgram(certutil, ["-d", `sql:${folder}`, ...args]);
  };
  /** Another authority may have the name: the certificate itself counts. */
  const has = async ({ name, fingerprint }: Authority): Promise<boolean> => {
    const listed = await run("-L");
    if (!listed.split("\n").some((line) => line.startsWith(`${name} `))) return false;
    return new X509Certificate(await run("-L", "-n", name, "-a")).fingerprint256 === fingerprint;
  };
  return {
    kind: "browsers",
    name: `${browser}, ${folder}`,
    has,
    install: async (authority) => {
      if (await has(authority)) return [];
      await run("-A", "-t", "C,,", "-n", authority.name, "-i", authority.file);
      return [`added "${authority.name}" to ${folder}, for TLS servers only`];
    },
    uninstall: async (authority) => {
      if (!(await has(authority))) return [];
      await run("-D", "-n", authority.name);
      return [`removed "${authority.name}" from ${folder}`];
    },
  };
}
