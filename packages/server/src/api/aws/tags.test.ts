import * as aws from "@aws-sdk/client-lambda-microvms";
import { expect, test } from "vitest";
import { BASE_IMAGE, imageArn, World } from "../../control/testing/world.ts";
import { startApi, type TestApi } from "../api.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";

/** The real client, the API and the control plane; only the host is a fake. */

const ARN = imageArn("demo", KEY.accountId);
const path = (arn: string): string => `/2017-03-31/tags/${encodeURIComponent(arn)}`;

async function start(): Promise<{ world: World; client: aws.LambdaMicrovmsClient; send: TestApi["send"] }> {
  const world = await World.create();
  const api = await startApi({ operations: world.operations });
  const client = api.client();
  await client.send(
    new aws.CreateMicrovmImageCommand({
      name: "demo",
      baseImageArn: BASE_IMAGE,
      buildRoleArn: `arn:aws:iam::${KEY.accountId}:role/build`,
      codeArtifact: { uri: "s3://bucket/app.zip" },
      tags: { team: "a" },
    }),
  );
  await world.settled();
  return { world, client, send: api.send };
}

async function tagsOf(client: aws.LambdaMicrovmsClient): Promise<Record<string, string> | undefined> {
  const { Tags } = await client.send(new aws.ListTagsCommand({ Resource: ARN }));
  const image = await client.send(new aws.GetMicrovmImageCommand({ imageIdentifier: ARN }));
  expect(image.tags).toEqual(Tags);
  return Tags;
}

/** Of a refusal. */
async function refusal(answer: Response): Promise<unknown[]> {
  return [answer.status, answer.headers.get("x-amzn-errortype"), await answer.json()];
}

test("tags are merged, taken away, and told with the image", async () => {
  const { client } = await start();
  expect(await tagsOf(client)).toEqual({ team: "a" });
  const tag = (Tags: Record<string, string>) => client.send(new aws.TagResourceCommand({ Resource: ARN, Tags }));
  const tagged = await tag({ team: "b", "größe + name": "", ["__proto__"]: "x" });
  expect(tagged.$metadata).toMatchObject({ httpStatusCode: 204, requestId: expect.any(String) });
  expect(Object.entries((await tagsOf(client)) ?? {})).toEqual([
    ["team", "b"],
    ["größe + name", ""],
    ["__proto__", "x"],
  ]);
  await tag({});
  const untag = (TagKeys: string[]) => client.send(new aws.UntagResourceCommand({ Resource: ARN, TagKeys }));
  for (let i = 0; i < 2; i++)
    expect((await untag(["team", "größe + name", "none", "__proto__"])).$metadata.httpStatusCode).toBe(204);
  expect(await tagsOf(client)).toEqual({});
});

test("a resource has fifty tags and no more, and keys of aws: are nobody's", async () => {
  const { client } = await start();
  const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, "v"]));
  const tag = (Tags: Record<string, string>) => client.send(new aws.TagResourceCommand({ Resource: ARN, Tags }));
  await tag(many(49));
  await tag({ k1: "other", team: "c" });
  const full = await tag({ one: "more", more: "" }).catch((err: unknown) => err);
  expect(full).toBeInstanceOf(aws.InvalidParameterValueException);
  expect(full).toMatchObject({ message: "A resource can have at most 50 tags; it would have 52." });
  for (const key of ["aws:created", "AWS:created"]) {
    const reserved = await tag({ [key]: "x" }).catch((err: unknown) => err);
    expect(reserved).toBeInstanceOf(aws.InvalidParameterValueException);
    expect(reserved).toMatchObject({ message: expect.stringContaining(key) });
  }
  expect(Object.keys((await tagsOf(client)) ?? {})).toHaveLength(50);
});

test("many writers at once lose nothing", async () => {
  const { client } = await start();
  const tag = (n: number) => client.send(new aws.TagResourceCommand({ Resource: ARN, Tags: { [`k${n}`]: "v" } }));
  await Promise.all(Array.from({ length: 20 }, (_, n) => tag(n)));
  expect(Object.keys((await tagsOf(client)) ?? {})).toHaveLength(21);
});

test("on the wire", async () => {
  const { send } = await start();
  const raw = ARN; // colons as they are
  for (const at of [path(ARN), `/2017-03-31/tags/${raw}`]) {
    const tagged = await send({ method: "POST", path: at, body: '{"Tags":{"a":"1","b":null}}' });
    expect([tagged.status, await tagged.text(), tagged.headers.get("content-type")]).toEqual([204, "", null]);
    expect(tagged.headers.get("x-amzn-requestid")).toMatch(/^[0-9a-f-]{36}$/);
    const listed = await send({ method: "GET", path: at });
    expect([listed.status, await listed.text()]).toEqual([200, '{"Tags":{"team":"a","a":"1"}}']);
    const untagged = await send({ method: "DELETE", path: at, query: { tagKeys: ["a", "b"] } });
    expect([untagged.status, await untagged.text()]).toEqual([204, ""]);
  }
  const at = path(ARN);
  const one = "1 validation error detected: ";
  expect(await refusal(await send({ method: "POST", path: at, body: "{}" }))).toEqual([
    400,
    "ValidationException",
    { message: `${one}Value null at 'tags' failed to satisfy constraint: Member must not be null` },
  ]);
  expect(await refusal(await send({ method: "DELETE", path: at }))).toEqual([
    400,
    "ValidationException",
    { message: `${one}Value null at 'tagKeys' failed to satisfy constraint: Member must not be null` },
  ]);
  expect(await refusal(await send({ method: "POST", path: at, body: '{"Tags":true}' }))).toEqual([
    400,
    "SerializationException",
    { Message: "Expected map or null" },
  ]);
  for (const Tags of [{ "": "v" }, { ["k".repeat(129)]: "v" }, { "a;b": "v" }, { a: "v".repeat(257) }, { a: "<" }]) {
    const [status, type, body] = await refusal(
      await send({ method: "POST", path: at, body: JSON.stringify({ Tags }) }),
    );
    expect([status, type]).toEqual([400, "ValidationException"]);
    expect(JSON.stringify(body)).toMatch(/at 'tags' failed to satisfy constraint: Map (keys|value) must satisfy/);
  }
});

test("what has no tags", async () => {
  const { world, client, send } = await start();
  const { microvmId = "" } = await client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN }));
  await world.settled();
  const pattern =
    /^1 validation error detected: Value '.*' at 'resource' failed to satisfy constraint: Member must satisfy regular expression pattern/;
  const here = `arn:aws:lambda:us-east-1:${KEY.accountId}`;
  for (const microvm of [microvmId, `${here}:microvm:${microvmId}`, `${here}:${microvmId}`, BASE_IMAGE, "demo"]) {
    const [status, type, body] = await refusal(await send({ method: "GET", path: path(microvm) }));
    expect([status, type, body]).toEqual([400, "ValidationException", { message: expect.stringMatching(pattern) }]);
  }
  const missing = { resourceId: null, resourceType: null };
  const nobody = imageArn("nobody", KEY.accountId);
  const elsewhere = ARN.replace("us-east-1", "eu-west-1");
  for (const arn of [nobody, elsewhere])
    for (const request of [{ method: "GET" }, { method: "DELETE", query: { tagKeys: "a" } }])
      expect(await refusal(await send({ path: path(arn), ...request }))).toEqual([
        404,
        "ResourceNotFoundException",
        { message: `MicroVMImage not found for MicroVMImageID: ${arn}`, ...missing },
      ]);
  const nc = `${here}:network-connector:nc-1`;
  expect(await refusal(await send({ method: "GET", path: path(nc) }))).toEqual([
    404,
    "ResourceNotFoundException",
    { message: `Network connector not found for: ${nc}`, ...missing },
  ]);
  const other = `${here}:function:demo`;
  expect(await refusal(await send({ method: "GET", path: path(other) }))).toEqual([
    404,
    "ResourceNotFoundException",
    { message: `The resource ${other} does not exist: only images and network connectors have tags here.`, ...missing },
  ]);
  // Another account's is refused before anybody looks whether it is there.
  const foreign = imageArn("demo", "000000000000");
  for (const operation of ["ListTags", "TagResource", "UntagResource"]) {
    const request = {
      ListTags: { method: "GET" },
      TagResource: { method: "POST", body: '{"Tags":{}}' },
      UntagResource: { method: "DELETE", query: { tagKeys: "a" } },
    }[operation]!;
    const [status, type, body] = await refusal(await send({ path: path(foreign), ...request }));
    expect([status, type]).toEqual([403, "AccessDeniedException"]);
    expect(body).toEqual({ Message: expect.stringContaining(`lambda:${operation} on resource: ${foreign}`) });
  }
});

test("the tags of an image that goes are not changed, and go with it", async () => {
  const { world, client } = await start();
  const held = world.hold("deleteTemplate:begin");
  await client.send(new aws.DeleteMicrovmImageCommand({ imageIdentifier: ARN }));
  await held.reached;
  const tag = new aws.TagResourceCommand({ Resource: ARN, Tags: { a: "1" } });
  await expect(client.send(tag)).rejects.toBeInstanceOf(aws.ResourceConflictException);
  expect((await client.send(new aws.ListTagsCommand({ Resource: ARN }))).Tags).toEqual({ team: "a" });
  held.release();
  await world.settled();
  await expect(client.send(new aws.ListTagsCommand({ Resource: ARN }))).rejects.toBeInstanceOf(
    aws.ResourceNotFoundException,
  );
});
