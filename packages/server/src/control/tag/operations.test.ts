import { formatConnectorArn } from "@torpor/protocol";
import fc from "fast-check";
import { beforeEach, expect, test } from "vitest";
import { ACCOUNT, context, imageArn, World } from "../testing/world.ts";
import { withoutTags, withTags } from "./tags.ts";

let world: World;
let image: string;
beforeEach(async () => {
  world = await World.create();
  image = await world.image("demo", { tags: { team: "a" } });
});

const tags = async (Resource = image) => (await world.operations.ListTags({ Resource }, context())).Tags;
const tag = (Tags: Record<string, string>, Resource = image) =>
  world.operations.TagResource({ Resource, Tags }, context());
const untag = (TagKeys: string[], Resource = image) => world.operations.UntagResource({ Resource, TagKeys }, context());

test("new tags are added, those of the same key replaced, and both are seen in the image", async () => {
  expect(await tag({ team: "b", stage: "" })).toEqual({});
  expect(await tags()).toEqual({ team: "b", stage: "" });
  const seen = await world.operations.GetMicrovmImage({ imageIdentifier: image }, context());
  expect(seen.tags).toEqual({ team: "b", stage: "" });
});

test("removing is repeatable, and what is not there is nobody's loss", async () => {
  await untag(["team", "never"]);
  await untag(["team"]);
  expect(await tags()).toEqual({});
});

test("a resource has at most 50, and none that begin with aws:", async () => {
  const many = (count: number, from = 0) =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n + from}`, "v"]));
  await tag(many(49));
  await expect(tag(many(1, 49))).rejects.toMatchObject({ kind: "invalid_parameter", message: /it would have 51/ });
  await tag({ k0: "changed" });
  await expect(tag({ "AWS:x": "y" })).rejects.toMatchObject({ kind: "invalid_parameter", message: /reserved/ });
  expect(Object.keys((await tags())!)).toHaveLength(50);
});

test("changes at the same time all count", async () => {
  await Promise.all(Array.from({ length: 20 }, (_, n) => tag({ [`k${n}`]: `${n}` })));
  expect(Object.keys((await tags())!)).toHaveLength(21);
});

test("what does not exist, is another account's, or has no tags is told apart", async () => {
  const other = context("999999999999");
  await expect(tags(imageArn("nothing"))).rejects.toMatchObject({
    kind: "not_found",
    message: `MicroVMImage not found for MicroVMImageID: ${imageArn("nothing")}`,
  });
  const connector = formatConnectorArn({ region: "us-east-1", account: ACCOUNT, id: "nc-1" });
  await expect(tag({ a: "b" }, connector)).rejects.toMatchObject({
    kind: "not_found",
    message: `Network connector not found for: ${connector}`,
  });
  await expect(world.operations.ListTags({ Resource: image }, other)).rejects.toMatchObject({ kind: "denied" });
  await expect(tags(`arn:aws:lambda:us-east-1:${ACCOUNT}:function:f`)).rejects.toMatchObject({ kind: "not_found" });
});

const TAGS = fc.dictionary(fc.constantFrom("a", "b", "c", "__proto__", "toString"), fc.string({ maxLength: 3 }));

test("adding and removing is what it is on a map, whatever the keys are called", () => {
  fc.assert(
    fc.property(TAGS, TAGS, fc.array(fc.constantFrom("a", "__proto__", "z")), (before, added, removed) => {
      const model = new Map([...Object.entries(before), ...Object.entries(added)]);
      expect(new Map(Object.entries(withTags(before, added, 50)))).toEqual(model);
      for (const key of removed) model.delete(key);
      expect(new Map(Object.entries(withoutTags(withTags(before, added, 50), removed)))).toEqual(model);
    }),
  );
});
