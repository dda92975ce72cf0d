import { mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ZipEntry, zipBytes } from "../../../test/build/zip-bytes.ts";
import { BuildError } from "../host-client.ts";
import { unpackArchive } from "./unpack.ts";

const LIMITS = { maxBytes: 8 << 20, maxEntries: 100, maxRatio: 100 };
const DOCKERFILE: ZipEntry = { name: "Dockerfile", content: "FROM scratch\n" };
const never = new AbortController().signal;

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "unpack-"));
});
afterEach(() => rm(scratch, { recursive: true, force: true }));

async function unpack(zip: Buffer, limits = LIMITS): Promise<string> {
  const path = join(scratch, "artifact.zip");
  await writeFile(path, zip);
  const out = join(scratch, "out");
  await unpackArchive(path, out, { limits }, never);
  return out;
}

async function refusal(zip: Buffer, limits = LIMITS): Promise<BuildError> {
  const err = await unpack(zip, limits).then(
    () => expect.unreachable("the archive was accepted"),
    (reason: unknown) => reason,
  );
  if (!(err instanceof BuildError)) throw err;
  return err;
}

test("files, folders and links come out with their content, modes and times", async () => {
  const out = await unpack(
    zipBytes([
      DOCKERFILE,
      { name: "bin/", mode: 0o040750 },
      { name: "bin/run", content: "#!/bin/sh\n", mode: 0o100755 },
      { name: "deep/er/data.bin", content: Buffer.alloc(300_000, 7), mode: 0o100600 },
      { name: "bin/current", content: "run", mode: 0o120777 },
      { name: "deep/up", content: "../bin/run", mode: 0o120777 },
      { name: "stored", content: "as is", method: 0 },
      { name: "from-windows", content: "x", madeBy: 0, mode: 0 },
    ]),
  );
  expect(await readFile(join(out, "Dockerfile"), "utf8")).toBe("FROM scratch\n");
  expect((await readFile(join(out, "deep/er/data.bin"))).equals(Buffer.alloc(300_000, 7))).toBe(true);
  expect(await readFile(join(out, "stored"), "utf8")).toBe("as is");
  expect((await stat(join(out, "bin"))).mode & 0o7777).toBe(0o750);
  expect((await stat(join(out, "bin/run"))).mode & 0o7777).toBe(0o755);
  expect((await stat(join(out, "deep/er/data.bin"))).mode & 0o7777).toBe(0o600);
  expect((await stat(join(out, "from-windows"))).mode & 0o7777).toBe(0o644);
  expect((await stat(join(out, "Dockerfile"))).mtime.getUTCFullYear()).toBe(2025);
  expect(await readlink(join(out, "bin/current"))).toBe("run");
  expect(await readFile(join(out, "deep/up"), "utf8")).toBe("#!/bin/sh\n");
});

describe("an archive is refused, naming the entry, when", () => {
  const hostile: [what: string, entries: ZipEntry[], reason: RegExp][] = [
    ["a name leads out", [{ name: "../evil" }], /"\.\.\/evil" leads out of the archive/],
    ["a name leads out further in", [{ name: "a/../../evil" }], /leads out of the archive/],
    ["a name is absolute", [{ name: "/etc/cron.d/evil" }], /absolute path/],
    ["a name has a drive", [{ name: "C:/evil" }], /absolute path/],
    ["a name has a backslash", [{ name: "a\\evil" }], /backslash/],
    ["a name has a NUL", [{ name: "a\0.txt" }], /NUL byte/],
    ["a name has a terminal escape", [{ name: "a\u001b[2J" }], /control character/],
    ["a name is not valid text", [{ name: Buffer.from([0x61, 0xff, 0xfe]) }], /not valid text/],
    ["a name has an empty part", [{ name: "a//b" }], /empty or \. part/],
    ["a link is absolute", [{ name: "l", content: "/etc", mode: 0o120777 }], /"l" is a link to an absolute path/],
    ["a link leads out", [{ name: "a/l", content: "../../etc", mode: 0o120777 }], /"a\/l" is a link that leads out/],
    [
      "a link climbs behind a name",
      [{ name: "l", content: "a/../../etc", mode: 0o120777 }],
      /link with \.\. behind a name/,
    ],
    [
      "a file is written through a link",
      [
        { name: "l", content: ".", mode: 0o120777 },
        { name: "l/evil", content: "x" },
      ],
      /"l\/evil" lies behind the link "l"/,
    ],
    [
      "a link takes the place of a folder that is in use",
      [
        { name: "l/file", content: "x" },
        { name: "l", content: ".", mode: 0o120777 },
      ],
      /has the name of a folder/,
    ],
    ["a name is there twice", [{ name: "twice" }, { name: "twice" }], /"twice" is there twice/],
    ["a name is there twice in two encodings", [{ name: "\u00e9" }, { name: "e\u0301" }], /is there twice/],
    ["a file is also a folder", [{ name: "a" }, { name: "a/b" }], /lies in "a", which is a file/],
    ["the data's header has another name", [{ name: "good", local: { name: "evil" } }], /differently.*its name/],
    ["the data's header has another method", [{ name: "x", local: { method: 0 } }], /differently.*compression/],
    ["the data's header has another size", [{ name: "x", content: "abc", local: { size: 9 } }], /differently.*size/],
    [
      "the data's header has another checksum",
      [{ name: "x", content: "abc", local: { crc: 1 } }],
      /differently.*check/,
    ],
    ["an entry overlaps another", [{ name: "Dockerfile", offset: 0 }], /is there twice|overlaps/],
    ["the content is not what the checksum says", [{ name: "x", content: "abc", declaredCrc: 1 }], /checksum/],
    ["an entry is larger than it says", [{ name: "x", content: "abcdef", declaredSize: 3 }], /"x"/],
    ["an entry is smaller than it says", [{ name: "x", content: "abc", declaredSize: 6 }], /"x"/],
    ["an entry is a bomb", [{ name: "bomb", content: Buffer.alloc(4 << 20) }], /"bomb" grows to more than 100 times/],
    [
      "a zip64 field promises more than is allowed",
      [{ name: "big", content: "x", zip64: { size: 1n << 50n, compressed: 1n << 49n } }],
      /larger than 8388608 bytes/,
    ],
    [
      "a zip64 field promises data that is not there",
      [{ name: "big", content: "x", zip64: { size: 1000n, compressed: 5000n } }],
      /overflows|differently|overlaps/,
    ],
    ["an entry is a device", [{ name: "dev", mode: 0o020666 }], /device, a pipe or a socket/],
    ["an entry is a pipe", [{ name: "pipe", mode: 0o010666 }], /device, a pipe or a socket/],
    ["a file is set-user-id", [{ name: "su", mode: 0o104755 }], /set-user-id/],
    ["an entry is encrypted", [{ name: "secret", content: "x", flags: 0x801 }], /is encrypted/],
    ["an entry has an unknown compression", [{ name: "x", content: "x", method: 12 }], /method 12/],
    ["a folder has content", [{ name: "d/", content: "x", mode: 0o040755 }], /folder with content/],
    ["a folder is a file", [{ name: "d/", mode: 0o100644 }], /both that it is a folder/],
  ];
  test.each(hostile)("%s", async (_what, entries, reason) => {
    const err = await refusal(zipBytes([DOCKERFILE, ...entries]));
    expect(err.code).toBe("ARCHIVE_INVALID");
    expect(err.message).toMatch(reason);
    expect(await readdir(scratch)).not.toContain("evil");
  });

  test("two entries share their data", async () => {
    const err = await refusal(
      zipBytes([
        { name: "Dockerfile", content: "x", local: { name: "Dockerfile" } },
        { name: "ockerfile2", offset: 0, local: { name: "ockerfile2" } },
      ]),
    );
    expect(err.message).toMatch(/differently|overlaps/);
  });

  test("it has more entries than allowed, whatever its directory says of their number", async () => {
    const many = Array.from({ length: 101 }, (_, i) => ({ name: `f${i}` }));
    expect((await refusal(zipBytes([DOCKERFILE, ...many]))).message).toMatch(/more than 100 entries/);
  });

  test("its files are too large together", async () => {
    const files = Array.from({ length: 10 }, (_, i) => ({ name: `f${i}`, content: Buffer.alloc(1 << 20, i) }));
    expect((await refusal(zipBytes([DOCKERFILE, ...files]))).message).toMatch(/larger than 8388608 bytes/);
  });
});

test.each([
  ["text", Buffer.from("this is no zip at all, however long one reads it")],
  ["nothing", Buffer.alloc(0)],
  ["a zip cut short", zipBytes([DOCKERFILE]).subarray(0, 60)],
])("%s is not a zip file", async (_what, bytes) => {
  const err = await refusal(bytes);
  expect(err.code).toBe("ARCHIVE_INVALID");
});

test("an archive without a Dockerfile at its root says where there is one", async () => {
  const err = await refusal(zipBytes([{ name: "app/Dockerfile", content: "FROM scratch" }]));
  expect(err.code).toBe("ARCHIVE_DOCKERFILE_NOT_FOUND");
  expect(err.message).toMatch(/only "app\/Dockerfile": zip what is in the folder/);
});

test("a Dockerfile that is a link or a folder is none", async () => {
  for (const entry of [
    { name: "Dockerfile", content: "other", mode: 0o120777 },
    { name: "Dockerfile/", mode: 0o040755 },
  ])
    expect((await refusal(zipBytes([{ name: "other" }, entry]))).code).toBe("ARCHIVE_DOCKERFILE_NOT_FOUND");
});

test("whatever is done to an archive's bytes, it is unpacked or refused, and nothing lands outside", async () => {
  const honest = zipBytes([
    DOCKERFILE,
    { name: "a/b", content: "hello" },
    { name: "l", content: "a/b", mode: 0o120777 },
  ]);
  const change = fc.tuple(fc.nat(honest.length - 1), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
      const bytes = Buffer.from(honest);
      for (const [at, value] of changes) bytes[at] = value;
      await rm(join(scratch, "out"), { recursive: true, force: true });
      await unpack(bytes).catch((err: unknown) => expect(err).toBeInstanceOf(BuildError));
      expect((await readdir(scratch)).sort().join()).toMatch(/^artifact\.zip(,out)?$/);
    }),
    { numRuns: 300 },
  );
});

test("an abort ends it", async () => {
  await writeFile(join(scratch, "artifact.zip"), zipBytes([DOCKERFILE]));
  const reason = new Error("enough");
  const unpacking = unpackArchive(
    join(scratch, "artifact.zip"),
    join(scratch, "out"),
    { limits: LIMITS },
    AbortSignal.abort(reason),
  );
  await expect(unpacking).rejects.toBe(reason);
});
