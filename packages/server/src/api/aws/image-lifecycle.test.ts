import * as aws from "@aws-sdk/client-lambda-microvms";
import { expect, test } from "vitest";
import { BASE_IMAGE, imageArn, World } from "../../control/testing/world.ts";
import { BuildError } from "../../host/host-client.ts";
import { startApi, type TestApi } from "../api.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";

/** The real client, the API and the control plane; only the host is a fake. */

const PAGE = 17;
const MANY = 250;
const ARN = imageArn("demo", KEY.accountId);
const CONFIGURATION = {
  baseImageArn: BASE_IMAGE,
  buildRoleArn: `arn:aws:iam::${KEY.accountId}:role/build`,
  codeArtifact: { uri: "s3://bucket/app.zip" },
};

async function start(): Promise<{ world: World; client: aws.LambdaMicrovmsClient; send: TestApi["send"] }> {
  const world = await World.create();
  const api = await startApi({ operations: world.operations });
  return { world, client: api.client(), send: api.send };
}

async function create(world: World, client: aws.LambdaMicrovmsClient, ...names: string[]): Promise<void> {
  for (const name of names) await client.send(new aws.CreateMicrovmImageCommand({ ...CONFIGURATION, name }));
  await world.settled();
}
async function update(world: World, client: aws.LambdaMicrovmsClient): Promise<string> {
  const answer = await client.send(new aws.UpdateMicrovmImageCommand({ ...CONFIGURATION, imageIdentifier: ARN }));
  await world.settled();
  return answer.imageVersion ?? "";
}

test("an image from its first version to its end", async () => {
  const { world, client } = await start();
  await create(world, client, "demo");
  const first = await client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN }));
  await world.settled();

  const updated = await client.send(
    new aws.UpdateMicrovmImageCommand({ ...CONFIGURATION, imageIdentifier: ARN, description: "second" }),
  );
  expect(updated).toMatchObject({
    $metadata: { httpStatusCode: 200 },
    imageArn: ARN,
    state: "UPDATING",
    imageVersion: "2.0",
    latestActiveImageVersion: "1.0",
    description: "second",
    updatedAt: new Date(world.clock.now()),
  });
  expect(updated.latestFailedImageVersion).toBeUndefined();
  await world.settled();
  const { items: versions } = await client.send(new aws.ListMicrovmImageVersionsCommand({ imageIdentifier: ARN }));
  expect(versions).toMatchObject([
    { imageVersion: "2.0", state: "SUCCESSFUL", status: "ACTIVE", description: "second" },
    { imageVersion: "1.0", state: "SUCCESSFUL", status: "ACTIVE", resources: [{ minimumMemoryInMiB: 2048 }] },
  ]);

  const switched = await client.send(
    new aws.UpdateMicrovmImageVersionCommand({ imageIdentifier: ARN, imageVersion: "2", status: "INACTIVE" }),
  );
  expect(switched).toMatchObject({ imageVersion: "2.0", status: "INACTIVE", state: "SUCCESSFUL" });
  const second = await client.send(new aws.RunMicrovmCommand({ imageIdentifier: ARN }));
  expect(second.imageVersion).toBe("1.0");
  await world.settled();

  const version = { imageIdentifier: ARN, imageVersion: "2.0" };
  const going = await client.send(new aws.DeleteMicrovmImageVersionCommand(version));
  expect(going).toMatchObject({ ...version, state: "DELETING" });
  await world.settled();
  await expect(client.send(new aws.GetMicrovmImageVersionCommand(version))).rejects.toThrow(
    `MicroVMImage not found for MicroVMImage: ${ARN}, Version: 2.0`,
  );
  expect(await client.send(new aws.DeleteMicrovmImageVersionCommand(version))).toMatchObject({ state: "DELETED" });

  const deletion = new aws.DeleteMicrovmImageCommand({ imageIdentifier: ARN });
  await expect(client.send(deletion)).rejects.toBeInstanceOf(aws.ValidationException);
  for (const { microvmId } of [first, second])
    await client.send(new aws.TerminateMicrovmCommand({ microvmIdentifier: microvmId }));
  await world.settled();
  expect(await client.send(deletion)).toMatchObject({ imageIdentifier: ARN, state: "DELETING" });
  await world.settled();
  await expect(client.send(new aws.GetMicrovmImageCommand({ imageIdentifier: ARN }))).rejects.toBeInstanceOf(
    aws.ResourceNotFoundException,
  );
  expect(await client.send(deletion)).toMatchObject({ state: "DELETED" });
  expect(world.machine.violations).toEqual([]);
});

test("refusals have the status, the type and the words of the service", async () => {
  const { world, client, send } = await start();
  await create(world, client, "demo");
  world.machine.failNext("buildTemplate", new BuildError("ARCHIVE_INVALID", "no zip"));
  await update(world, client);
  const held = world.hold("buildTemplate:half");
  await client.send(new aws.UpdateMicrovmImageCommand({ ...CONFIGURATION, imageIdentifier: ARN }));
  await held.reached;
  const encoded = encodeURIComponent(ARN);
  const path = `/2025-09-09/microvm-images/${encoded}`;
  const ask = async (method: string, at: string, body?: object): Promise<unknown[]> => {
    const answer = await send({ method, path: at, ...(body && { body: JSON.stringify(body) }) });
    const text: unknown = await answer.json();
    return [answer.status, answer.headers.get("x-amzn-errortype"), Reflect.get(Object(text), "message")];
  };
  const refused = (message: string): unknown[] => [400, "ValidationException", message];
  const busy = [409, "ConflictException", "MicroVM Image is already in state: UPDATING"];
  const unknown = `MicroVMImage not found for MicroVMImage: ${ARN}, Version: 9.0`;
  expect(await ask("PUT", path, CONFIGURATION)).toEqual(
    refused(`Cannot update MicroVM Image in its current state: ${ARN}`),
  );
  expect(await ask("DELETE", path)).toEqual(refused(`Cannot delete MicroVM image in its current state: ${ARN}`));
  expect(await ask("PATCH", `${path}/versions/1.0`, { status: "INACTIVE" })).toEqual(busy);
  expect(await ask("DELETE", `${path}/versions/1.0`)).toEqual(busy);
  held.release();
  await world.settled();
  expect(await ask("PATCH", `${path}/versions/9.0`, { status: "ACTIVE" })).toEqual([
    404,
    "ResourceNotFoundException",
    unknown,
  ]);
  expect(await ask("PATCH", `${path}/versions/1.0`, { status: "OFF" })).toEqual(
    refused(
      "1 validation error detected: Value 'OFF' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [ACTIVE, INACTIVE]",
    ),
  );
  expect(await ask("PUT", path, {})).toEqual(
    refused(
      "3 validation errors detected: Value null at 'baseImageArn' failed to satisfy constraint: Member must not be null; Value null at 'codeArtifact' failed to satisfy constraint: Member must not be null; Value null at 'buildRoleArn' failed to satisfy constraint: Member must not be null",
    ),
  );
  expect(await ask("GET", `/2025-09-09/managed-microvm-images/${encoded}/versions`)).toEqual([
    404,
    "ResourceNotFoundException",
    `MicroVMImage not found for MicroVMImageID: ${ARN}`,
  ]);
  for (const version of ["3.0", "2.0"]) {
    await client.send(new aws.DeleteMicrovmImageVersionCommand({ imageIdentifier: ARN, imageVersion: version }));
    await world.settled();
  }
  expect(await ask("DELETE", `${path}/versions/1`)).toEqual(
    refused("This is the last version. Please delete the entire image"),
  );
});

test("what is not set is null on the wire", async () => {
  const { world, client, send } = await start();
  await create(world, client, "demo");
  const path = `/2025-09-09/microvm-images/${encodeURIComponent(ARN)}`;
  const at = world.clock.now() / 1000;
  const json = async (one: string): Promise<unknown> => await (await send({ method: "GET", path: one })).json();
  expect(await json("/2025-09-09/microvm-images")).toEqual({
    items: [
      {
        imageArn: ARN,
        name: "demo",
        state: "CREATED",
        createdAt: at,
        latestActiveImageVersion: "1.0",
        latestFailedImageVersion: null,
      },
    ],
    nextToken: null,
  });
  expect(await json(`${path}/versions`)).toEqual({
    items: [
      {
        ...CONFIGURATION,
        imageArn: ARN,
        imageVersion: "1.0",
        state: "SUCCESSFUL",
        status: "ACTIVE",
        createdAt: at,
        updatedAt: at,
        stateReason: null,
        tags: null,
        baseImageVersion: "1.0",
        description: null,
        logging: null,
        egressNetworkConnectors: [
          "arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS",
        ],
        cpuConfigurations: null,
        resources: [{ minimumMemoryInMiB: 2048 }],
        additionalOsCapabilities: null,
        hooks: null,
        environmentVariables: null,
      },
    ],
    nextToken: null,
  });
});

test("the catalogue of base images, page by page", async () => {
  const { client } = await start();
  const names: unknown[] = [];
  for await (const page of aws.paginateListManagedMicrovmImages({ client, pageSize: 1 }, {}))
    for (const { imageArn: base } of page.items ?? []) names.push(base);
  expect(names).toEqual([BASE_IMAGE]);
  const versions: unknown[] = [];
  const of = { imageIdentifier: BASE_IMAGE };
  for await (const page of aws.paginateListManagedMicrovmImageVersions({ client, pageSize: 1 }, of))
    for (const { imageVersion, status } of page.items ?? []) versions.push([imageVersion, status]);
  expect(versions).toEqual([
    ["1", "AVAILABLE"],
    ["0", "AVAILABLE"],
  ]);
});

test("250 images are listed once each, newest first, while others come and go", async () => {
  const { world, client } = await start();
  const all = Array.from({ length: MANY }, (_, n) => `image-${String(n).padStart(3, "0")}`);
  for (const [n, name] of all.entries()) {
    await create(world, client, name);
    if (n % 10 === 0) await world.clock.advance(1); // several share their time of creation
  }
  const remove = async (name: string): Promise<void> => {
    await client.send(new aws.DeleteMicrovmImageCommand({ imageIdentifier: imageArn(name, KEY.accountId) }));
    await world.settled();
  };
  const seen: string[] = [];
  const removed: string[] = [];
  for await (const page of aws.paginateListMicrovmImages({ client, pageSize: PAGE }, {})) {
    const names = (page.items ?? []).map(({ name }) => name ?? "");
    seen.push(...names);
    // The last one of the page, behind which the next one begins; one that is still to come; and new ones.
    for (const gone of [names.at(-1), all.findLast((name) => !seen.includes(name) && !removed.includes(name))]) {
      if (gone === undefined || removed.includes(gone)) continue;
      await remove(gone);
      removed.push(gone);
    }
    await world.clock.advance(1);
    await create(world, client, `new-${seen.length}`);
  }
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen.filter((name) => name.startsWith("new-"))).toEqual([]);
  const unseen = all.filter((name) => !seen.includes(name));
  expect(unseen.filter((name) => !removed.includes(name))).toEqual([]);
  expect(seen.map((name) => Math.ceil(Number(name.slice(-3)) / 10))).toEqual(
    seen.map((name) => Math.ceil(Number(name.slice(-3)) / 10)).toSorted((a, b) => b - a),
  );
}, 60_000);

test("a filter is a part of the name, to the letter, and its tokens are of no use without it", async () => {
  const { world, client } = await start();
  await create(world, client, "alpha_1", "alpha-1", "Alpha", "beta");
  const list = async (nameFilter: string): Promise<unknown> =>
    (await client.send(new aws.ListMicrovmImagesCommand({ nameFilter }))).items?.map(({ name }) => name).sort();
  expect(await list("alpha")).toEqual(["alpha-1", "alpha_1"]);
  expect(await list("_1")).toEqual(["alpha_1"]);
  expect(await list("a")).toEqual(["Alpha", "alpha-1", "alpha_1", "beta"]);
  expect(await list("beta")).toEqual(["beta"]);
  for (const none of ["%", "al%a", "alpha_1_", "'", "β"]) expect(await list(none)).toEqual([]);
  const { nextToken } = await client.send(new aws.ListMicrovmImagesCommand({ nameFilter: "a", maxResults: 1 }));
  for (const input of [{ nextToken }, { nextToken, nameFilter: "alpha" }, { nextToken: "x", nameFilter: "a" }])
    await expect(client.send(new aws.ListMicrovmImagesCommand(input))).rejects.toBeInstanceOf(aws.ValidationException);
  expect((await client.send(new aws.ListMicrovmImagesCommand({ nameFilter: "a", nextToken }))).items).toHaveLength(3);
});

test("another account sees nothing of it", async () => {
  const { world, client } = await start();
  await world.image("demo"); // of the world's own account
  expect((await client.send(new aws.ListMicrovmImagesCommand({}))).items).toEqual([]);
  const imageIdentifier = imageArn("demo");
  const version = { imageIdentifier, imageVersion: "1.0" };
  for (const ask of [
    () => client.send(new aws.UpdateMicrovmImageCommand({ ...CONFIGURATION, imageIdentifier })),
    () => client.send(new aws.DeleteMicrovmImageCommand({ imageIdentifier })),
    () => client.send(new aws.ListMicrovmImageVersionsCommand({ imageIdentifier })),
    () => client.send(new aws.UpdateMicrovmImageVersionCommand({ ...version, status: "INACTIVE" })),
    () => client.send(new aws.DeleteMicrovmImageVersionCommand(version)),
    () => client.send(new aws.ListManagedMicrovmImageVersionsCommand({ imageIdentifier })),
  ])
    await expect(ask()).rejects.toBeInstanceOf(aws.AccessDeniedException);
});

test("250 versions are listed once each, newest first, while others come and go", async () => {
  const { world, client } = await start();
  await create(world, client, "demo");
  for (let n = 2; n <= MANY; n++) await update(world, client);
  const seen: number[] = [];
  const removed: number[] = [];
  const of = { imageIdentifier: ARN };
  for await (const page of aws.paginateListMicrovmImageVersions({ client, pageSize: PAGE }, of)) {
    seen.push(...(page.items ?? []).map(({ imageVersion }) => Number(imageVersion)));
    for (const gone of [seen.at(-1) ?? 0, seen.length + 1]) {
      if (removed.includes(gone) || gone >= MANY) continue;
      await client.send(new aws.DeleteMicrovmImageVersionCommand({ ...of, imageVersion: `${gone}.0` }));
      await world.settled();
      removed.push(gone);
    }
    await update(world, client);
  }
  expect(seen).toEqual(seen.toSorted((a, b) => b - a));
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen[0]).toBe(MANY);
  for (let n = 1; n <= MANY; n++) expect([n, seen.includes(n) || removed.includes(n)]).toEqual([n, true]);
}, 60_000);
