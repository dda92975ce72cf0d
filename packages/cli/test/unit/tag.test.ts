import { describe, expect, test } from "vitest";
import { IMAGE, listen, torpor } from "./torpor.ts";

const ID = "nc-3f0c2b7e-8a41-4d5c-9e77-1b2c3d4e5f60";
const CONNECTOR = `arn:aws:lambda:eu-west-1:000000000000:network-connector:${ID}`;

test.each([
  ["demo", IMAGE],
  [IMAGE, IMAGE],
  [ID, CONNECTOR],
  [CONNECTOR, CONNECTOR],
])("tag ls shows the tags of %s", async (resource, arn) => {
  await using server = await listen(() => ({ Tags: { team: "a", note: "x=y" } }));
  const shown = await torpor(["tag", "ls", resource], server.env);
  expect([shown.code, shown.stdout]).toEqual([0, "KEY   VALUE\nteam  a\nnote  x=y\n"]);
  expect((await torpor(["tag", "ls", resource, "--json"], server.env)).stdout).toBe('{"team":"a","note":"x=y"}\n');
  expect(server.asked).toEqual(Array(2).fill(`GET /2017-03-31/tags/${arn}`));
});

test("tag set merges, and shows what there is then", async () => {
  const bodies: string[] = [];
  await using server = await listen(({ method, body }, response) => {
    if (method === "GET") return { Tags: { a: "1" } };
    bodies.push(body);
    response.writeHead(204).end();
    return undefined;
  });
  const ran = await torpor(["tag", "set", "demo", "a=1", "b=", "c=x=y"], server.env);
  expect([ran.code, ran.stdout]).toEqual([0, "KEY  VALUE\na    1\n"]);
  expect(bodies).toEqual(['{"Tags":{"a":"1","b":"","c":"x=y"}}']);
});

test("tag rm takes the keys", async () => {
  await using server = await listen(({ method }, response) => {
    if (method === "GET") return { Tags: {} };
    response.writeHead(204).end();
    return undefined;
  });
  const ran = await torpor(["tag", "rm", "demo", "a b", "c"], server.env);
  expect([ran.code, ran.stdout]).toEqual([0, "no tags\n"]);
  expect(server.asked[0]).toBe(`DELETE /2017-03-31/tags/${IMAGE}?tagKeys=a b&tagKeys=c`);
});

describe("a command line that cannot be right", () => {
  test.each([
    [["tag", "set", "demo", "novalue"], /not a tag: novalue/],
    [["tag", "ls", "no image!"], /neither the name nor the ARN/],
  ])("%j", async (args, stderr) => {
    await using server = await listen(() => ({}));
    expect(await torpor(args, server.env)).toMatchObject({ code: 2, stderr: expect.stringMatching(stderr) });
    expect(server.asked).toEqual([]);
  });
});
