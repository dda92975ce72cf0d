import { describe, expect, test } from "vitest";
import { ID, IMAGE, listen, microvm, torpor } from "./torpor.ts";

const CHECKPOINT = "checkpoint-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60";
const OTHER = "microvm-00000000-8a41-4d5c-9e77-1b2c3d4e5f60";
const checkpoint = (state: string, more: Readonly<Record<string, unknown>> = {}) => ({
  checkpointId: CHECKPOINT,
  microvmId: ID,
  name: "before",
  state,
  stateReason: null,
  imageArn: IMAGE,
  imageVersion: "1.0",
  parentCheckpointId: null,
  memoryBytes: 50 * 1024 ** 2,
  diskBytes: 1024 ** 2,
  restorePoint: { state: "verified", checkedAt: new Date().toISOString(), damage: null },
  createdAt: new Date(Date.now() - 300_000).toISOString(),
  ...more,
});
const fork = (microvmId: string, state: string) => ({
  microvmId,
  state,
  stateReason: null,
  endpoint: "9a41.lambda-microvm.eu-west-1.localhost",
  startedAt: new Date().toISOString(),
});
const URL_OF_IT = "https://9a41.lambda-microvm.eu-west-1.localhost:4743/";

describe("checkpoint create", () => {
  test("waits until the checkpoint is there and prints its id", async () => {
    const states = ["CREATING", "AVAILABLE"];
    await using server = await listen(({ method, body }) => {
      if (method === "POST") expect(JSON.parse(body)).toEqual({ name: "before" });
      return checkpoint(method === "POST" ? "CREATING" : (states.shift() ?? ""));
    });
    const ran = await torpor(["checkpoint", "create", ID, "--name", "before"], server.env);
    expect(ran).toEqual({
      code: 0,
      stdout: `${CHECKPOINT}\n`,
      stderr: `next: torpor fork ${CHECKPOINT}, or torpor rollback ${ID} ${CHECKPOINT}\n`,
    });
    expect(server.asked[0]).toBe(`POST /torpor/v1/microvms/${ID}/checkpoints`);
  });

  test("fails with the reason", async () => {
    await using server = await listen(({ method }) =>
      checkpoint(method === "POST" ? "CREATING" : "FAILED", { stateReason: "its host has no disk space" }),
    );
    expect(await torpor(["checkpoint", "create", ID], server.env)).toMatchObject({
      code: 1,
      stderr: `torpor: ${CHECKPOINT} could not be made: its host has no disk space\ntry: torpor checkpoint create ${ID}\n`,
    });
  });
});

describe("checkpoint ls", () => {
  test("is a table of all pages, or one JSON document", async () => {
    await using server = await listen(({ path }) =>
      path.includes("nextToken")
        ? {
            items: [checkpoint("FAILED", { name: null, memoryBytes: null, stateReason: "lost", restorePoint: null })],
            nextToken: null,
          }
        : { items: [checkpoint("AVAILABLE")], nextToken: "p2" },
    );
    const { stdout } = await torpor(["checkpoint", "ls"], server.env);
    expect(stdout).toMatch(/^CHECKPOINT +NAME +STATE +MICROVM +SIZE +CREATED +FILES +PARENT\n/);
    expect(stdout).toMatch(/\ncheckpoint-3f\S+ +before +AVAILABLE +microvm-3f\S+ +51 MiB +5 min ago +verified +-\n/);
    expect(stdout).toMatch(/\ncheckpoint-3f\S+ +- +FAILED: lost +/);
    const json = await torpor(["checkpoint", "ls", ID, "--json"], server.env);
    const items: { state: string }[] = JSON.parse(json.stdout);
    expect(items.map(({ state }) => state)).toEqual(["AVAILABLE", "FAILED"]);
    expect(server.asked.at(-1)).toContain(`/torpor/v1/microvms/${ID}/checkpoints?`);
  });

  test("says what to do when there is none", async () => {
    await using server = await listen(() => ({ items: [], nextToken: null }));
    const { stdout } = await torpor(["checkpoint", "ls", ID], server.env);
    expect(stdout).toBe(`no checkpoints; next: torpor checkpoint create ${ID}\n`);
  });
});

test("checkpoint rm deletes several, a line each", async () => {
  await using server = await listen(() => ({}));
  const ran = await torpor(["checkpoint", "rm", CHECKPOINT, "checkpoint-b"], server.env);
  expect(ran).toMatchObject({ code: 0, stdout: `${CHECKPOINT} deleted\ncheckpoint-b deleted\n` });
  expect(server.asked[0]).toBe(`DELETE /torpor/v1/checkpoints/${CHECKPOINT}`);
});

describe("fork", () => {
  const forks = (...states: string[]) => ({
    microvmId: ID,
    checkpointId: CHECKPOINT,
    items: states.map((state, i) => fork(`microvm-${i}`, state)),
  });

  test("asks for as many as are wanted, waits, and prints ids and URLs", async () => {
    await using server = await listen(({ method, body }) => {
      if (method === "GET") return microvm("RUNNING");
      expect(JSON.parse(body)).toMatchObject({ count: 2, maximumDurationInSeconds: 60 });
      return forks("RUNNING", "PENDING");
    });
    const ran = await torpor(["fork", CHECKPOINT, "-n", "2", "--max-duration", "60"], server.env);
    expect(ran).toEqual({
      code: 0,
      stdout: `microvm-0\n${URL_OF_IT}\nmicrovm-1\n${URL_OF_IT}\n`,
      stderr: "next: torpor call microvm-0 /\n",
    });
    expect(server.asked).toEqual([
      `POST /torpor/v1/checkpoints/${CHECKPOINT}/fork`,
      "GET /2025-09-09/microvms/microvm-1",
    ]);
  });

  test("of a microvm does not wait when it is told so", async () => {
    await using server = await listen(() => forks("PENDING"));
    const ran = await torpor(["fork", ID, "--no-wait", "--json"], server.env);
    expect(JSON.parse(ran.stdout)).toMatchObject({ microvmId: ID, items: [{ state: "PENDING", url: URL_OF_IT }] });
    expect(server.asked).toEqual([`POST /torpor/v1/microvms/${ID}/fork`]);
  });

  test("prints those that run, and fails with the reason of one that does not", async () => {
    await using server = await listen(({ method }) =>
      method === "GET" ? microvm("TERMINATED", { stateReason: "no room" }) : forks("RUNNING", "TERMINATED"),
    );
    const ran = await torpor(["fork", ID, "-n", "2", "--json"], server.env);
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout)).toMatchObject({ items: [{ microvmId: "microvm-0", url: URL_OF_IT }] });
    expect(JSON.parse(ran.stderr)).toMatchObject({
      error: { message: "microvm-1 ended before it ran: no room", hint: "torpor logs microvm-1" },
    });
  });

  test("refuses a count that is none before it asks anybody", async () => {
    await using server = await listen(() => undefined);
    const ran = await torpor(["fork", ID, "-n", "101"], server.env);
    expect([ran.code, server.asked]).toEqual([2, []]);
    expect(ran.stderr).toContain("expected 1 to 100");
  });
});

describe("rollback", () => {
  test("prints the state afterwards", async () => {
    await using server = await listen(({ method, body }) => {
      if (method === "GET") return microvm("RUNNING");
      expect(JSON.parse(body)).toEqual({ checkpointId: CHECKPOINT });
      return { microvmId: ID, checkpointId: CHECKPOINT, state: "RUNNING" };
    });
    const ran = await torpor(["rollback", ID, CHECKPOINT], server.env);
    expect(ran).toEqual({ code: 0, stdout: `${ID} RUNNING\n`, stderr: "" });
  });

  test("says when it goes on behind the answer", async () => {
    await using server = await listen(({ method }) =>
      method === "GET" ? microvm("RUNNING") : { microvmId: ID, checkpointId: CHECKPOINT, state: "SUSPENDED" },
    );
    const ran = await torpor(["rollback", ID, CHECKPOINT], server.env);
    expect(ran.stderr).toBe(`it does not run again yet; next: torpor show ${ID}\n`);
  });

  test.each([
    [404, "ResourceNotFoundException", `Checkpoint not found: ${CHECKPOINT}`, "torpor checkpoint ls"],
    [
      400,
      "ValidationException",
      `The checkpoint ${CHECKPOINT} is of the MicroVM ${OTHER}, not of ${ID}. Roll back …`,
      `torpor rollback ${OTHER} ${CHECKPOINT}, or torpor fork ${CHECKPOINT}`,
    ],
    [409, "ConflictException", `The checkpoint ${CHECKPOINT} is FAILED and cannot be used.`, "torpor checkpoint ls"],
    [500, "InsufficientCapacityException", "The host runs 4", "torpor ls, and torpor suspend ID or torpor rm ID"],
  ])("that is refused (%i %s) names the command to try next", async (status, type, message, hint) => {
    await using server = await listen(({ method }, response) => {
      if (method === "GET") return microvm("RUNNING");
      response.writeHead(status, { "x-amzn-errortype": type }).end(JSON.stringify({ message }));
      return undefined;
    });
    const ran = await torpor(["rollback", ID, CHECKPOINT], server.env);
    expect([ran.code, ran.stderr]).toEqual([1, `torpor: ${type}: ${message}\ntry: ${hint}\n`]);
  });
});

test("show tells where a microvm comes from and what it takes", async () => {
  const forkedFrom = { microvmId: OTHER, checkpointId: CHECKPOINT };
  const usage = {
    process: "standby",
    pssBytes: 3,
    privateBytes: 2,
    networkSentBytes: 5,
    networkReceivedBytes: 6,
    snapshotMemoryBytes: 1,
    diskBytes: 4,
    restorePoint: null,
  };
  await using server = await listen(({ path }) => {
    if (path.endsWith("/lineage")) return { microvmId: ID, forkedFrom, rolledBackTo: null };
    return path.endsWith("/usage") ? { microvmId: ID, ...usage } : microvm("RUNNING");
  });
  const { stdout } = await torpor(["show", ID, "--json"], server.env);
  const shown: unknown = JSON.parse(stdout);
  expect(shown).toMatchObject({ microvmId: ID, state: "RUNNING", forkedFrom, usage });
  expect(shown).not.toHaveProperty("rolledBackTo");
  expect((await torpor(["show", ID], server.env)).stdout).toMatch(/\nforkedFrom +.*checkpoint-3f/);
});
