import type { LookupFunction } from "node:net";

/** Names under `.localhost` are this machine (RFC 6761), whatever DNS says; undefined for others. */
export function lookupOf(hostname: string): LookupFunction | undefined {
  return hostname.endsWith(".localhost") ? loopback : undefined;
}

const loopback: LookupFunction = (_name, options, callback) => {
  if (options.all) callback(null, [{ address: "127.0.0.1", family: 4 }]);
  else callback(null, "127.0.0.1", 4);
};
