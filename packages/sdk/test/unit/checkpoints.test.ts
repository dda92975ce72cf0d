import { describe, expect, test } from "vitest";
import { TorporClient } from "../../src/index.ts";
import { KEY, listen, type Seen, signatureIsRight } from "./server.ts";

const ID = "microvm-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60";
const CHECKPOINT = {
  checkpointId: "checkpoint-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60",
  microvmId: ID,
  name: "before",
  state: "AVAILABLE",
  stateReason: null,
  imageArn: "arn:aws:lambda:eu-test-1:000000000000:microvm-image:demo",
  imageVersion: "1.0",
  parentCheckpointId: null,
  memoryBytes: 600,
  diskBytes: 100,
  restorePoint: { state: "verified", checkedAt: "2026-09-15T14:31:00.000Z", damage: null },
  createdAt: "2026-09-15T14:30:00.000Z",
};
const { checkpointId } = CHECKPOINT;
const FORKS = {
  microvmId: ID,
  checkpointId,
  items: [{ microvmId: ID, state: "RUNNING", stateReason: null, endpoint: "9a41.localhost", startedAt: "2026" }],
};
const client = (endpointUrl: string) => new TorporClient({ endpointUrl, region: "eu-test-1", credentials: KEY });
const asked = (seen: readonly Seen[]) => seen.map(({ method, url }) => `${method} ${url}`);

describe("checkpoints", () => {
  test("are made, looked at and deleted, signed", async () => {
    await using server = await listen((_, response) => response.end(JSON.stringify(CHECKPOINT)));
    const torpor = client(server.url);
    expect(await torpor.createCheckpoint(ID, { name: "before" })).toEqual(CHECKPOINT);
    expect(await torpor.checkpoint(checkpointId)).toEqual(CHECKPOINT);
    await torpor.deleteCheckpoint(checkpointId);
    expect(asked(server.seen)).toEqual([
      `POST /torpor/v1/microvms/${ID}/checkpoints`,
      `GET /torpor/v1/checkpoints/${checkpointId}`,
      `DELETE /torpor/v1/checkpoints/${checkpointId}`,
    ]);
    expect(JSON.parse(server.seen[0]?.body ?? "")).toEqual({ name: "before" });
    for (const seen of server.seen) expect(await signatureIsRight(seen, "lambda")).toBe(true);
  });

  test("are listed through all pages, of one microvm or of all", async () => {
    const pages = [
      { items: [CHECKPOINT], nextToken: "a+b" },
      { items: [CHECKPOINT], nextToken: null },
      { items: [], nextToken: null },
    ];
    await using server = await listen((_, response) => response.end(JSON.stringify(pages.shift())));
    const torpor = client(server.url);
    expect(await Array.fromAsync(torpor.checkpoints({ microvmId: ID }))).toEqual([CHECKPOINT, CHECKPOINT]);
    expect(await Array.fromAsync(torpor.checkpoints())).toEqual([]);
    expect(asked(server.seen)).toEqual([
      `GET /torpor/v1/microvms/${ID}/checkpoints`,
      `GET /torpor/v1/microvms/${ID}/checkpoints?nextToken=a%2Bb`,
      "GET /torpor/v1/checkpoints",
    ]);
    expect(await signatureIsRight(server.seen[1] as Seen, "lambda")).toBe(true);
  });
});

test("forks are made from a checkpoint or a microvm, with a token of their own", async () => {
  await using server = await listen((_, response) => response.end(JSON.stringify(FORKS)));
  const torpor = client(server.url);
  expect(await torpor.fork(checkpointId, { count: 1 })).toEqual(FORKS);
  await torpor.fork(ID, { clientToken: "mine" });
  expect(asked(server.seen)).toEqual([
    `POST /torpor/v1/checkpoints/${checkpointId}/fork`,
    `POST /torpor/v1/microvms/${ID}/fork`,
  ]);
  expect(server.seen.map(({ body }) => JSON.parse(body))).toEqual([
    { count: 1, clientToken: expect.stringMatching(/^[0-9a-f-]{36}$/) },
    { clientToken: "mine" },
  ]);
});

test("a microvm is rolled back, and says where it comes from", async () => {
  const lineage = { microvmId: ID, forkedFrom: { microvmId: ID, checkpointId }, rolledBackTo: null };
  await using server = await listen(({ method }, response) =>
    response.end(JSON.stringify(method === "POST" ? { microvmId: ID, checkpointId, state: "RUNNING" } : lineage)),
  );
  const torpor = client(server.url);
  expect(await torpor.rollback(ID, checkpointId)).toEqual({ microvmId: ID, checkpointId, state: "RUNNING" });
  expect(JSON.parse(server.seen[0]?.body ?? "")).toEqual({ checkpointId });
  expect(await torpor.lineage(ID)).toEqual(lineage);
});

test("answers that are something else are refused", async () => {
  for (const wrong of [
    {},
    [],
    { ...CHECKPOINT, state: "ASLEEP" },
    { ...CHECKPOINT, diskBytes: "1" },
    { ...CHECKPOINT, restorePoint: { state: "fine", checkedAt: null, damage: null } },
    { items: [{}] },
  ]) {
    await using server = await listen((_, response) => response.end(JSON.stringify(wrong)));
    const torpor = client(server.url);
    for (const call of [
      torpor.checkpoint(checkpointId),
      Array.fromAsync(torpor.checkpoints()),
      torpor.fork(ID),
      torpor.rollback(ID, checkpointId),
    ])
      await expect(call).rejects.toMatchObject({ type: "BadResponse" });
  }
});
