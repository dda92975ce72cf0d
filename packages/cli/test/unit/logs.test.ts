import { describe, expect, test } from "vitest";
import { ID, IMAGE, listen, microvm, torpor } from "./torpor.ts";

const event = (time: number, text: string, stream = "s1") => ({ id: String(time), stream, time, ingested: time, text });
const lines = (...values: object[]) => values.map((value) => `${JSON.stringify(value)}\n`).join("");

describe("of a group", () => {
  test("are shown with their streams, control characters spelled out", async () => {
    await using server = await listen(() => lines(event(1, "one"), event(2, "\u001b[2Jtwo", "s2")));
    const ran = await torpor(["logs", "--group", "/aws/lambda-microvms/demo"], server.env);
    expect(ran).toMatchObject({ code: 0, stdout: "s1 one\ns2 \\u001b[2Jtwo\n" });
    expect(server.asked).toEqual(["GET /torpor/v1/logs/events?group=/aws/lambda-microvms/demo"]);
  });

  test("are asked for by stream, filter and time, and followed", async () => {
    await using server = await listen(() => lines(event(1789483142026, "one")));
    const args = ["logs", "--group", "/g", "--stream", "a b", "--filter", "?x ?y", "-f", "-t"];
    const ran = await torpor([...args, "--since", "2026-09-15T14:30:00Z"], server.env);
    expect(ran.stdout).toBe("2026-09-15T14:39:02.026Z one\n");
    expect(server.asked).toEqual([
      "GET /torpor/v1/logs/events?group=/g&stream=a b&filter=?x ?y&from=1789482600000&follow=true",
    ]);
  });

  test("--json prints what the server says", async () => {
    await using server = await listen(() => lines(event(1, "one")));
    const { stdout } = await torpor(["logs", "--group", "/g", "--json"], server.env);
    expect(JSON.parse(stdout)).toEqual({ id: "1", stream: "s1", time: 1, text: "one" });
  });

  test("groups and streams are listed, page after page", async () => {
    await using server = await listen(({ path }) => {
      if (path.includes("/groups")) {
        const more = path.includes("nextToken=p2");
        const name = more ? "/b" : "/a";
        return { items: [{ name, arn: `arn:${name}`, createdAt: 1, bytes: 2048 }], nextToken: more ? null : "p2" };
      }
      return { items: [{ name: "s", arn: "arn:s", createdAt: 1, firstTime: 1, lastTime: 1789483142026 }] };
    });
    expect((await torpor(["logs", "--groups"], server.env)).stdout).toMatch(
      /^GROUP +SIZE +CREATED\n\/a +2048 B .*\n\/b .*\n$/,
    );
    expect((await torpor(["logs", "--group", "/a", "--streams"], server.env)).stdout).toMatch(
      /s +2026-09-15T14:39:02.026Z\n$/,
    );
  });
});

describe("of a microvm", () => {
  test("can be cut to what is new", async () => {
    const line = (time: number, text: string) => ({ position: time, time, stream: "stdout", text });
    await using server = await listen(() => lines(line(Date.now() - 7_200_000, "old"), line(Date.now(), "new")));
    expect((await torpor(["logs", ID, "--since", "1h"], server.env)).stdout).toBe("new\n");
  });
});

test.each([
  [[], "says what to show"],
  [[ID, "--group", "/g"], "says what to show"],
  [[ID, "--filter", "x"], "--filter needs --group"],
  [["--groups", "--streams"], "--streams needs --group"],
  [["--group", "/g", "--since", "yesterday"], "yesterday is no time"],
])("logs %j is refused before anybody is asked", async (args, reason) => {
  await using server = await listen(() => undefined);
  const ran = await torpor(["logs", ...args], server.env);
  expect([ran.code, server.asked]).toEqual([2, []]);
  expect(ran.stderr).toContain(reason);
});

describe("run", () => {
  test.each([
    [["--log-group"], { cloudWatch: {} }],
    [["--log-group", "/g", "--log-stream", "s"], { cloudWatch: { logGroup: "/g", logStream: "s" } }],
    [[], undefined],
  ])("%j", async (flags, logging) => {
    let asked: unknown;
    await using server = await listen(({ body }) => {
      asked = JSON.parse(body).logging;
      return microvm("PENDING");
    });
    expect((await torpor(["run", IMAGE, "--no-wait", ...flags], server.env)).code).toBe(0);
    expect(asked).toEqual(logging);
  });

  test("a stream without a group is refused", async () => {
    await using server = await listen(() => undefined);
    expect((await torpor(["run", IMAGE, "--log-stream", "s"], server.env)).code).toBe(2);
  });
});
