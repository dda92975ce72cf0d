import { describe, expect, test } from "vitest";
import { ID, IMAGE, listen, microvm, torpor } from "./torpor.ts";

describe("run", () => {
  test("takes an image's name, waits until the microvm runs, prints its id and URL", async () => {
    const states = ["PENDING", "RUNNING"];
    await using server = await listen(({ method, body }) => {
      if (method === "GET") return microvm(states.shift() ?? "RUNNING");
      expect(JSON.parse(body)).toMatchObject({
        imageIdentifier: IMAGE,
        idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 28800, autoResumeEnabled: false },
      });
      return microvm("PENDING");
    });
    const ran = await torpor(["run", "demo", "--idle", "60", "--no-auto-resume"], server.env);
    expect(ran).toMatchObject({
      code: 0,
      stdout: `${ID}\nhttps://9a41.lambda-microvm.eu-west-1.localhost:4743/\n`,
      stderr: `next: torpor call ${ID} /\n`,
    });
    expect(states).toEqual([]);
  });

  test("fails with the service's reason when the microvm ends before it runs", async () => {
    await using server = await listen(({ method }) =>
      method === "POST" ? microvm("PENDING") : microvm("TERMINATED", { stateReason: "Run lifecycle hook timed out" }),
    );
    const ran = await torpor(["run", IMAGE], server.env);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toBe(
      `torpor: ${ID} ended before it ran: Run lifecycle hook timed out\ntry: torpor logs ${ID}\n`,
    );
  });

  test("refuses flags that make no sense together, before it asks anybody", async () => {
    await using server = await listen(() => undefined);
    const ran = await torpor(["run", "demo", "--suspended-for", "10"], server.env);
    expect([ran.code, server.asked]).toEqual([2, []]);
    expect(ran.stderr).toContain("try: the same with --idle");
  });
});

describe("ls", () => {
  const pages = (path: string) =>
    path.includes("nextToken=p2")
      ? { items: [microvm("TERMINATED", { microvmId: "microvm-gone" })], nextToken: null }
      : { items: [microvm("SUSPENDED")], nextToken: "p2" };

  test("reads every page and leaves the terminated out", async () => {
    await using server = await listen(({ path }) => pages(path));
    const ran = await torpor(["ls"], server.env);
    expect(ran.stdout).toMatch(
      /^ID +STATE +IMAGE +VERSION +STARTED\nmicrovm-3f0c\S+ +SUSPENDED +demo +1\.0 +5 min ago\n$/,
    );
  });

  test("prints one JSON document, with --all of all", async () => {
    await using server = await listen(({ path }) => pages(path));
    const ran = await torpor(["ls", "--all", "--json"], server.env);
    const ids: { microvmId: string }[] = JSON.parse(ran.stdout);
    expect(ids.map((vm) => vm.microvmId)).toEqual([ID, "microvm-gone"]);
  });
});

describe("suspend", () => {
  test("waits until the microvm is suspended", async () => {
    const states = ["RUNNING_", "SUSPENDING", "SUSPENDED"];
    await using server = await listen(({ method }) => (method === "POST" ? {} : microvm(states.shift() ?? "")));
    const ran = await torpor(["suspend", ID], server.env);
    expect(ran).toMatchObject({ code: 0, stdout: `${ID} SUSPENDED\n` });
    expect(server.asked[0]).toBe(`POST /2025-09-09/microvms/${ID}/suspend`);
  });

  test("fails when the microvm runs on", async () => {
    await using server = await listen(({ method }) => (method === "POST" ? {} : microvm("RUNNING")));
    expect(await torpor(["suspend", ID], server.env)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("could not be suspended"),
    });
  });
});

test("rm ends several, a line each", async () => {
  await using server = await listen(({ method }) => (method === "DELETE" ? {} : microvm("TERMINATED")));
  const ran = await torpor(["rm", "microvm-a", "microvm-b", "--json"], server.env);
  expect(ran.stdout).toBe(
    '{"microvmId":"microvm-a","state":"TERMINATED"}\n{"microvmId":"microvm-b","state":"TERMINATED"}\n',
  );
});

test("token prints the token and nothing else", async () => {
  await using server = await listen(({ body }) => {
    expect(JSON.parse(body)).toEqual({ expirationInMinutes: 5, allowedPorts: [{ port: 80 }, { port: 9000 }] });
    return { authToken: { "X-aws-proxy-auth": "a.b.c.d.e" } };
  });
  const ran = await torpor(["token", ID, "--port", "80", "--port", "9000", "--minutes", "5"], server.env);
  expect(ran).toEqual({ code: 0, stdout: "a.b.c.d.e\n", stderr: "" });
});

describe("logs", () => {
  const lines =
    '{"time":1789483142026,"stream":"stdout","text":"plain"}\n{"time":1789483142027,"stream":"stderr","text":"\\u001b[2Jgone?"}\n';

  test("cannot steer the terminal", async () => {
    await using server = await listen(() => lines);
    expect((await torpor(["logs", ID], server.env)).stdout).toBe("plain\n\\u001b[2Jgone?\n");
    expect((await torpor(["logs", ID, "-f", "-t"], server.env)).stdout).toContain("2026-09-15T14:39:02.026Z plain\n");
    expect(server.asked[1]).toMatch(/\?follow=true$/);
  });

  test("are a JSON document a line for programs", async () => {
    await using server = await listen(() => lines);
    expect((await torpor(["logs", ID, "--json"], server.env)).stdout).toBe(lines);
  });
});

test("receipts are a table of what it took", async () => {
  const phases = [
    { name: "restore", ms: 12.34 },
    { name: "identity", ms: 2 },
  ];
  const receipt = { operation: "resume", startedAt: "2026-11-24T00:00:00.000Z", totalMs: 15.5, phases };
  await using server = await listen(() => ({
    items: [{ ...receipt, bytesRead: 52_428_800, bytesWritten: 0, reused: ["slot"] }],
  }));
  const { stdout } = await torpor(["receipts", ID], server.env);
  expect(stdout).toMatch(/\nresume +\S+ +15\.5 +restore 12\.3, identity 2\.0 +50 MiB +0 B +slot\n$/);
});
