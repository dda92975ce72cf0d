import * as aws from "@aws-sdk/client-lambda-microvms";
import { describe, expect, test } from "vitest";
import type { Rates } from "../control/request-context.ts";
import { systemClock } from "../lib/clock.ts";
import { IMAGE_ARN, MICROVM, startApi, type TestApiOptions } from "./api.fixture.ts";
import { KEY } from "./sigv4/signer.fixture.ts";
import { rates } from "./throttle.fixture.ts";
import { Throttle } from "./throttle.ts";

/** Stands still unless it is told otherwise, so that what a bucket has is known. */
class StoppedTime {
  ms = 0;
  readonly clock = { ...systemClock, monotonic: () => this.ms };
}

function limited(given: Partial<Rates>, options: TestApiOptions = {}) {
  const time = new StoppedTime();
  const throttle = new Throttle(rates(given), time.clock);
  return { time, api: startApi({ ...options, throttle }) };
}

const two = (bucket: string) => ({ bucket, perSecond: 2, burst: 2 });
const run = () => new aws.RunMicrovmCommand({ imageIdentifier: IMAGE_ARN });
const list = { method: "GET", path: "/2025-09-09/microvms" };
const wrong = { credentials: { accessKeyId: KEY.accessKeyId, secretAccessKey: "wrong" } };

describe("an account that asks too often", () => {
  test("is told when to come back, and nothing was done", async () => {
    const { time, api } = limited({ operation: (_, operation) => two(operation) });
    const { send, calls } = await api;
    const statuses = async (count: number) => {
      const answers = await Promise.all(Array.from({ length: count }, () => send(list)));
      return answers.map(({ status }) => status).sort();
    };
    expect(await statuses(5)).toEqual([200, 200, 429, 429, 429]);
    expect(calls).toHaveLength(2);
    const refused = await send(list);
    expect([refused.status, refused.headers.get("x-amzn-errortype"), refused.headers.get("retry-after")]).toEqual([
      429,
      "ThrottlingException",
      "1",
    ]);
    expect(await refused.json()).toEqual({
      message: "Rate exceeded: this account may call ListMicrovms 2 times a second. Try again in 1 s.",
      quotaCode: null,
      serviceCode: null,
    });
    time.ms += 499;
    expect(await statuses(2)).toEqual([429, 429]);
    time.ms += 1;
    expect(await statuses(2)).toEqual([200, 429]);
    time.ms += 3_600_000;
    expect(await statuses(5)).toEqual([200, 200, 429, 429, 429]);
  });

  test("is not slowed down in its other operations, and nobody else is in any", async () => {
    const { api } = limited({
      operation: (accountId, operation) => ({ ...two(operation), burst: accountId === KEY.accountId ? 1 : 2 }),
    });
    const { client } = await api;
    const microvms = client();
    await microvms.send(run());
    await expect(microvms.send(run())).rejects.toMatchObject({ name: "ThrottlingException", retryAfterSeconds: 1 });
    await microvms.send(new aws.GetMicrovmCommand({ microvmIdentifier: MICROVM }));
  });

  test("is slowed down in Torpor's own operations as well", async () => {
    const { api } = limited({ operation: (_, operation) => two(operation) });
    const { send } = await api;
    const request = { method: "GET", path: "/torpor/v1/host" };
    const statuses = [(await send(request)).status, (await send(request)).status, (await send(request)).status];
    expect(statuses).toEqual([200, 200, 429]);
  });

  test("is told in the words of the older operations where it calls those", async () => {
    const { api } = limited({ operation: (_, operation) => ({ ...two(operation), burst: 1 }) });
    const { client, send } = await api;
    const tags = new aws.ListTagsCommand({ Resource: IMAGE_ARN });
    await client().send(tags);
    await expect(client().send(tags)).rejects.toBeInstanceOf(aws.TooManyRequestsException);
    await expect(client({ maxAttempts: 1 }).send(run())).resolves.toHaveProperty("microvmId");
    await expect(client().send(run())).rejects.toBeInstanceOf(aws.ThrottlingException);
    const connectors = { method: "GET", path: "/2026-04-04/network-connectors" };
    expect((await send(connectors)).status).toBe(200);
    const refused = await send(connectors);
    expect([refused.status, refused.headers.get("x-amzn-errortype")]).toEqual([429, "TooManyRequestsException"]);
    expect(refused.headers.get("retry-after")).toBe("1");
  });

  test("loses no request when it lets the SDK retry", async () => {
    const throttle = new Throttle(
      rates({ operation: (_, bucket) => ({ bucket, perSecond: 4, burst: 2 }) }),
      systemClock,
    );
    const { client, calls } = await startApi({ throttle });
    const microvms = client({ maxAttempts: 10 });
    const answers = await Promise.all([1, 2, 3, 4].map(() => microvms.send(run())));
    expect(answers.map(({ microvmId }) => microvmId)).toEqual(Array.from({ length: 4 }, () => MICROVM));
    expect(Math.max(...answers.map(({ $metadata }) => $metadata.attempts ?? 0))).toBeGreaterThan(1);
    expect(calls).toHaveLength(4);
  });
});

describe("strangers", () => {
  const three = { stranger: () => ({ perSecond: 1, burst: 3 }) };

  test("are not looked at any more after some wrong signatures, until some time has passed", async () => {
    const { time, api } = limited(three);
    const { client, url } = await api;
    const stranger = client(wrong);
    const outcome = () =>
      stranger.send(run()).then(
        () => "done",
        (err: unknown) => (err instanceof Error ? err.name : "?"),
      );
    for (let n = 0; n < 3; n++) expect(await outcome()).toBe("InvalidSignatureException");
    expect([await outcome(), await outcome()]).toEqual(["ThrottlingException", "ThrottlingException"]);
    const health = await fetch(`${url}/torpor/v1/health`);
    expect([health.status, health.headers.get("retry-after")]).toEqual([429, "1"]);
    time.ms += 1000;
    expect([await outcome(), await outcome()]).toEqual(["InvalidSignatureException", "ThrottlingException"]);
  });

  test("do not keep out a key that has signed from their address before", async () => {
    const { api } = limited(three);
    const { client, send, url } = await api;
    expect((await send(list)).status).toBe(200);
    for (let n = 0; n < 5; n++) await fetch(`${url}/torpor/v1/nothing`);
    expect((await fetch(`${url}/torpor/v1/health`)).status).toBe(429);
    for (let n = 0; n < 5; n++) expect((await send(list)).status).toBe(200);
    // Who has its id and not its secret is refused as that key, and that only so often.
    const names: string[] = [];
    for (let n = 0; n < 4; n++)
      await client(wrong)
        .send(run())
        .catch((err: Error) => names.push(err.name));
    expect(names).toEqual([...Array.from({ length: 3 }, () => "InvalidSignatureException"), "ThrottlingException"]);
  });

  test("are those who ask for what is not there, send what cannot be read, or what nobody need sign", async () => {
    for (const path of ["/torpor/v1/health", "/torpor/v1/nothing", "/2025-09-09/microvms"]) {
      const { api } = limited(three);
      const { url } = await api;
      const statuses: number[] = [];
      for (let n = 0; n < 4; n++) statuses.push((await fetch(url + path)).status);
      expect(statuses.indexOf(429)).toBe(3);
    }
  });

  test("are told nothing of a body that they send", async () => {
    const { api } = limited({ stranger: () => ({ perSecond: 1, burst: 1 }) });
    const { url } = await api;
    const post = () => fetch(`${url}/2025-09-09/microvms`, { method: "POST", body: "x".repeat(900_000) });
    expect((await post()).status).toBe(403);
    expect((await post()).status).toBe(429);
  });

  test("owe nothing for requests that were refused unread, and none for faults of ours", async () => {
    const { time, api } = limited(three, {
      extensions: {
        hostFacts: () => {
          throw new Error("a fault of ours");
        },
      },
    });
    const { url } = await api;
    for (let n = 0; n < 10; n++) expect((await fetch(`${url}/torpor/v1/health`)).status).toBe(500);
    const nothing = async () => (await fetch(`${url}/torpor/v1/nothing`)).status;
    for (let n = 0; n < 3; n++) expect(await nothing()).toBe(404);
    for (let n = 0; n < 10; n++) expect(await nothing()).toBe(429);
    time.ms += 1000;
    expect([await nothing(), await nothing()]).toEqual([404, 429]);
  });
});
