import * as aws from "@aws-sdk/client-lambda-microvms";
import { expect, test } from "vitest";
import { BASE_IMAGE, imageArn, World } from "../../control/testing/world.ts";
import { systemClock } from "../../lib/clock.ts";
import { startApi } from "../api.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";
import { Throttle } from "../throttle.ts";

/** The real client, the API and the control plane; only the host is a fake. */

async function start(quotas: string) {
  const world = await World.create({ quotas });
  const throttle = new Throttle(world.control.rates, { ...systemClock, monotonic: () => 0 });
  const { operations, extensions } = world.control;
  const { client, send } = await startApi({ operations, extensions, throttle });
  const microvms = client();
  const image = { baseImageArn: BASE_IMAGE, buildRoleArn: `arn:aws:iam::${KEY.accountId}:role/build` };
  const create = (name: string) =>
    microvms.send(new aws.CreateMicrovmImageCommand({ ...image, name, codeArtifact: { uri: "s3://bucket/app.zip" } }));
  return { world, microvms, send, create };
}

const tally = (settled: readonly PromiseSettledResult<unknown>[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const each of settled) {
    const name = each.status === "fulfilled" ? "done" : each.reason.name;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
};

test("fifty clients at the limit of memory get exactly what there is, and the recorded answer beyond", async () => {
  const { world, microvms, create, send } = await start("allocated-memory-mib=16384");
  await create("demo");
  await world.settled();
  const run = new aws.RunMicrovmCommand({ imageIdentifier: imageArn("demo", KEY.accountId) });
  const settled = await Promise.allSettled(Array.from({ length: 50 }, () => microvms.send(run)));
  expect(tally(settled)).toEqual({ done: 8, ServiceQuotaExceededException: 42 });
  await expect(microvms.send(run)).rejects.toMatchObject({
    name: "ServiceQuotaExceededException",
    message: "The base maximum allocated memory limit has been reached for this account.",
    $metadata: { httpStatusCode: 402 },
  });
  const listed = await (await send({ method: "GET", path: "/torpor/v1/quotas" })).json();
  expect(listed).toMatchObject({
    accountId: KEY.accountId,
    items: expect.arrayContaining([
      expect.objectContaining({ name: "allocated-memory-mib", value: 16_384, used: 16_384, source: "config" }),
      expect.objectContaining({ name: "images", value: 1000, used: 1, source: "default" }),
    ]),
  });
});

test("who is no operator sees their own quotas and no others, and sets none", async () => {
  const { send } = await start("");
  const other = { method: "GET", path: "/torpor/v1/quotas", query: { accountId: "000000000000" } };
  const set = {
    method: "PUT",
    path: `/torpor/v1/accounts/${KEY.accountId}/quotas/images`,
    headers: { "content-type": "application/json" },
    body: '{"value":9}',
  };
  for (const request of [other, set]) {
    const refused = await send(request);
    expect([refused.status, refused.headers.get("x-amzn-errortype")]).toEqual([403, "AccessDeniedException"]);
  }
});

test("the account's rates are those of its quotas, from the moment at which they are set", async () => {
  const { world, microvms } = await start("other-operations.burst=3");
  const list = () => microvms.send(new aws.ListMicrovmsCommand({}));
  const ask = async () => tally(await Promise.allSettled(Array.from({ length: 10 }, list)));
  expect(await ask()).toEqual({ done: 3, ThrottlingException: 7 });
  const operator = {
    requestId: "r",
    accountId: "000000000000",
    principalArn: "arn:aws:iam::000000000000:root",
    accessKeyId: "AKIA",
    keyName: "root",
    access: "full" as const,
    sourceIp: "127.0.0.1",
    signal: new AbortController().signal,
  };
  await world.control.extensions.quotas.set(operator, KEY.accountId, "other-operations.burst", null);
  expect(await ask()).toEqual({ done: 10 });
});
