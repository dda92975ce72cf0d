import { readFileSync } from "node:fs";
import { parse } from "smol-toml";
import { z } from "zod";
import type { EgressRule } from "../../host/host-client.ts";
import { ALWAYS_CLOSED, overlap, PRIVATE, parseRange, within } from "../../host/network/address-range.ts";
import { messageOf, TorporError } from "../../lib/errors.ts";

/** What the operator says of one subnet or security group; without accounts, it is everybody's. */
interface OfAccounts {
  readonly accounts?: readonly string[] | undefined;
}
export interface Subnet extends OfAccounts {
  readonly routes: readonly string[];
}
export interface SecurityGroup extends OfAccounts {
  readonly rules: readonly EgressRule[];
}

/** What the subnets and security groups of connectors stand for here, by their ids. */
export interface Networks {
  readonly subnets: ReadonlyMap<string, Subnet>;
  readonly groups: ReadonlyMap<string, SecurityGroup>;
}

/** The security group of a connector that names none. */
export const DEFAULT_GROUP = "default";

const SUBNET_ID = /^subnet-[0-9a-z]+$/;
const GROUP_ID = /^(sg-[0-9a-zA-Z]+|default)$/;
const NAME = /^(\*|(\*\.)?[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*)$/;
const EVERYWHERE = "0.0.0.0/0";

const accounts = z.array(z.string().regex(/^\d{12}$/, "twelve digits")).optional();
const port = z.int().min(1).max(65_535);
const portRange = z
  .string()
  .regex(/^\d{1,5}-\d{1,5}$/, 'a port, or two as "8000-8099"')
  .transform((text) => text.split("-").map(Number) as [number, number])
  .refine(([first, last]) => first >= 1 && first <= last && last <= 65_535, "two ports, the lower one first");
const rule = z
  .strictObject({
    protocol: z.enum(["tcp", "udp", "icmp", "any"]).default("any"),
    ports: z
      .array(z.union([port.transform((n): [number, number] => [n, n]), portRange]))
      .min(1)
      .optional(),
    cidrs: z.array(z.string()).min(1).optional(),
    names: z.array(z.string().toLowerCase().regex(NAME, "a name, *.name or *")).min(1).optional(),
  })
  .refine(({ cidrs, names }) => cidrs || names, "cidrs, names or both")
  .refine(({ protocol, ports }) => protocol !== "icmp" || !ports, "no ports with icmp");
const file = z.strictObject({
  subnets: z.record(z.string(), z.strictObject({ routes: z.array(z.string()), accounts })).default({}),
  security_groups: z.record(z.string(), z.strictObject({ allow: z.array(rule), accounts })).default({}),
});

/**
 * No file: there are none.
 * @param slots the range that guests have their addresses from
 * @throws TorporError naming the file, the place in it, and what was expected
 */
export function readNetworkFile(path: string, slots: string): Networks {
  if (path === "") return { subnets: new Map(), groups: new Map() };
  const parsed = file.safeParse(toml(path));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const place = issue?.path.join(".") || "the whole";
    throw invalid(path, `${place}: ${issue?.message}`);
  }
  const subnets = new Map<string, Subnet>();
  for (const [id, subnet] of Object.entries(parsed.data.subnets)) {
    if (!SUBNET_ID.test(id)) throw invalid(path, `subnets: ${JSON.stringify(id)} is not the id of a subnet`);
    for (const route of subnet.routes) checkRoute(path, `subnets.${id}`, route, slots);
    subnets.set(id, subnet);
  }
  const groups = new Map<string, SecurityGroup>();
  for (const [id, group] of Object.entries(parsed.data.security_groups)) {
    if (!GROUP_ID.test(id))
      throw invalid(path, `security_groups: ${JSON.stringify(id)} is not the id of a security group, nor default`);
    const place = `security_groups.${id}`;
    const rules = group.allow.map(({ protocol, ports = [], cidrs = [EVERYWHERE], names }): EgressRule => {
      for (const cidr of cidrs) if (!parseRange(cidr)) throw invalid(path, `${place}: ${notARange(cidr)}`);
      return { protocol, ports, cidrs, ...(names && { names }) };
    });
    groups.set(id, { rules, accounts: group.accounts });
  }
  return { subnets, groups };
}

/** A route says outright what of the private it opens: a wide one is meant for the Internet, and would open it all. */
function checkRoute(path: string, place: string, route: string, slots: string): void {
  if (route === "public") return;
  const range = parseRange(route);
  if (!range) throw invalid(path, `${place}: ${notARange(route)}, and not public`);
  for (const closed of [...ALWAYS_CLOSED, slots])
    if (within(range, parseRange(closed)!))
      throw invalid(
        path,
        `${place}: ${route} is in ${closed}, which is never reached: it is the host's, or no machine's`,
      );
  for (const special of [...PRIVATE, ...ALWAYS_CLOSED])
    if (overlap(range, parseRange(special)!) && !within(range, parseRange(special)!))
      throw invalid(
        path,
        `${place}: ${route} has ${special} in it; write "public" for all that is not private, and private ranges by themselves`,
      );
}

const notARange = (text: string): string =>
  `${JSON.stringify(text)} is not an IPv4 range, such as 10.20.0.0/16, whose address ends with the prefix`;

function toml(path: string): unknown {
  try {
    return parse(readFileSync(path, "utf8"));
  } catch (err) {
    throw invalid(path, messageOf(err));
  }
}

const invalid = (path: string, what: string): TorporError =>
  new TorporError("invalid_input", `network-file ${path}: ${what}`);
