import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compareVersions, findVersion, formatVersion, parseOsRelease } from "./version.ts";

const version = fc.array(fc.nat(99_999), { minLength: 2, maxLength: 4 });
/** What stands before and after a version in what programs say of themselves. */
const before = fc.constantFrom("", "v", "QEMU emulator version ", "go", "nftables v", "(", "1:");
const after = fc.constantFrom(
  "",
  " (Debian 1:10.0.2+ds-2~bpo12+1)",
  "-rc1",
  "+ds",
  "~bpo12",
  "\nCopyright 2003",
  ")",
  " ",
);

describe("a version", () => {
  test("is found whatever stands around it", () => {
    fc.assert(
      fc.property(version, before, after, (v, a, b) => {
        expect(findVersion(a === "1:" ? `x ${v.join(".")}${b}` : `${a}${v.join(".")}${b}`)).toEqual(v);
      }),
    );
  });
  test("is not found where there is none", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z 0-9]*$/), (text) => {
        expect(findVersion(text)).toBeUndefined();
      }),
    );
  });
  test("never makes the parser throw", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const part of findVersion(text) ?? []) expect(Number.isSafeInteger(part)).toBe(true);
      }),
    );
  });
  test("reads as it was written", () => {
    fc.assert(
      fc.property(version, (v) => {
        expect(findVersion(formatVersion(v))).toEqual(v);
      }),
    );
  });
});

describe("the order of versions", () => {
  test("is one: equal to itself, reversed when swapped, transitive", () => {
    fc.assert(
      fc.property(version, version, version, (a, b, c) => {
        expect(compareVersions(a, a)).toBe(0);
        expect(Math.sign(compareVersions(a, b))).toBe(-Math.sign(compareVersions(b, a)) + 0);
        if (compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0)
          expect(compareVersions(a, c)).toBeLessThanOrEqual(0);
      }),
    );
  });
  test("counts, and does not spell", () => {
    expect(compareVersions([10, 0], [9, 2])).toBeGreaterThan(0);
    expect(compareVersions([10], [10, 0, 0])).toBe(0);
    expect(compareVersions([10, 0, 2], [10, 0])).toBeGreaterThan(0);
  });
});

describe("os-release", () => {
  test("of Debian and of Ubuntu", () => {
    const debian = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n';
    expect(parseOsRelease(debian)).toEqual({ id: "debian", versionId: "12", name: "Debian GNU/Linux 12 (bookworm)" });
    expect(parseOsRelease("ID=ubuntu\nVERSION_ID='24.04'\n")).toEqual({
      id: "ubuntu",
      versionId: "24.04",
      name: "ubuntu",
    });
  });
  test("with escapes, comments and nonsense", () => {
    const text = '# a comment\nNAME="x"\n=y\nPRETTY_NAME="Say \\"hi\\" for \\$5"\nID=\n';
    expect(parseOsRelease(text)).toEqual({ id: "", versionId: "", name: 'Say "hi" for $5' });
  });
  test("values come back as they were quoted", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9 ._()/$`"\\']*$/), (value) => {
        const quoted = value.replace(/["$`\\]/g, (c) => `\\${c}`);
        expect(parseOsRelease(`PRETTY_NAME="${quoted}"\n`).name).toBe(value);
      }),
    );
  });
  test("never makes the parser throw", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(Object.keys(parseOsRelease(text))).toEqual(["id", "versionId", "name"]);
      }),
    );
  });
});
