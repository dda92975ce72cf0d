import { readFile } from "node:fs/promises";
import { isIPv4 } from "node:net";

/** systemd-resolved listens on loopback, which no guest reaches, and writes down whom it asks itself. */
const FILES = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/** The host's first IPv4 name server that is not on its own loopback; undefined when there is none. */
export async function upstreamResolver(files: readonly string[] = FILES): Promise<string | undefined> {
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    for (const line of text.split("\n")) {
      const address = /^\s*nameserver\s+(\S+)/.exec(line)?.[1];
      if (address && isIPv4(address) && !address.startsWith("127.")) return address;
    }
  }
  return undefined;
}
