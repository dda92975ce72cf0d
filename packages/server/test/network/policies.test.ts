import { basename } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EgressPolicy, EgressRule } from "../../src/host/network/egress.ts";
import { HOST_ADDRESS, HOST_PRIVATE_ADDRESS, Lab, OUTSIDE, reached } from "./lab.ts";

let lab: Lab;
beforeAll(async () => {
  lab = await Lab.make();
  await lab.start();
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
});

const tcp = (cidrs: string[], ...ports: [number, number][]): EgressRule => ({ protocol: "tcp", ports, cidrs });
const all: EgressRule = { protocol: "any", ports: [], cidrs: ["0.0.0.0/0"] };
const policy = (...grants: EgressPolicy["grants"][number][]): EgressPolicy => ({ grants });

describe("what a guest reaches", () => {
  test.each<[string, EgressPolicy, string[]]>([
    ["is nothing without a route", policy({ routes: [], rules: [all] }), []],
    ["is nothing without a rule", policy({ routes: ["public", "10.20.0.0/16"], rules: [] }), []],
    ["is nothing without a connector's grant", policy(), []],
    ["is a private range where one is named", policy({ routes: ["10.20.0.0/24"], rules: [all] }), ["10.20.0.5"]],
    [
      "is what lies on a route and is allowed",
      policy({
        routes: ["public", "10.20.0.0/16"],
        rules: [tcp(["5.6.7.8/32"]), tcp(["10.20.0.0/24", "192.168.0.0/16"])],
      }),
      ["5.6.7.8", "10.20.0.5"],
    ],
    [
      "is the union of several connectors, and not of routes of one with rules of another",
      policy(
        { routes: ["10.20.0.0/16"], rules: [tcp(["10.20.0.5/32"])] },
        { routes: ["192.168.7.0/24", "172.16.0.0/16"], rules: [tcp(["192.168.0.0/16"]), tcp(["10.0.0.0/8"])] },
      ),
      ["10.20.0.5", "192.168.7.7"],
    ],
    [
      "may be written with ranges that overlap",
      policy({
        routes: ["10.0.0.0/8", "10.20.0.0/16", "public"],
        rules: [tcp(["10.20.0.0/16", "10.0.0.0/8"], [1, 500], [443, 443])],
      }),
      ["10.20.0.5", "10.20.9.9"],
    ],
  ])("%s", async (_, given, open) => {
    await using guest = await lab.guest(given);
    expect(await reached(guest.does, OUTSIDE)).toEqual(open);
  });

  test("is as many ports and protocols as the rule says", async () => {
    await using guest = await lab.guest(
      policy({
        routes: ["public"],
        rules: [
          tcp(["5.6.7.8/32"], [80, 80], [8000, 9000]),
          { protocol: "udp", ports: [[123, 123]], cidrs: ["5.6.7.8/32"] },
        ],
      }),
    );
    const ports = [25, 80, 443, 8080];
    const said = await Promise.all(ports.map((port) => guest.does.tcp("5.6.7.8", port)));
    expect(ports.filter((_port, index) => said[index])).toEqual([80, 8080]);
    expect(await guest.does.udp("5.6.7.8", 123)).toBe(true);
    expect(await guest.does.udp("5.6.7.8", 9999)).toBe(false);
  });

  test("is never the host, another guest, or what is link-local, whatever the policy says", async () => {
    const everything = ["0.0.0.0/5", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8", "public"];
    await using guest = await lab.guest(policy({ routes: everything, rules: [all] }));
    await using neighbour = await lab.guest(policy({ routes: everything, rules: [all] }));
    await neighbour.does.listen(443);
    await using host = lab.programsIn(lab.host);
    await host.calls.listen(443);
    const closed = [
      HOST_ADDRESS,
      HOST_PRIVATE_ADDRESS,
      neighbour.slot.address,
      "169.254.0.1",
      "169.254.77.7",
      "127.0.0.1",
    ];
    closed.push(
      "100.99.200.1",
      guest.slot.address.replace(/\d+$/, (last) => `${Number(last) - 1}`),
    );
    expect(await reached(guest.does, closed)).toEqual([]);
    expect(await reached(guest.does, ["192.168.7.7", "100.100.0.9", "5.6.7.8"])).toHaveLength(3);
  });

  test("is the same for a build's steps in the slot", async () => {
    await using guest = await lab.guest(policy({ routes: ["10.20.0.0/16"], rules: [tcp(["0.0.0.0/0"])] }));
    await using inSlot = lab.programsIn(basename(guest.slot.netns));
    expect(await reached(inSlot.calls, OUTSIDE)).toEqual(["10.20.0.5", "10.20.9.9"]);
  });
});

describe("names", () => {
  const zone = {
    "a.example.com": { answers: [{ type: "A" as const, name: "a.example.com", ttl: 9, data: "5.6.7.8" }] },
  };

  test("resolve where addresses are reached", async () => {
    await lab.outside.serveZone(zone);
    await using guest = await lab.guest(policy({ routes: ["10.20.0.0/16"], rules: [all] }));
    expect((await guest.does.dns("a.example.com"))?.rcode).toBe("NOERROR");
  });

  test("are not even asked for where nothing is", async () => {
    await lab.outside.serveZone(zone);
    await using guest = await lab.guest(policy());
    await lab.outside.asked();
    for (const transport of ["udp", "tcp"] as const)
      expect(await guest.does.dns("secret.a.example.com", { transport })).toBeUndefined();
    expect(await guest.does.tcp("5.5.0.2", 53)).toBeUndefined();
    expect(await lab.outside.asked()).toEqual([]);
  });
});

describe("a server that starts again", () => {
  const restricted = policy({ routes: ["10.20.0.0/16"], rules: [tcp(["0.0.0.0/0"])] });

  test("finds a slot's rules, and connections, as they were", async () => {
    await using guest = await lab.guest(restricted);
    await using open = await lab.guest();
    expect(await guest.does.keep("kept", "10.20.0.5", 443)).toBe(true);
    expect(await open.does.keep("kept", "5.6.7.8", 443)).toBe(true);
    await lab.kill();
    expect(await reached(guest.does, OUTSIDE)).toEqual(["10.20.0.5", "10.20.9.9"]);
    await lab.start({
      held: new Map([
        [guest.slot.index, restricted],
        [open.slot.index, undefined],
      ]),
    });
    for (const each of [guest, open]) expect(await each.does.say("kept")).toBe(true);
    expect(await reached(guest.does, OUTSIDE)).toEqual(["10.20.0.5", "10.20.9.9"]);
    expect(await reached(open.does, OUTSIDE)).toEqual(["5.6.7.8", "5.6.7.9", "8.8.8.8"]);
  });

  test("renews rules that another version, or somebody, has left in another form", async () => {
    await using guest = await lab.guest(restricted);
    await lab.kill();
    lab.nftIn(basename(guest.slot.netns), "flush", "ruleset");
    await lab.start({ held: new Map([[guest.slot.index, restricted]]) });
    expect(await reached(guest.does, OUTSIDE)).toEqual(["10.20.0.5", "10.20.9.9"]);
  });
});

test("a host whose firewall was reloaded without our rules gets them again with the next slot", async () => {
  lab.nftIn(lab.host, "flush", "ruleset");
  await using guest = await lab.guest();
  await using host = lab.programsIn(lab.host);
  await host.calls.listen(8443);
  expect(await reached(guest.does, OUTSIDE)).toEqual(["5.6.7.8", "5.6.7.9", "8.8.8.8"]);
  expect(await reached(guest.does, [HOST_ADDRESS], 8443)).toEqual([]);
});
