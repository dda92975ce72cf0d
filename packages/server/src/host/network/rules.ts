import { AGENT_PORT, METADATA_PORT } from "../agent/connection.ts";

/** Where a guest never gets to: what is private, local, or not an address of one machine. */
const CLOSED = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "224.0.0.0/3",
];

/**
 * Inside a slot: the host reaches the guest's agent and nothing else; the guest reaches public addresses, under its own
 * address only, and nothing that answers in the slot itself. Its name server is 169.254.0.1, which stands for the
 * host's own upstream one. 169.254.169.254 is the guest's own agent: connections to it are turned round in the slot, so
 * that nothing in the guest has to listen on a port that the workload may want.
 */
export function slotRules(resolver: string | undefined): string {
  const dns = (rule: (protocol: "udp" | "tcp") => string): string =>
    resolver ? `${rule("udp")}\n    ${rule("tcp")}` : "";
  return `
table ip torpor {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    iifname "veth0" tcp dport ${AGENT_PORT} dnat to 169.254.0.2
    iifname "tap0" ip daddr 169.254.169.254 tcp dport 80 dnat to 169.254.0.2:${METADATA_PORT}
    ${dns((p) => `iifname "tap0" ip daddr 169.254.0.1 ${p} dport 53 dnat to ${resolver}`)}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    oifname "tap0" snat to 169.254.0.1
    oifname "veth0" masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "veth0" oifname "tap0" tcp dport ${AGENT_PORT} accept
    iifname "tap0" ip saddr != 169.254.0.2 drop
    iifname "tap0" oifname "tap0" tcp dport ${METADATA_PORT} ct status dnat accept
    ${dns((p) => `iifname "tap0" ip daddr ${resolver} ${p} dport 53 ct status dnat accept`)}
    iifname "tap0" ip daddr { ${CLOSED.join(", ")} } drop
    iifname "tap0" oifname "veth0" accept
  }
  chain input {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lo" accept
  }
}
table ip6 torpor {
  chain forward { type filter hook forward priority filter; policy drop; }
  chain input { type filter hook input priority filter; policy drop; }
}
`;
}

/**
 * On the host: guests go out masqueraded, and reach neither the host itself nor each other. A table of our own, made
 * anew each time, beside whatever else the host has.
 */
export function hostRules(cidr: string, resolver: string | undefined): string {
  // One table a range: servers with other ranges on this machine keep theirs.
  const table = `torpor_${cidr.split(".").slice(0, 2).join("_")}`;
  return `
table ip ${table} {
}
delete table ip ${table}
table ip ${table} {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr ${cidr} oifname != "torpor*" masquerade
  }
  chain forward {
    type filter hook forward priority filter;
    iifname "torpor*" oifname "torpor*" drop
    ${resolver ? `iifname "torpor*" ip daddr ${resolver} meta l4proto { tcp, udp } th dport 53 accept` : ""}
    iifname "torpor*" ip daddr { ${CLOSED.join(", ")} } drop
    oifname "torpor*" ct state new drop
  }
  chain input {
    type filter hook input priority filter;
    iifname "torpor*" ct state established,related accept
    iifname "torpor*" drop
  }
}
`;
}
