import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Networks, readNetworkFile } from "./network-file.ts";

const SLOTS = "100.64.0.0/16";
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "torpor-networks-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(text: string): Promise<Networks> {
  const path = join(folder, "networks.toml");
  await writeFile(path, text);
  return readNetworkFile(path, SLOTS);
}

test("without a file there is nothing", () => {
  expect(readNetworkFile("", SLOTS)).toEqual({ subnets: new Map(), groups: new Map() });
});

test("a file says what subnets lead to and what groups allow, what is left out being everything", async () => {
  const { subnets, groups } = await read(`
    [subnets.subnet-0a1]
    routes = ["public", "10.20.0.0/16", "100.100.0.0/24"]
    accounts = ["000000000000"]
    [subnets.subnet-none]
    routes = []
    [security_groups.sg-0Web]
    allow = [
      { protocol = "tcp", ports = [443, "8000-8099"], cidrs = ["0.0.0.0/0"] },
      { names = ["API.example.com", "*.example.com"] },
      { protocol = "icmp", cidrs = ["10.0.0.0/8"], names = ["*"] },
    ]
    [security_groups.default]
    allow = []
  `);
  expect(subnets.get("subnet-0a1")).toEqual({
    routes: ["public", "10.20.0.0/16", "100.100.0.0/24"],
    accounts: ["000000000000"],
  });
  expect(subnets.get("subnet-none")?.routes).toEqual([]);
  expect(groups.get("sg-0Web")?.rules).toEqual([
    {
      protocol: "tcp",
      ports: [
        [443, 443],
        [8000, 8099],
      ],
      cidrs: ["0.0.0.0/0"],
    },
    { protocol: "any", ports: [], cidrs: ["0.0.0.0/0"], names: ["api.example.com", "*.example.com"] },
    { protocol: "icmp", ports: [], cidrs: ["10.0.0.0/8"], names: ["*"] },
  ]);
  expect(groups.get("default")?.rules).toEqual([]);
});

describe("what a file must not say, with the place where it does:", () => {
  const subnet = (routes: string, more = ""): string => `[subnets.subnet-1]\nroutes = ${routes}\n${more}`;
  const group = (rule: string): string => `[security_groups.sg-1]\nallow = [{ ${rule} }]`;
  test.each([
    ["no TOML", "[", /networks\.toml: .*/],
    ["something else", "[vpcs.vpc-1]", /the whole: Unrecognized key: "vpcs"/],
    ["another subnet's name", '[subnets."subnet 1"]\nroutes = []', /"subnet 1" is not the id of a subnet/],
    ["another group's name", "[security_groups.web]\nallow = []", /"web" is not the id of a security group/],
    ["no routes", "[subnets.subnet-1]", /subnets\.subnet-1\.routes/],
    [
      "a host's address for a range",
      subnet('["10.20.0.1/16"]'),
      /subnets\.subnet-1: "10\.20\.0\.1\/16" is not an IPv4 range/,
    ],
    ["IPv6", subnet('["2001:db8::/32"]'), /is not an IPv4 range/],
    ["the Internet as a range", subnet('["0.0.0.0/0"]'), /0\.0\.0\.0\/0 has 10\.0\.0\.0\/8 in it; write "public"/],
    ["a range that holds a private one", subnet('["8.0.0.0/6"]'), /has 10\.0\.0\.0\/8 in it/],
    ["the metadata service", subnet('["169.254.169.254/32"]'), /which is never reached/],
    ["loopback", subnet('["127.0.0.0/8"]'), /which is never reached/],
    ["other guests", subnet('["100.64.3.0/24"]'), /is in 100\.64\.0\.0\/16, which is never reached/],
    ["multicast", subnet('["224.0.0.0/4"]'), /which is never reached/],
    ["an account's name", subnet("[]", 'accounts = ["me"]'), /subnets\.subnet-1\.accounts\.0: twelve digits/],
    ["a rule for nothing", group('protocol = "tcp"'), /allow\.0: cidrs, names or both/],
    ["another protocol", group('protocol = "sctp", names = ["a.b"]'), /allow\.0\.protocol/],
    ["ports of ICMP", group('protocol = "icmp", ports = [1], names = ["a.b"]'), /no ports with icmp/],
    ["a port too many", group('ports = [65536], names = ["a.b"]'), /allow\.0\.ports\.0/],
    ["ports backwards", group('ports = ["9-8"], names = ["a.b"]'), /allow\.0\.ports\.0/],
    ["a star inside a name", group('names = ["a.*.b"]'), /allow\.0\.names\.0: a name, \*\.name or \*/],
    ["an address as a range", group('cidrs = ["1.2.3.4/8"]'), /security_groups\.sg-1: "1\.2\.3\.4\/8"/],
    ["a key of its own", group('names = ["a.b"], deny = true'), /Unrecognized key: "deny"/],
  ])("%s", async (_, text, message) => {
    await expect(read(text)).rejects.toThrow(message);
    await expect(read(text)).rejects.toThrow(/^network-file \/.*networks\.toml: /);
  });

  test("that it is not there", () => {
    expect(() => readNetworkFile("/nowhere/networks.toml", SLOTS)).toThrow(/network-file \/nowhere.*ENOENT/);
  });
});
