import { expect, test } from "vitest";
import { TorporClient } from "../../src/index.ts";
import { KEY, listen, signatureIsRight } from "./server.ts";

const IMAGES = {
  name: "images",
  describe: "images",
  unit: "images",
  scope: "account",
  code: "L-942E56BE",
  adjustable: true,
  value: 100,
  used: 3,
  source: "config",
};
const MEMORY = { ...IMAGES, name: "allocated-memory-mib", code: null, value: null, used: 0 };
const client = (endpointUrl: string) => new TorporClient({ endpointUrl, region: "eu-test-1", credentials: KEY });

test("quotas are listed, of one's own account or another one, and what is not known here is left out", async () => {
  const answer = { accountId: "000000000000", items: [IMAGES, { ...IMAGES, name: "of-the-future" }, MEMORY] };
  await using server = await listen((_, response) => response.end(JSON.stringify(answer)));
  const torpor = client(server.url);
  expect(await torpor.quotas()).toEqual({ accountId: "000000000000", items: [IMAGES, MEMORY] });
  await torpor.quotas({ accountId: "111122223333" });
  expect(server.seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
    "GET /torpor/v1/quotas",
    "GET /torpor/v1/quotas?accountId=111122223333",
  ]);
});

test("a quota is set for an account and left to the server again, signed", async () => {
  await using server = await listen((_, response) => response.end("{}"));
  const torpor = client(server.url);
  await torpor.setQuota("111122223333", "RunMicrovm.rate", 5);
  await torpor.setQuota("111122223333", "images", null);
  await torpor.resetQuota("111122223333", "images");
  expect(server.seen.map(({ method, url, body }) => `${method} ${url} ${body}`)).toEqual([
    'PUT /torpor/v1/accounts/111122223333/quotas/RunMicrovm.rate {"value":5}',
    'PUT /torpor/v1/accounts/111122223333/quotas/images {"value":null}',
    "DELETE /torpor/v1/accounts/111122223333/quotas/images ",
  ]);
  for (const seen of server.seen) expect(await signatureIsRight(seen, "lambda")).toBe(true);
});

test.each([
  {},
  { accountId: "1", items: {} },
  { accountId: "1", items: [{ ...IMAGES, value: "100" }] },
  { accountId: "1", items: [{ ...IMAGES, source: "nobody" }] },
  { accountId: "1", items: [{ ...IMAGES, adjustable: 1 }] },
])("what is no list of quotas is told as that: %j", async (answer) => {
  await using server = await listen((_, response) => response.end(JSON.stringify(answer)));
  await expect(client(server.url).quotas()).rejects.toThrow("no list of quotas");
});
