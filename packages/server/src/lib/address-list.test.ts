import { expect, test } from "vitest";
import { AddressList } from "./address-list.ts";

test("networks and single addresses of both families", () => {
  const list = new AddressList("10.0.0.0/8, 192.0.2.7,fd00::/8 , ::1");
  for (const address of ["10.255.0.1", "::ffff:10.1.2.3", "192.0.2.7", "fd12::1", "::1", "fd00::1%eth0"])
    expect(list.has(address), address).toBe(true);
  for (const address of ["11.0.0.1", "192.0.2.8", "fe80::1", "::2", "", "unknown", "10.0.0", "::ffff:11.0.0.1"])
    expect(list.has(address), address).toBe(false);
});

test("an empty list has nobody, 0.0.0.0/0 all of IPv4", () => {
  expect(new AddressList("").empty).toBe(true);
  expect(new AddressList(" ").has("127.0.0.1")).toBe(false);
  expect(new AddressList("0.0.0.0/0").has("8.8.8.8")).toBe(true);
});

test.each([
  "10.0.0.0/33",
  "10.0.0/8",
  "proxy.example",
  "::1/129",
  "10.0.0.0/",
  "10.0.0.0/8/8",
  "10.0.0.1,,::1",
  "fe80::1%eth0",
  "1.2.3.4/x",
])("%s is refused", (text) => {
  expect(() => new AddressList(text)).toThrow(/expected networks/);
});
