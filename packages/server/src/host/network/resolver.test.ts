import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { upstreamResolver } from "./resolver.ts";

test.each([
  ["a plain file", ["# made by hand\nsearch example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"], "192.0.2.1"],
  [
    "systemd-resolved's stub and its upstream",
    ["nameserver 127.0.0.53\n", "nameserver 198.51.100.7\n"],
    "198.51.100.7",
  ],
  ["IPv6 only", ["nameserver 2001:db8::1\n"], undefined],
  ["hostile text", ["nameserver 192.0.2.1;drop\nnameserver\nnameserver 999.1.1.1\n"], undefined],
  ["no file", [], undefined],
])("%s", async (_, texts, expected) => {
  const dir = await mkdtemp(join(tmpdir(), "torpor-resolv-"));
  try {
    const files = texts.map((_text, i) => join(dir, String(i)));
    await Promise.all(texts.map((text, i) => writeFile(files[i]!, text)));
    expect(await upstreamResolver([...files, join(dir, "missing")])).toBe(expected);
  } finally {
    await rm(dir, { recursive: true });
  }
});
