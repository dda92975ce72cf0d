import { HeadBucketCommand, ListBucketsCommand } from "@aws-sdk/client-s3";
import { expect, test } from "vitest";
import { systemClock } from "../../lib/clock.ts";
import { rates } from "../throttle.fixture.ts";
import { Throttle } from "../throttle.ts";
import { ALICE, startServer } from "./server.fixture.ts";

test("who signs wrongly too often is not looked at any more, and who has signed rightly goes on", async () => {
  let ms = 0;
  const clock = { ...systemClock, monotonic: () => ms };
  const throttle = new Throttle(rates({ stranger: () => ({ perSecond: 1, burst: 2 }) }), clock);
  const { client } = await startServer({ throttle });
  const known = client(ALICE);
  await known.send(new ListBucketsCommand({}));
  const stranger = client({ ...ALICE, accessKeyId: "AKIANOBODY" });
  const names: string[] = [];
  for (let n = 0; n < 4; n++)
    await stranger.send(new ListBucketsCommand({})).catch((err: Error) => names.push(err.name));
  expect(names).toEqual(["InvalidAccessKeyId", "InvalidAccessKeyId", "SlowDown", "SlowDown"]);
  // What a known key may not do, or does not find, makes nobody a stranger.
  for (let n = 0; n < 4; n++)
    await expect(known.send(new HeadBucketCommand({ Bucket: "nothing" }))).rejects.toMatchObject({ name: "NotFound" });
  await known.send(new ListBucketsCommand({}));
  ms += 1000;
  await expect(stranger.send(new ListBucketsCommand({}))).rejects.toMatchObject({ name: "InvalidAccessKeyId" });
});
