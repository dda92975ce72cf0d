import { AGENT_PORT, METADATA_PORT } from "../agent/connection.ts";
import { ALWAYS_CLOSED, formatAddress, merged, NOT_PUBLIC, parseRange } from "./address-range.ts";
import { type EgressGrant, type EgressPolicy, type EgressRule, INTERNET, nameService, nameSetName } from "./egress.ts";
import { AGENT_CLASS } from "./shaping.ts";

/** The same in every slot: the template's ARP cache remembers it, and another one costs up to 40 s of silence. */
export const TAP_MAC = "02:00:00:00:00:01";
export const GUEST_MAC = "52:54:00:00:00:01";
/** Of our forwarder, at the host's end of a slot: below what sockets get without asking. */
export const FORWARDER_PORT = 4753;
/** Addresses that one rule's names have led to and that are open at once. */
export const NAME_SET_SIZE = 4096;

/** A connection that has ended is remembered for minutes otherwise, in a table that is the whole host's. */
export const BRIEF_MEMORY = `ct timeout brief {
    protocol tcp; l3proto ip;
    policy = { syn_sent : 30, syn_recv : 30, fin_wait : 30, close_wait : 60, last_ack : 30, time_wait : 10, close : 5 }
  }`;
export const REMEMBER_BRIEFLY = 'ct timeout set "brief"';

/** What a guest may have of the kernel that it shares with others. */
export interface ConnectionLimits {
  /** Open at once. */
  readonly most: number;
  readonly perSecond: number;
}

export interface SlotSurroundings {
  /** Range of all slots. */
  readonly slots: string;
  /** The host's name server; undefined: names do not resolve. */
  readonly resolver: string | undefined;
  /** The host's end of the slot. */
  readonly hostAddress: string;
  readonly limits: ConnectionLimits;
}

/**
 * Inside a slot: the host reaches the guest's agent and nothing else; the guest reaches what its policy says, under its
 * own addresses only, and nothing that answers in the slot itself. Processes in the slot (a build's steps, or a VMM that
 * its guest has taken over) reach the same. The name server is 169.254.0.1, which stands for whoever resolves for this
 * guest. 169.254.169.254 is the guest's own agent: connections to it are turned round in the slot, so that nothing in the
 * guest has to listen on a port that the workload may want.
 *
 * One transaction, for a slot without rules as for one with; addresses that names have led to stay.
 */
export function slotRules(policy: EgressPolicy | undefined, around: SlotSurroundings): string {
  const { slots, limits } = around;
  const { grants } = policy ?? { grants: [INTERNET] };
  const dns = dnsTarget(policy, around);
  const toDns = (rule: (protocol: "udp" | "tcp", target: DnsTarget) => string): string =>
    dns ? `${rule("udp", dns)}\n    ${rule("tcp", dns)}` : "";
  return `
table netdev torpor {
}
flush table netdev torpor
table netdev torpor {
  chain ingress {
    type filter hook ingress device "tap0" priority 0; policy drop;
    ether saddr != ${GUEST_MAC} drop
    ether type ip ip saddr 169.254.0.2 accept
    ether type arp arp saddr ether ${GUEST_MAC} arp saddr ip 169.254.0.2 accept
  }
}
table ip torpor {
}
flush table ip torpor
table ip torpor {
  ${BRIEF_MEMORY}
${grants.map(setsOf).join("")}
  chain prerouting {
    type nat hook prerouting priority dstnat;
    iifname "veth0" tcp dport ${AGENT_PORT} dnat to 169.254.0.2
    iifname "tap0" ip daddr 169.254.169.254 tcp dport 80 dnat to 169.254.0.2:${METADATA_PORT}
    ${toDns((p, { address, port }) => `iifname "tap0" ip daddr 169.254.0.1 ${p} dport 53 dnat to ${address}:${port}`)}
  }
  chain local {
    type nat hook output priority -100;
    ${toDns((p, { address, port }) => `ip daddr 169.254.0.1 ${p} dport 53 dnat to ${address}:${port}`)}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "tap0" snat to 169.254.0.1
    oifname "veth0" masquerade
  }
  chain admit {
    ct state new limit rate over ${limits.perSecond}/second burst ${2 * limits.perSecond} packets drop
    ct state new ct count over ${limits.most} drop
    ct state new ${REMEMBER_BRIEFLY}
    accept
  }
${grants.map(grantChain).join("")}
  chain egress {
    ${toDns((p, { address, port }) => `ip daddr ${address} ${p} dport ${port} ct status dnat goto admit`)}
    ip daddr { ${rangesOf([...ALWAYS_CLOSED, slots])} } drop
${grants.map(jumpsTo).join("")}    drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    ct direction reply tcp sport ${AGENT_PORT} meta priority set ${AGENT_CLASS} accept
    iifname "veth0" oifname "tap0" tcp dport ${AGENT_PORT} meta priority set ${AGENT_CLASS} accept
    ct state established,related accept
    iifname "tap0" oifname "tap0" tcp dport ${METADATA_PORT} ct status dnat accept
    iifname "tap0" oifname "veth0" jump egress
  }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lo" accept
    iifname "tap0" ip daddr 169.254.0.1 meta l4proto { tcp, udp } th dport 53 reject
  }
  chain output {
    type filter hook output priority filter; policy drop;
    ct state invalid drop
    ct state established,related accept
    oifname "lo" accept
    oifname "veth0" jump egress
  }
}
table ip6 torpor {
}
flush table ip6 torpor
table ip6 torpor {
  chain forward { type filter hook forward priority filter; policy drop; }
  chain input { type filter hook input priority filter; policy drop; }
  chain output { type filter hook output priority filter; policy drop; }
}
`;
}

interface DnsTarget {
  readonly address: string;
  readonly port: number;
}

/** Who answers what the guest asks 169.254.0.1. */
function dnsTarget(
  policy: EgressPolicy | undefined,
  { resolver, hostAddress }: SlotSurroundings,
): DnsTarget | undefined {
  const { kind } = policy ? nameService(policy) : { kind: "direct" as const };
  if (kind === "none") return undefined;
  if (kind === "forwarder") return { address: hostAddress, port: FORWARDER_PORT };
  return resolver === undefined ? undefined : { address: resolver, port: 53 };
}

const setsOf = ({ rules }: EgressGrant, grant: number): string =>
  rules
    .map(({ names }, rule) =>
      names ? `  set ${nameSetName(grant, rule)} { type ipv4_addr; flags timeout; size ${NAME_SET_SIZE}; }\n` : "",
    )
    .join("");

function grantChain({ rules }: EgressGrant, grant: number): string {
  const lines = rules.map((rule, index) => `    ${matchOf(rule, nameSetName(grant, index))} goto admit\n`);
  return `  chain grant_${grant} {\n${lines.join("")}  }\n`;
}

function matchOf({ protocol, ports, cidrs, names }: EgressRule, set: string): string {
  const parts = [];
  if (!cidrs.includes("0.0.0.0/0")) parts.push(`ip daddr { ${rangesOf(cidrs)} }`);
  if (names) parts.push(`ip daddr @${set}`);
  if (ports.length > 0) {
    const list = merged(ports.map(([first, last]) => ({ first, last })))
      .map(({ first, last }) => `${first}-${last}`)
      .join(", ");
    const protocols = protocol === "any" ? "{ tcp, udp }" : protocol;
    parts.push(`meta l4proto ${protocols} th dport { ${list} }`);
  } else if (protocol !== "any") parts.push(`meta l4proto ${protocol}`);
  return parts.join(" ");
}

/** Ways out of a grant that did not accept lead on to the next. */
function jumpsTo({ routes }: EgressGrant, grant: number): string {
  const ranges = routes.filter((route) => route !== "public");
  const ways = [
    ...(ranges.length > 0 ? [`ip daddr { ${rangesOf(ranges)} }`] : []),
    ...(routes.includes("public") ? [`ip daddr != { ${rangesOf(NOT_PUBLIC)} }`] : []),
  ];
  return ways.map((way) => `    ${way} jump grant_${grant}\n`).join("");
}

const rangesOf = (cidrs: readonly string[]): string =>
  merged(cidrs.map((cidr) => parseRange(cidr)!))
    .map(({ first, last }) => `${formatAddress(first)}-${formatAddress(last)}`)
    .join(", ");
