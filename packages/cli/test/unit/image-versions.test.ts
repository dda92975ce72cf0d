import { describe, expect, test } from "vitest";
import { IMAGE, listen, torpor } from "./torpor.ts";

const createdAt = Date.now() / 1000 - 600;
const image = {
  imageArn: IMAGE,
  name: "demo",
  state: "UPDATED",
  createdAt,
  latestActiveImageVersion: "2.0",
  latestFailedImageVersion: null,
};
const version = (number: string, more: object = {}) => ({
  baseImageArn: "b",
  buildRoleArn: "r",
  codeArtifact: { uri: "s3://b/k" },
  imageArn: IMAGE,
  imageVersion: number,
  state: "SUCCESSFUL",
  status: "ACTIVE",
  createdAt,
  stateReason: null,
  resources: [{ minimumMemoryInMiB: 512 }],
  ...more,
});
const path = `/2025-09-09/microvm-images/${IMAGE}`;

describe("image ls", () => {
  test("shows a table, page after page, and JSON for programs", async () => {
    await using server = await listen(({ path: asked }) => {
      const first = !asked.includes("nextToken=more");
      return { items: [{ ...image, name: first ? "demo" : "other" }], nextToken: first ? "more" : null };
    });
    const shown = await torpor(["image", "ls", "--filter", "m"], server.env);
    expect(shown.stdout).toMatch(/^IMAGE +STATE +ACTIVE +FAILED +CREATED\ndemo +UPDATED +2\.0 +- +10 min ago\nother /);
    expect(server.asked[0]).toMatch(/^GET \/2025-09-09\/microvm-images\?.*nameFilter=m/);
    const listed = await torpor(["image", "ls", "--json"], server.env);
    expect(JSON.parse(listed.stdout)).toMatchObject([{ imageArn: IMAGE, name: "demo" }, { name: "other" }]);
  });

  test("says what to do when there is none", async () => {
    await using server = await listen(() => ({ items: [], nextToken: null }));
    expect((await torpor(["image", "ls"], server.env)).stdout).toBe("no images; next: torpor image build DIR\n");
  });
});

test("image versions shows what each is and why it failed", async () => {
  const failed = version("3.0", { state: "FAILED", status: "INACTIVE", stateReason: "It failed.\nmore" });
  await using server = await listen(() => ({ items: [failed, version("2.0")], nextToken: null }));
  const shown = await torpor(["image", "versions", "demo"], server.env);
  expect(shown.stdout).toMatch(
    /^VERSION +STATE +STATUS +MEMORY +CREATED +REASON\n3\.0 +FAILED +INACTIVE +512 MiB +10 min ago +It failed\.\n2\.0 +SUCCESSFUL +ACTIVE +512 MiB +10 min ago\n$/,
  );
  expect(server.asked[0]).toMatch(`GET ${path}/versions?`);
  const listed = await torpor(["image", "versions", "demo", "--json"], server.env);
  expect(JSON.parse(listed.stdout)).toMatchObject([{ imageVersion: "3.0", stateReason: "It failed.\nmore" }, {}]);
});

test.each([
  ["activate", "ACTIVE"],
  ["deactivate", "INACTIVE"],
])("image %s switches a version %s", async (command, status) => {
  const bodies: unknown[] = [];
  await using server = await listen(({ body }) => {
    bodies.push(JSON.parse(body));
    return version("2.0", { status });
  });
  const ran = await torpor(["image", command, "demo", "2"], server.env);
  expect([ran.code, ran.stdout]).toEqual([0, `demo 2.0 ${status}\n`]);
  expect(server.asked).toEqual([`PATCH ${path}/versions/2`]);
  expect(bodies).toEqual([{ status }]);
});

describe("image rm", () => {
  /** A service that has what is deleted for two more looks. */
  const deleting = (answer: object) => {
    let looks = 0;
    return listen(({ method }, response) => {
      if (method === "DELETE") return answer;
      if (looks++ < 2) return { ...image, ...version("2.0"), ...answer };
      return response.writeHead(404).end('{"message":"MicroVMImage not found"}');
    });
  };

  test("waits until the image is gone", async () => {
    await using server = await deleting({ imageIdentifier: IMAGE, state: "DELETING" });
    const ran = await torpor(["image", "rm", "demo"], server.env);
    expect([ran.code, ran.stdout]).toEqual([0, "demo DELETED\n"]);
    expect(server.asked).toEqual([`DELETE ${path}`, ...Array(3).fill(`GET ${path}`)]);
  });

  test("deletes one version when it is told which", async () => {
    await using server = await deleting({ imageIdentifier: IMAGE, imageVersion: "2.0", state: "DELETING" });
    const ran = await torpor(["image", "rm", "demo", "--image-version", "2", "--json"], server.env);
    expect(JSON.parse(ran.stdout)).toEqual({ imageIdentifier: IMAGE, imageVersion: "2.0", state: "DELETED" });
    expect(server.asked[0]).toBe(`DELETE ${path}/versions/2`);
  });

  test("does not wait when it is told not to", async () => {
    await using server = await deleting({ imageIdentifier: IMAGE, state: "DELETING" });
    const ran = await torpor(["image", "rm", "demo", "--no-wait"], server.env);
    expect(ran.stdout).toBe("demo DELETING\n");
    expect(server.asked).toEqual([`DELETE ${path}`]);
  });

  test.each([
    ["Cannot delete microvm image with running microvms.", 400, "torpor ls, and torpor rm ID of those that have it"],
    ["This is the last version. Please delete the entire image", 400, "torpor image rm IMAGE"],
    [
      "MicroVM Image is already in state: UPDATING",
      409,
      "torpor image show IMAGE, and the same command when it is settled",
    ],
  ])("explains %s", async (message, status, hint) => {
    await using server = await listen((_, response) => response.writeHead(status).end(JSON.stringify({ message })));
    const ran = await torpor(["image", "rm", "demo"], server.env);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain(`${message}\ntry: ${hint}\n`);
  });

  test("a version of several images makes no sense", async () => {
    await using server = await listen(() => undefined);
    const ran = await torpor(["image", "rm", "a", "b", "--image-version", "1"], server.env);
    expect([ran.code, server.asked]).toEqual([2, []]);
    expect(ran.stderr).toContain("a version is of one image\ntry: torpor image rm a --image-version 1\n");
  });
});

test("image bases lists what can be built on", async () => {
  const base = "arn:aws:lambda:eu-west-1:aws:microvm-image:al2023-1";
  await using server = await listen(({ path: asked }) => ({
    items: asked.includes("/versions")
      ? ["1", "0"].map((imageVersion) => ({ imageArn: base, imageVersion, status: "AVAILABLE", createdAt }))
      : [{ imageArn: base, createdAt }],
    nextToken: null,
  }));
  const ran = await torpor(["image", "bases"], server.env);
  expect(ran.stdout).toMatch(
    /^BASE +VERSION +STATUS +ARN\nal2023-1 +1 +AVAILABLE +arn:\S+\nal2023-1 +0 +AVAILABLE +arn:\S+\n$/,
  );
});
