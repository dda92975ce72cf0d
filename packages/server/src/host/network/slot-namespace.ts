import { readdir } from "node:fs/promises";
import { messageOf } from "../../lib/errors.ts";
import { run } from "../../lib/run.ts";
import { GUEST_MAC, TAP_MAC } from "./rules.ts";
import { shapingCommands } from "./shaping.ts";

const NETNS_DIR = "/run/netns";
export const TAP = "tap0";

/** Names and addresses of a slot. */
export interface SlotPlace {
  /** Of its namespace. */
  readonly name: string;
  /** At the host's end; the name is the lock among servers of one machine. */
  readonly veth: string;
  readonly hostAddress: string;
  readonly address: string;
}

export const netnsPath = (name: string): string => `${NETNS_DIR}/${name}`;

/** Names of all network namespaces of this machine that have one. */
export async function namespaceNames(): Promise<string[]> {
  return await readdir(NETNS_DIR).catch(() => []);
}

/** Read strictly: what comes from the guest is the guest's, and nobody is told of better ways or other addresses. */
const SYSCTLS = [
  "net/ipv4/ip_forward 1",
  "net/ipv4/conf/all/rp_filter 1",
  "net/ipv4/conf/all/arp_ignore 1",
  "net/ipv4/conf/all/accept_redirects 0",
  "net/ipv4/conf/all/send_redirects 0",
  "net/ipv4/conf/all/accept_source_route 0",
];

const FINISH = `
for each in ${SYSCTLS.map((line) => `"${line}"`).join(" ")}; do
  set -- "$1" $each
  echo "$3" > "/proc/sys/$2" || exit
done
if [ -n "$1" ]; then printf %s "$1" | tc -batch - || exit; fi
exec nft -f -
`;

/**
 * Makes the namespace with its tap and veth, closed before anything can be in it.
 * @returns false when another server on this machine has the veth's name
 */
export async function makeNamespace(
  place: SlotPlace,
  { rules, bytesPerSecond }: { readonly rules: string; readonly bytesPerSecond: number | undefined },
): Promise<boolean> {
  const { name, veth, hostAddress, address } = place;
  await run("ip", ["netns", "add", name]);
  try {
    await run("ip", ["link", "add", veth, "type", "veth", "peer", "name", "veth0", "netns", name]);
  } catch (err) {
    await run("ip", ["netns", "del", name]);
    if (/File exists/.test(messageOf(err))) return false;
    throw err;
  }
  const host = [`addr add ${hostAddress}/30 dev ${veth}`, `link set ${veth} up`];
  const inside = [
    "link set lo up",
    `addr add ${address}/30 dev veth0`,
    "link set veth0 up",
    `tuntap add dev ${TAP} mode tap`,
    `link set ${TAP} address ${TAP_MAC}`,
    `addr add 169.254.0.1/30 dev ${TAP}`,
    `link set ${TAP} up`,
    // The host never asks who the guest is: a question would be answered by whoever forges faster.
    `neigh add 169.254.0.2 lladdr ${GUEST_MAC} dev ${TAP} nud permanent`,
    `route add default via ${hostAddress}`,
  ];
  try {
    await run("ip", ["-batch", "-"], { input: `${host.join("\n")}\n` });
    await run("ip", ["-n", name, "-batch", "-"], { input: `${inside.join("\n")}\n` });
    const shaping = bytesPerSecond === undefined ? "" : shapingCommands(bytesPerSecond);
    await inNamespace(name, ["sh", "-c", FINISH, "sh", shaping], rules);
  } catch (err) {
    await removeNamespace(name);
    throw err;
  }
  return true;
}

export async function removeNamespace(name: string): Promise<void> {
  // The veth first: a namespace goes in the background, and until then its veth's name is taken. By its end in our
  // namespace: a crash can have left one without it, and then the name is another server's.
  await ignoreMissing(run("ip", ["-n", name, "link", "del", "veth0"]));
  await ignoreMissing(run("ip", ["netns", "del", name]));
}

/** One transaction. */
export async function applyIn(name: string, nft: string): Promise<void> {
  await inNamespace(name, ["nft", "-f", "-"], nft);
}

/** Bounds what the slot sends and receives; to be called once for a slot. */
export async function shape(name: string, bytesPerSecond: number): Promise<void> {
  await inNamespace(name, ["tc", "-batch", "-"], shapingCommands(bytesPerSecond));
}

async function inNamespace(name: string, command: readonly string[], input: string): Promise<void> {
  await run("nsenter", [`--net=${netnsPath(name)}`, "--", ...command], { input });
}

async function ignoreMissing(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (err) {
    if (!/Cannot find device|No such file/.test(messageOf(err))) throw err;
  }
}
