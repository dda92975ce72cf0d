import { ALWAYS_CLOSED } from "./address-range.ts";
import { BRIEF_MEMORY, FORWARDER_PORT, REMEMBER_BRIEFLY } from "./rules.ts";

/** One a range: servers with other ranges on this machine have their own. */
export const hostTable = (cidr: string): string => `torpor_${cidr.split(".").slice(0, 2).join("_")}`;

/** Bytes by the name of the slot's interface. */
export const SENT = "sent";
export const RECEIVED = "received";

/**
 * On the host: guests go out masqueraded, and reach neither the host itself nor each other; what they may reach beside
 * that is their slot's to say. A table of our own, beside whatever else the host has. Made anew each time, but for what
 * has been counted.
 */
export function hostRules(cidr: string, resolver: string | undefined): string {
  const table = hostTable(cidr);
  return `
table ip ${table} {
}
flush table ip ${table}
table ip ${table} {
  ${BRIEF_MEMORY}
  set ${SENT} { type ifname; counter; }
  set ${RECEIVED} { type ifname; counter; }
  chain source {
    type filter hook prerouting priority raw;
    iifname "torpor*" fib saddr . iif oif missing drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr ${cidr} oifname != "torpor*" masquerade
  }
  chain forward {
    type filter hook forward priority filter;
    iifname "torpor*" oifname "torpor*" drop
    oifname "torpor*" ct state new drop
    oifname @${RECEIVED}
    iifname != "torpor*" return
    ct state invalid drop
    ct state new ${REMEMBER_BRIEFLY}
    iifname @${SENT}
    ${resolver ? `ip daddr ${resolver} meta l4proto { tcp, udp } th dport 53 accept` : ""}
    ip daddr { ${[...ALWAYS_CLOSED, cidr].join(", ")} } drop
  }
  chain input {
    type filter hook input priority filter;
    iifname != "torpor*" return
    ct state established,related accept
    ip daddr ${cidr} meta l4proto { tcp, udp } th dport ${FORWARDER_PORT} accept
    drop
  }
}
`;
}

/** Begins to count the slot's bytes, from zero. */
export function countFrom(cidr: string, interfaceName: string): string {
  const table = hostTable(cidr);
  return [SENT, RECEIVED]
    .flatMap((set) =>
      ["add", "delete", "add"].map((verb) => `${verb} element ip ${table} ${set} { ${interfaceName} }\n`),
    )
    .join("");
}
