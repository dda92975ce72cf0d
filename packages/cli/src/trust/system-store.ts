import { existsSync, readFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Failure } from "../failure.ts";
import { type Authority, slugOf } from "./authority.ts";
import type { Advice, Place } from "./place.ts";
import { findProgram, runProgram } from "./run-program.ts";

/** A folder for authorities that the machine's owner adds, and the program that makes the system's store of it. */
interface Layout {
  readonly system: string;
  readonly folder: string;
  readonly extension: "crt" | "pem";
  readonly update: readonly [program: string, ...args: string[]];
}

const LAYOUTS: readonly Layout[] = [
  {
    system: "Debian and Ubuntu",
    folder: "/usr/local/share/ca-certificates",
    extension: "crt",
    update: ["update-ca-certificates"],
  },
  {
    system: "Fedora",
    folder: "/etc/pki/ca-trust/source/anchors",
    extension: "pem",
    update: ["update-ca-trust", "extract"],
  },
];

/** @param root a folder in the place of `/`, for tests */
export function systemStore(platform: NodeJS.Platform, path: string, root = "/"): Place | undefined {
  if (platform !== "linux") return undefined;
  for (const layout of LAYOUTS) {
    const program = findProgram(layout.update[0], path);
    const folder = join(root, layout.folder);
    if (program !== undefined && existsSync(folder)) return placeOf({ ...layout, folder }, program);
  }
  return undefined;
}

/** Where nothing is done, because only its owner may, or nobody has tried it. */
export function systemAdvice(platform: NodeJS.Platform, { file, name }: Authority): Advice {
  if (platform === "darwin")
    return {
      kind: "system",
      name: "the keychain of macOS",
      install: `sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain ${file}`,
      uninstall: `sudo security delete-certificate -c "${name}" /Library/Keychains/System.keychain`,
    };
  return {
    kind: "system",
    name: "a system that is not known here",
    install: `put ${file} where this system looks for authorities`,
    uninstall: "remove it from there",
  };
}

function placeOf({ system, folder, extension, update }: Layout, program: string): Place {
  const fileOf = (authority: Authority): string => join(folder, `${slugOf(authority)}.${extension}`);
  const has = (authority: Authority): boolean => textOf(fileOf(authority)) === authority.pem;
  const refresh = async (): Promise<string> => {
    const [, ...args] = update;
    await runProgram(program, args);
    return `ran ${update.join(" ")}`;
  };
  const permitted = async (file: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (err) {
      const code = err instanceof Error && "code" in err ? err.code : undefined;
      if (code === "EACCES" || code === "EPERM" || code === "EROFS")
        throw new Failure(`${file} cannot be changed by this user`, "the same command with sudo, and --ca-file");
      throw err;
    }
  };
  return {
    kind: "system",
    name: `the system's store (${system}), ${folder}`,
    has: async (authority) => has(authority),
    install: async (authority) => {
      if (has(authority)) return [];
      const file = fileOf(authority);
      await permitted(file, () => writeFile(file, authority.pem, { mode: 0o644 }));
      return [`wrote ${file}`, await refresh()];
    },
    uninstall: async (authority) => {
      const file = fileOf(authority);
      if (!existsSync(file)) return [];
      await permitted(file, () => rm(file));
      return [`removed ${file}`, await refresh()];
    },
  };
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}
