/** A dotted version's numbers; what follows them (`-rc1`, `+ds`, `~bpo12`) is dropped. */
export type Version = readonly number[];

/** The first dotted number in the text: `QEMU emulator version 10.0.2 (Debian …)` is 10.0.2. */
export function findVersion(text: string): Version | undefined {
  const found = /(?<![\d.])\d{1,9}(?:\.\d{1,9}){1,3}(?![\d])/.exec(text);
  return found ? found[0].split(".").map(Number) : undefined;
}

/** Negative when `a` is older than `b`; missing parts count as zero. */
export function compareVersions(a: Version, b: Version): number {
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export const formatVersion = (version: Version): string => version.join(".");

export interface Distribution {
  /** `debian`, `ubuntu`, …; empty when unknown. */
  readonly id: string;
  /** `12`, `24.04`; empty for rolling ones. */
  readonly versionId: string;
  /** For people. */
  readonly name: string;
}

/** Reads /etc/os-release (os-release(5)): shell assignments, with or without quotes. */
export function parseOsRelease(text: string): Distribution {
  const fields = new Map<string, string>();
  for (const line of text.split("\n")) {
    const found = /^([A-Z0-9_]+)=(.*)$/.exec(line.trim());
    if (found?.[1] !== undefined && found[2] !== undefined) fields.set(found[1], unquote(found[2]));
  }
  return {
    id: fields.get("ID") ?? "",
    versionId: fields.get("VERSION_ID") ?? "",
    name: fields.get("PRETTY_NAME") ?? fields.get("ID") ?? "an unknown system",
  };
}

function unquote(value: string): string {
  const quoted = /^"(.*)"$/.exec(value) ?? /^'(.*)'$/.exec(value);
  return (quoted?.[1] ?? value).replace(/\\(["'$`\\])/g, "$1");
}
