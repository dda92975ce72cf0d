import { execFileSync } from "node:child_process";
import { basename } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { AGENT_PORT } from "../../src/host/agent/connection.ts";
import { Lab } from "./lab.ts";

let lab: Lab;
beforeAll(async () => {
  lab = await Lab.make();
});
afterAll(async () => {
  await lab?.[Symbol.asyncDispose]();
});
const conntrack = (namespace: string): string[] =>
  execFileSync("nsenter", [`--net=/run/netns/${namespace}`, "--", "cat", "/proc/net/nf_conntrack"], {
    encoding: "utf8",
  })
    .split("\n")
    .filter((line) => line.includes("dport=443"));

test("a guest has as many connections open as it may, and takes no more of the host's table", async () => {
  await lab.start({ limits: { connections: { most: 20, perSecond: 10_000 } } });
  await using guest = await lab.guest();
  expect(await guest.does.flood("5.6.7.8", 443, 60)).toBe(20);
  expect(conntrack(lab.host).length).toBeLessThanOrEqual(20);
  // Those that have ended make room.
  await vi.waitFor(async () => expect(await guest.does.flood("5.6.7.9", 443, 5)).toBe(5), 20_000);
});

test("a guest begins as many connections a second as it may", async () => {
  await lab.start({ limits: { connections: { most: 1000, perSecond: 1 } } });
  await using guest = await lab.guest();
  await using other = await lab.guest();
  expect(await guest.does.flood("5.6.7.8", 443, 60)).toBeLessThan(10);
  expect(await other.does.tcp("5.6.7.8", 443)).toBeDefined();
});

test("connections that have ended are soon forgotten, in the slot and on the host", async () => {
  await lab.start();
  await using guest = await lab.guest();
  expect(await guest.does.flood("5.6.7.8", 443, 20)).toBe(20);
  for (const namespace of [lab.host, basename(guest.slot.netns)]) {
    const left = conntrack(namespace).filter((line) => /TIME_WAIT|CLOSE /.test(line));
    for (const line of left) expect(Number(/tcp +6 (\d+)/.exec(line)?.[1])).toBeLessThanOrEqual(10);
  }
});

test("a guest sends and receives no faster than its memory's size gives it, its agent included", async () => {
  const limits = { connections: { most: 100, perSecond: 100 }, bytesPerSecondPerGib: 2_000_000 };
  await lab.start({ limits });
  await using guest = await lab.guest(undefined, 1024);
  const begun = performance.now();
  await guest.does.echo("5.6.7.8", 443, 3_000_000);
  // A bound that is kept can only be slower; half of it is for what may come at once.
  expect(performance.now() - begun).toBeGreaterThan(750);
  const { netns } = guest.slot;
  const classes = execFileSync("nsenter", [`--net=${netns}`, "--", "tc", "class", "show", "dev", "veth0"], {
    encoding: "utf8",
  });
  expect(classes).toMatch(/class htb 1:1 root rate 16Mbit ceil 16Mbit/);
  await guest.does.listen(AGENT_PORT);
  await using host = lab.programsIn(lab.host);
  const agentBegun = performance.now();
  await host.calls.echo(guest.slot.address, AGENT_PORT, 3_000_000);
  expect(performance.now() - agentBegun).toBeGreaterThan(750);
});

test("a bound for all alike is there from the beginning, also in spare slots", async () => {
  await lab.start({ limits: { connections: { most: 100, perSecond: 100 }, bytesPerSecond: 125_000_000 }, spare: 1 });
  await using guest = await lab.guest();
  const show = ["tc", "class", "show", "dev", "tap0"];
  expect(execFileSync("nsenter", [`--net=${guest.slot.netns}`, "--", ...show], { encoding: "utf8" })).toMatch(
    /class htb 1:1 root rate 1Gbit/,
  );
});

test("bytes are counted for each guest, and not those that its agent says", async () => {
  await lab.start();
  await using guest = await lab.guest();
  await using other = await lab.guest();
  const of = async ({ slot }: typeof guest) => (await lab.slots.traffic()).get(slot.index)!;
  expect(await of(guest)).toEqual({ sentBytes: 0, receivedBytes: 0 });
  await guest.does.echo("5.6.7.8", 443, 1_000_000);
  const { sentBytes, receivedBytes } = await of(guest);
  for (const bytes of [sentBytes, receivedBytes]) {
    expect(bytes).toBeGreaterThan(1_000_000);
    expect(bytes).toBeLessThan(1_300_000);
  }
  await guest.does.listen(AGENT_PORT);
  await using host = lab.programsIn(lab.host);
  await host.calls.echo(guest.slot.address, AGENT_PORT, 500_000);
  expect((await of(guest)).sentBytes - sentBytes).toBeLessThan(10_000); // the connection's end
  expect(await of(other)).toEqual({ sentBytes: 0, receivedBytes: 0 });
  // A server that starts goes on counting; a slot that is made anew begins anew.
  await lab.start({ held: new Map([guest, other].map(({ slot }) => [slot.index, undefined])) });
  expect((await of(guest)).sentBytes).toBeGreaterThanOrEqual(sentBytes);
  await lab.slots.release(guest.slot);
  const again = await lab.slots.take(512);
  expect(again.index).toBe(guest.slot.index);
  expect((await lab.slots.traffic()).get(again.index)).toEqual({ sentBytes: 0, receivedBytes: 0 });
});
