import { expect, test } from "vitest";
import { QUOTA, startApi } from "../api.fixture.ts";

const AT = "/torpor/v1/accounts/999999999999/quotas/images";
const put = (value: unknown, path = AT) => ({
  method: "PUT",
  path,
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ value }),
});

test.each([
  { method: "GET", path: "/torpor/v1/quotas" },
  { method: "PUT", path: AT },
  { method: "DELETE", path: AT },
])("$method $path needs a signature", async ({ method, path }) => {
  const { url, calls } = await startApi();
  const response = await fetch(url + path, { method });
  expect([response.status, await response.json()]).toEqual([403, { message: "Missing Authentication Token" }]);
  expect(calls).toEqual([]);
});

test("quotas are listed, of oneself or of an account", async () => {
  const { send, calls } = await startApi();
  const own = await send({ method: "GET", path: "/torpor/v1/quotas" });
  expect(await own.json()).toEqual({ accountId: "111122223333", items: [QUOTA] });
  const other = await send({ method: "GET", path: "/torpor/v1/quotas", query: { accountId: "999999999999" } });
  expect(await other.json()).toMatchObject({ accountId: "999999999999" });
  expect(calls.map(({ input }) => input)).toEqual([[undefined], ["999999999999"]]);
});

test("a quota is set, made unlimited, and left to the server again", async () => {
  const { send, calls } = await startApi();
  const rate = "/torpor/v1/accounts/999999999999/quotas/RunMicrovm.rate";
  for (const request of [put(5), put(null), put(0), put(7, rate), { method: "DELETE", path: AT }])
    expect((await send(request)).status).toBe(200);
  expect(calls.map(({ name, input }) => [name, input])).toEqual([
    ["set", ["999999999999", "images", 5]],
    ["set", ["999999999999", "images", null]],
    ["set", ["999999999999", "images", 0]],
    ["set", ["999999999999", "RunMicrovm.rate", 7]],
    ["reset", ["999999999999", "images"]],
  ]);
});

test.each([
  [put(-1), "value: expected for images a whole number from 0 to 1099511627776, or unlimited, got -1"],
  [put(1.5), "got 1.5"],
  [put("5"), "value: expected a whole number, or null for unlimited"],
  [put(undefined), "value: expected a whole number, or null for unlimited"],
  [put(null, AT.replace("images", "auth-token-minutes")), "from 1 to 1440, got null"],
  [put(0, AT.replace("images", "RunMicrovm.burst")), "from 1 to 1000000"],
  [put(1, AT.replace("images", "toString")), "name: there is no such quota"],
  [put(1, AT.replace("999999999999", "me")), "accountId: expected twelve digits"],
  [{ method: "GET", path: "/torpor/v1/quotas", query: { accountId: "1" } }, "accountId: expected twelve digits"],
])("%o is refused", async (request, message) => {
  const { send, calls } = await startApi();
  const response = await send(request);
  expect([response.status, await response.json()]).toEqual([400, { message: expect.stringContaining(message) }]);
  expect(calls).toEqual([]);
});
