import { execFileSync } from "node:child_process";
import { basename } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AGENT_PORT } from "../../src/host/agent/connection.ts";
import { GUEST_MAC } from "../../src/host/network/rules.ts";
import * as frames from "./frames.ts";
import { type Guest, HOST_ADDRESS, HOST_PRIVATE_ADDRESS, Lab, MORE_OUTSIDE, RESOLVER, reached } from "./lab.ts";

let lab: Lab;
let guest: Guest;
let neighbour: Guest;
beforeAll(async () => {
  lab = await Lab.make();
  await lab.start();
  [guest, neighbour] = [await lab.guest(), await lab.guest()];
  await neighbour.does.listen(AGENT_PORT);
  await neighbour.does.listen(8080);
});
afterAll(async () => {
  await guest?.[Symbol.asyncDispose]();
  await neighbour?.[Symbol.asyncDispose]();
  await lab?.[Symbol.asyncDispose]();
});

const hostEnd = ({ slot }: Guest): string => slot.address.replace(/\d+$/, (last) => `${Number(last) - 1}`);

describe("without a connector of its own a guest", () => {
  test("reaches public addresses, as the host, with packets of any size", async () => {
    expect(await guest.does.tcp("5.6.7.8", 443)).toBe(HOST_ADDRESS);
    expect(await guest.does.tcp("8.8.8.8", 25)).toBe(HOST_ADDRESS);
    expect(await guest.does.udp("5.6.7.8", 9999)).toBe(true);
    expect(await guest.does.udp("5.6.7.8", 9999, 9000)).toBe(true);
  });

  test("resolves names with the host's name server, by UDP and by TCP", async () => {
    await lab.outside.serveZone({
      "a.example.com": { answers: [{ type: "A", name: "a.example.com", ttl: 9, data: "5.6.7.8" }] },
    });
    for (const transport of ["udp", "tcp"] as const)
      expect(await guest.does.dns("a.example.com", { transport })).toMatchObject({
        rcode: "NOERROR",
        answers: [{ data: "5.6.7.8" }],
      });
    expect(await lab.outside.asked()).toEqual(["A a.example.com", "A a.example.com tcp"]);
  });

  test("reaches nothing private, local or reserved, although its host does", async () => {
    await using host = lab.programsIn(lab.host);
    const closed = [
      "10.20.0.5",
      "172.16.5.5",
      "192.168.7.7",
      ...MORE_OUTSIDE.filter((each) => !each.startsWith("100.99.")),
    ];
    expect(await reached(host.calls, closed)).toEqual(closed);
    const mapped = closed.map((address) => `::ffff:${address}`);
    const never = ["100.99.200.1", "224.0.0.251", "255.255.255.255", "0.0.0.1"];
    expect(await reached(guest.does, [...closed, ...mapped, ...never])).toEqual([]);
    expect(await Promise.all(closed.map((address) => guest.does.udp(address, 9999)))).not.toContain(true);
  });

  test("does not reach its host at any of its addresses, nor the name server beside its port", async () => {
    await using host = lab.programsIn(lab.host);
    await host.calls.listen(8080);
    const own = [HOST_ADDRESS, HOST_PRIVATE_ADDRESS, hostEnd(guest), hostEnd(neighbour), "169.254.0.1"];
    expect(await reached(guest.does, own, 8080)).toEqual([]);
    expect(await host.calls.tcp(HOST_ADDRESS, 8080)).toBeDefined();
    expect(await guest.does.tcp("169.254.0.1", 443)).toBeUndefined();
  });

  test("reaches no other guest; the host reaches the agent of each, and nothing else", async () => {
    await using host = lab.programsIn(lab.host);
    expect(await host.calls.tcp(neighbour.slot.address, AGENT_PORT)).toBeDefined();
    expect(await host.calls.tcp(neighbour.slot.address, 8080)).toBeUndefined();
    for (const port of [AGENT_PORT, 8080]) expect(await guest.does.tcp(neighbour.slot.address, port)).toBeUndefined();
  });

  test("is the same for processes in the slot itself: a build's steps, or what has got out of a VM", async () => {
    await using inSlot = lab.programsIn(basename(guest.slot.netns));
    await guest.does.listen(8081);
    expect(await inSlot.calls.tcp("5.6.7.8", 443)).toBe(HOST_ADDRESS);
    expect((await inSlot.calls.dns("a.example.com"))?.rcode).toBe("NOERROR");
    expect((await inSlot.calls.dns("a.example.com", { transport: "tcp" }))?.rcode).toBe("NOERROR");
    const closed = ["10.20.0.5", "192.168.7.7", HOST_ADDRESS, hostEnd(guest), neighbour.slot.address];
    expect(await reached(inSlot.calls, closed)).toEqual([]);
    expect(await inSlot.calls.tcp("169.254.0.2", 8081)).toBeUndefined();
  });
});

describe("a root user in the guest", () => {
  test("who sends frames of his own making gets none out that is not the guest's", async () => {
    using host = await lab.see(lab.host, guest.veth);
    const forged = frames.udp("FORGED");
    const publicly = (from: string): Buffer => frames.ipv4({ from, to: "5.6.7.8", protocol: 17 }, forged);
    const fragments = (to: string): Buffer[] => [
      frames.ipv4({ to, protocol: 17, id: 77, more: true }, forged.subarray(0, 8)),
      frames.ipv4({ to, protocol: 17, id: 77, offset: 8 }, forged.subarray(8)),
    ];
    const invalid = (flags: number): Buffer =>
      frames.ipv4({ to: "5.6.7.8", protocol: 6 }, frames.tcp("169.254.0.2", "5.6.7.8", flags, "FORGED"));
    guest.send(
      ...[
        "5.6.7.9",
        "127.0.0.1",
        "169.254.0.1",
        "0.0.0.0",
        guest.slot.address,
        neighbour.slot.address,
        HOST_ADDRESS,
      ].map((from) => frames.ethernet(frames.IPV4, publicly(from))),
      frames.ethernet(frames.IPV4, publicly("169.254.0.2"), { from: "52:54:00:00:00:02" }),
      ...[0, 5, 4095].flatMap((tag) =>
        [frames.VLAN, frames.SERVICE_VLAN].map((type) =>
          frames.ethernet(type, frames.tagged(tag, publicly("169.254.0.2"))),
        ),
      ),
      frames.ethernet(
        frames.IPV6,
        Buffer.concat([Buffer.from("6000000000081140", "hex"), Buffer.alloc(32, 0xfe), forged]),
      ),
      ...["10.20.0.5", hostEnd(guest), "169.254.77.7"]
        .flatMap(fragments)
        .map((packet) => frames.ethernet(frames.IPV4, packet)),
      // One fragment, whose rest never comes.
      frames.ethernet(
        frames.IPV4,
        frames.ipv4({ to: "10.20.0.5", protocol: 17, id: 9, more: true }, forged.subarray(0, 16)),
      ),
      ...[0, 3, 7, 63].map((flags) => frames.ethernet(frames.IPV4, invalid(flags))),
      // In IPv4: to an IPv6 tunnel inside, which nobody unpacks, but at a closed address.
      frames.ethernet(frames.IPV4, frames.ipv4({ to: "192.168.7.7", protocol: 41 }, Buffer.from("FORGED"))),
      frames.ethernet(frames.IPV4, frames.ipv4({ to: "224.0.0.251", protocol: 17 }, forged)),
      frames.ethernet(frames.IPV4, frames.ipv4({ to: "5.6.7.8", protocol: 17 }, frames.udp("SENTINEL"))),
    );
    const seen = await host.until("SENTINEL");
    const sources = seen
      .filter((frame) => frame.readUInt16BE(12) === frames.IPV4)
      .map((frame) => frame.subarray(26, 30));
    expect(seen.filter((frame) => frame.includes("FORGED"))).toEqual([]);
    expect(sources.filter((from) => from[0] === 169)).toEqual([]);
  });

  test("who poisons the gateway's neighbours, or says to be it, changes nothing for anybody", async () => {
    const neighbours = (): string =>
      execFileSync("ip", ["-n", basename(guest.slot.netns), "neigh"], { encoding: "utf8" });
    const before = neighbours();
    const other = "52:54:00:00:00:66";
    for (const claimed of ["169.254.0.1", "169.254.0.2", hostEnd(guest), neighbour.slot.address, "5.6.7.8"])
      for (const [mac, from] of [
        [other, other],
        [other, GUEST_MAC],
        [GUEST_MAC, GUEST_MAC],
      ] as const)
        guest.send(
          frames.ethernet(frames.ARP, frames.arpReply(claimed, mac, "169.254.0.1"), { from }),
          frames.ethernet(frames.ARP, frames.arpReply(claimed, mac, claimed), { from, to: "ff:ff:ff:ff:ff:ff" }),
        );
    expect(await guest.does.tcp("5.6.7.8", 443)).toBe(HOST_ADDRESS);
    expect(await neighbour.does.tcp("5.6.7.8", 443)).toBe(HOST_ADDRESS);
    expect(
      neighbours()
        .split("\n")
        .filter((line) => !line.includes("veth0")),
    ).toEqual(before.split("\n").filter((line) => !line.includes("veth0")));
    expect(neighbours()).not.toContain(other);
  });

  test("who takes other addresses, another MAC and other routes gets no further, and back on his own is as before", async () => {
    await using victim = await lab.guest();
    const tries = ["10.20.0.5", HOST_ADDRESS, hostEnd(victim), neighbour.slot.address, "169.254.77.7"];
    victim.ip("addr", "add", `${victim.slot.address}/16`, "dev", "eth0");
    victim.ip("addr", "add", "10.20.0.9/16", "dev", "eth0");
    victim.ip("addr", "del", "169.254.0.2/30", "dev", "eth0");
    expect(await reached(victim.does, [...tries, "5.6.7.8"])).toEqual([]);
    victim.ip("addr", "flush", "dev", "eth0");
    victim.ip("addr", "add", "169.254.0.2/16", "dev", "eth0");
    victim.ip("route", "replace", "default", "via", "169.254.0.1", "onlink", "dev", "eth0");
    for (const address of tries) victim.ip("route", "replace", address, "via", "169.254.0.1", "onlink", "dev", "eth0");
    expect(await reached(victim.does, tries)).toEqual([]);
    expect(await victim.does.tcp("5.6.7.8", 443)).toBe(HOST_ADDRESS);
    victim.ip("link", "set", "eth0", "address", "52:54:00:00:00:99");
    expect(await victim.does.tcp("5.6.7.8", 443)).toBeUndefined();
    victim.ip("link", "set", "eth0", "address", GUEST_MAC);
    expect(await victim.does.tcp("5.6.7.8", 443)).toBe(HOST_ADDRESS);
  });

  test("who speaks IPv6 speaks to nobody", async () => {
    using host = await lab.see(lab.host, guest.veth);
    execFileSync("nsenter", [
      `--net=/run/netns/${guest.namespace}`,
      "--",
      "sysctl",
      "-qw",
      "net.ipv6.conf.eth0.disable_ipv6=0",
    ]);
    guest.ip("-6", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad");
    guest.ip("-6", "neigh", "add", "2001:db8::1", "lladdr", "02:00:00:00:00:01", "dev", "eth0");
    guest.ip("-6", "route", "add", "default", "via", "2001:db8::1", "dev", "eth0");
    for (const address of ["2606:4700::1111", "2001:db8::1", "ff02::1"])
      expect(await guest.does.tcp(address, 443)).toBeUndefined();
    guest.send(frames.ethernet(frames.IPV4, frames.ipv4({ to: "5.6.7.8", protocol: 17 }, frames.udp("SENTINEL6"))));
    const seen = await host.until("SENTINEL6");
    expect(
      seen.filter((frame) => frame.readUInt16BE(12) === frames.IPV6 && frame.includes(Buffer.from("20010db8", "hex"))),
    ).toEqual([]);
  });
});

test("a name server that is not there makes names fail at once", async () => {
  await using alone = await Lab.make();
  await alone.start({ resolver: "" });
  await using lost = await alone.guest();
  expect(await lost.does.dns("a.example.com")).toBeUndefined();
  expect(await lost.does.tcp(RESOLVER, 443)).toBe(HOST_ADDRESS);
});
