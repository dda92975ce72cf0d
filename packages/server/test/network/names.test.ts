import { randomBytes } from "node:crypto";
import { basename } from "node:path";
import type { Answer } from "dns-packet";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { EgressPolicy } from "../../src/host/network/egress.ts";
import { type Guest, Lab, OUTSIDE, reached } from "./lab.ts";

let lab: Lab;
let guest: Guest;
/** Two names, one of them with whatever is below it; of one rule also by address. */
const POLICY: EgressPolicy = {
  grants: [
    {
      routes: ["public"],
      rules: [
        {
          protocol: "tcp",
          ports: [[443, 443]],
          cidrs: ["0.0.0.0/0"],
          names: ["api.example.com", "*.wild.example.com"],
        },
        { protocol: "tcp", ports: [[25, 25]], cidrs: ["8.8.8.8/32"] },
      ],
    },
    { routes: ["10.20.0.0/24"], rules: [{ protocol: "tcp", ports: [], cidrs: ["0.0.0.0/0"], names: ["db.internal"] }] },
  ],
};
const a = (name: string, data: string, ttl = 60): Answer => ({ type: "A", name, ttl, data });
const alias = (name: string, data: string): Answer => ({ type: "CNAME", name, ttl: 60, data });

beforeAll(async () => {
  lab = await Lab.make();
  await lab.start();
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  guest = await lab.guest(POLICY);
  await lab.outside.serveZone({
    "api.example.com": { answers: [a("api.example.com", "5.6.7.8")] },
    "deep.er.wild.example.com": { answers: [a("deep.er.wild.example.com", "5.6.7.9")] },
    "db.internal": { answers: [a("db.internal", "10.20.0.5"), a("db.internal", "10.20.9.9")] },
    "other.example.com": { answers: [a("other.example.com", "8.8.8.8")] },
  });
  await lab.outside.asked();
  return async () => await guest[Symbol.asyncDispose]();
});
const openings = (): string => lab.nftIn(basename(guest.slot.netns), "list", "set", "ip", "torpor", "names_0_0");

describe("a name that is allowed", () => {
  test("opens its addresses when it is asked for, and not before, on the rule's ports alone", async () => {
    expect(await reached(guest.does, OUTSIDE)).toEqual([]);
    expect(await guest.does.dns("API.Example.com")).toMatchObject({ rcode: "NOERROR", answers: [{ data: "5.6.7.8" }] });
    expect(await reached(guest.does, OUTSIDE)).toEqual(["5.6.7.8"]);
    expect(await reached(guest.does, OUTSIDE, 80)).toEqual([]);
    expect((await guest.does.dns("deep.er.wild.example.com"))?.answers).toHaveLength(1);
    expect(await reached(guest.does, OUTSIDE)).toEqual(["5.6.7.8", "5.6.7.9"]);
  });

  test("opens what is on the routes of its own connector, and says no more", async () => {
    const answer = await guest.does.dns("db.internal");
    expect(answer?.answers).toEqual([expect.objectContaining({ data: "10.20.0.5" })]);
    expect(await reached(guest.does, OUTSIDE)).toEqual(["10.20.0.5"]);
  });

  test("works by TCP, without EDNS, and through aliases that have to be asked for", async () => {
    await lab.outside.serveZone({
      "api.example.com": {
        answers: [alias("api.example.com", "edge.cdn.example"), alias("edge.cdn.example", "x.cdn.example")],
      },
      "x.cdn.example": { answers: [a("x.cdn.example", "5.6.7.8")] },
    });
    for (const options of [{ transport: "tcp" as const }, { edns: false }]) {
      const answer = await guest.does.dns("api.example.com", options);
      expect(answer?.answers.map(({ type }) => type)).toEqual(["CNAME", "CNAME", "A"]);
    }
    expect(await reached(guest.does, OUTSIDE)).toEqual(["5.6.7.8"]);
  });

  test("with more addresses than a datagram holds is asked for by TCP, on both sides", async () => {
    const many = Array.from({ length: 60 }, (_, n) => a("api.example.com", `5.6.8.${n}`));
    await lab.outside.serveZone({
      "api.example.com": { answers: [...many, a("api.example.com", "5.6.7.8")], truncated: true },
    });
    expect(await guest.does.dns("api.example.com", { edns: false })).toMatchObject({ truncated: true, answers: [] });
    expect((await guest.does.dns("api.example.com", { transport: "tcp" }))?.answers).toHaveLength(61);
    expect(await lab.outside.asked()).toContain("A api.example.com tcp");
    expect(await reached(guest.does, ["5.6.7.8", "5.6.7.9"])).toEqual(["5.6.7.8"]);
  });

  test("is open for a bounded time, after which connections that are there go on", async () => {
    await lab.outside.serveZone({
      "api.example.com": { answers: [a("api.example.com", "5.6.7.8", 1)] },
      "long.wild.example.com": { answers: [a("long.wild.example.com", "5.6.7.9", 7 * 86_400)] },
    });
    expect((await guest.does.dns("api.example.com"))?.answers).toMatchObject([{ ttl: 1 }]);
    expect((await guest.does.dns("long.wild.example.com"))?.answers).toMatchObject([{ ttl: 3600 }]);
    expect(openings()).toMatch(/5\.6\.7\.8 timeout 1m30s/);
    expect(openings()).toMatch(/5\.6\.7\.9 timeout 1h30s/);
    expect(await guest.does.keep("kept", "5.6.7.8", 443)).toBe(true);
    lab.nftIn(basename(guest.slot.netns), "flush", "set", "ip", "torpor", "names_0_0");
    expect(await reached(guest.does, OUTSIDE)).toEqual([]);
    expect(await guest.does.say("kept")).toBe(true);
  });

  test("that is asked for again is open for its time from then", async () => {
    for (const ttl of [60, 600]) {
      await lab.outside.serveZone({ "api.example.com": { answers: [a("api.example.com", "5.6.7.8", ttl)] } });
      await guest.does.dns("api.example.com");
    }
    expect(openings()).toMatch(/5\.6\.7\.8 timeout 10m30s/);
  });

  test("never opens what is closed, whatever it resolves to", async () => {
    const closed = ["10.20.0.5", "127.0.0.1", "169.254.169.254", "192.168.7.7", "100.99.0.5", "224.0.0.1", "0.0.0.0"];
    await lab.outside.serveZone({
      "api.example.com": {
        answers: [...closed.map((data) => a("api.example.com", data)), a("api.example.com", "5.6.7.8")],
      },
    });
    expect((await guest.does.dns("api.example.com"))?.answers).toEqual([expect.objectContaining({ data: "5.6.7.8" })]);
    expect(openings().match(/\d+\.\d+\.\d+\.\d+(?= timeout)/g)).toEqual(["5.6.7.8"]);
    expect(await reached(guest.does, OUTSIDE)).toEqual(["5.6.7.8"]);
  });

  test("has no IPv6 addresses", async () => {
    for (const type of ["AAAA", "UNKNOWN_65"])
      expect(await guest.does.dns("api.example.com", { type })).toMatchObject({ rcode: "NOERROR", answers: [] });
    expect(await lab.outside.asked()).toEqual([]);
  });
});

describe("a name that is not allowed", () => {
  test.each([
    "other.example.com",
    "wild.example.com",
    "xapi.example.com",
    "api.example.com.evil.net",
    "secret-0123.evil.net",
  ])("%s is refused, and nobody is asked", async (name) => {
    for (const type of ["A", "AAAA", "TXT", "ANY"])
      expect(await guest.does.dns(name, { type })).toMatchObject({ rcode: "REFUSED", answers: [] });
    expect(await lab.outside.asked()).toEqual([]);
  });

  test("is no way out by another name server, nor by a resolver that speaks HTTPS", async () => {
    expect(await reached(guest.does, ["5.5.0.2", "8.8.8.8"], 53)).toEqual([]);
    expect(await reached(guest.does, ["5.5.0.2", "8.8.8.8"], 443)).toEqual([]);
    expect(await guest.does.tcp("8.8.8.8", 25)).toBeDefined(); // by address
  });

  test("resolves where another connector lets every name be resolved", async () => {
    const open = { routes: ["10.20.0.0/16"], rules: [{ protocol: "any" as const, ports: [], cidrs: ["0.0.0.0/0"] }] };
    await using other = await lab.guest({ grants: [...POLICY.grants, open] });
    expect((await other.does.dns("other.example.com"))?.answers).toHaveLength(1);
    expect((await other.does.dns("api.example.com"))?.answers).toHaveLength(1);
    expect(await reached(other.does, ["5.6.7.8", "8.8.8.8", "10.20.0.5"])).toEqual(["5.6.7.8", "10.20.0.5"]);
  });
});

describe("the name server", () => {
  test("outlives whatever a guest sends it, and goes on answering", async () => {
    const nonsense = Array.from({ length: 150 }, () => randomBytes(Math.floor(Math.random() * 600)));
    await guest.does.dnsBytes(nonsense);
    // Answers as questions, pointers that lead in a circle, counts that are not true.
    await guest.does.dnsBytes([
      Buffer.from("000180000001000000000000", "hex"),
      Buffer.from("0001010000010000000000 00c00c00010001".replaceAll(" ", ""), "hex"),
      Buffer.from("00010100ffffffffffffffff", "hex"),
    ]);
    expect((await guest.does.dns("api.example.com"))?.rcode).toBe("NOERROR");
  });

  test("does not ask for a guest that asks without end", async () => {
    const query = Buffer.from("00010100000100000000000003617069076578616d706c6503636f6d0000100001", "hex"); // TXT
    await guest.does.dnsBytes(Array.from({ length: 3000 }, () => query));
    await using other = await lab.guest(POLICY);
    expect((await other.does.dns("api.example.com"))?.rcode).toBe("NOERROR");
    expect((await lab.outside.asked()).filter((question) => question.startsWith("TXT")).length).toBeLessThan(1000);
  });

  test("answers nobody but its own guest", async () => {
    await using other = await lab.guest();
    const hostEnd = guest.slot.address.replace(/\d+$/, (last) => `${Number(last) - 1}`);
    expect(await other.does.tcp(hostEnd, 4753)).toBeUndefined();
    await using outside = lab.programsIn(lab.out);
    expect(await outside.calls.tcp(hostEnd, 4753)).toBeUndefined();
  });

  test("is there again after a restart of the server, and what is open stays open", async () => {
    await guest.does.dns("api.example.com");
    await lab.kill();
    expect(await reached(guest.does, OUTSIDE)).toEqual(["5.6.7.8"]);
    await lab.start({ held: new Map([[guest.slot.index, POLICY]]) });
    expect(await reached(guest.does, OUTSIDE)).toEqual(["5.6.7.8"]);
    expect((await guest.does.dns("deep.er.wild.example.com"))?.rcode).toBe("NOERROR");
    expect(await reached(guest.does, OUTSIDE)).toEqual(["5.6.7.8", "5.6.7.9"]);
    expect((await guest.does.dns("other.example.com"))?.rcode).toBe("REFUSED");
  });

  test("works for a build's steps in the slot", async () => {
    await using inSlot = lab.programsIn(basename(guest.slot.netns));
    for (const transport of ["udp", "tcp"] as const)
      expect((await inSlot.calls.dns("api.example.com", { transport }))?.answers).toHaveLength(1);
    expect(await reached(inSlot.calls, OUTSIDE)).toEqual(["5.6.7.8"]);
  });

  test("says that it failed when the host's does not answer", async () => {
    await using alone = await Lab.make();
    await alone.start({ resolver: "5.6.7.200" });
    await using lost = await alone.guest(POLICY);
    expect((await lost.does.dns("other.example.com"))?.rcode).toBe("REFUSED");
    await alone.start({ resolver: "", held: new Map([[lost.slot.index, POLICY]]) });
    expect((await lost.does.dns("api.example.com"))?.rcode).toBe("SERVFAIL");
  });
});
