import { beforeEach, describe, expect, test } from "vitest";
import { BuildError, HostError } from "../../host/host-client.ts";
import { BASE_IMAGE, connectorArn, context, imageArn, World } from "../testing/world.ts";

let world: World;
beforeEach(async () => {
  world = await World.create();
});

const OTHER_ACCOUNT = "999999999999";
const arn = imageArn("demo");
const request = {
  baseImageArn: BASE_IMAGE,
  buildRoleArn: "arn:aws:iam::000000000000:role/build",
  codeArtifact: { uri: "s3://bucket/app.zip" },
};
const getImage = (imageIdentifier = arn) => world.operations.GetMicrovmImage({ imageIdentifier }, context());
const getVersion = (imageVersion: string) =>
  world.operations.GetMicrovmImageVersion({ imageIdentifier: arn, imageVersion }, context());
const begin = (more: object = {}) =>
  world.operations.UpdateMicrovmImage({ imageIdentifier: arn, ...request, ...more }, context());
const deleteImage = (imageIdentifier = arn) => world.operations.DeleteMicrovmImage({ imageIdentifier }, context());
const deleteVersion = (imageVersion: string) =>
  world.operations.DeleteMicrovmImageVersion({ imageIdentifier: arn, imageVersion }, context());
const switchVersion = (imageVersion: string, status: "ACTIVE" | "INACTIVE") =>
  world.operations.UpdateMicrovmImageVersion({ imageIdentifier: arn, imageVersion, status }, context());
const setStatus = async (imageVersion: string, status: "ACTIVE" | "INACTIVE") => {
  const answer = await switchVersion(imageVersion, status);
  await world.settled();
  return answer;
};
const run = async (imageVersion?: string) =>
  (await world.operations.RunMicrovm({ imageIdentifier: arn, ...(imageVersion && { imageVersion }) }, context()))
    .imageVersion;

/** Another version, built or failed. */
async function update(more: object = {}): Promise<string> {
  const { imageVersion } = await begin(more);
  await world.settled();
  return imageVersion;
}
async function failingUpdate(): Promise<string> {
  world.machine.failNext("buildTemplate", new BuildError("CONTAINER_BUILD_FAILED", "STEP 2/2: RUN false"));
  return await update();
}
async function end(microvmIdentifier: string): Promise<void> {
  await world.operations.TerminateMicrovm({ microvmIdentifier }, context());
  await world.settled();
}
/** A look of the reconciler. */
async function look(): Promise<void> {
  await world.clock.advance(5000);
  await world.quiet();
}

describe("UpdateMicrovmImage", () => {
  test("answers with the new version while the old one can still be launched, and with no tags", async () => {
    await world.image("demo", { tags: { team: "a" } });
    const held = world.hold("buildTemplate:half");
    const answer = await begin();
    await held.reached;
    expect(answer).toEqual({
      imageArn: arn,
      name: "demo",
      description: null,
      state: "UPDATING",
      imageVersion: "2.0",
      latestActiveImageVersion: "1.0",
      latestFailedImageVersion: null,
      createdAt: new Date(world.clock.now()),
      updatedAt: new Date(world.clock.now()),
      baseImageArn: BASE_IMAGE,
      baseImageVersion: "1.0",
      buildRoleArn: request.buildRoleArn,
      codeArtifact: request.codeArtifact,
      egressNetworkConnectors: [connectorArn("INTERNET_EGRESS")],
      resources: [{ minimumMemoryInMiB: 2048 }],
      cpuConfigurations: null,
      additionalOsCapabilities: null,
      environmentVariables: null,
      logging: null,
      hooks: null,
    });
    expect(await getImage()).toMatchObject({ state: "UPDATING", latestActiveImageVersion: "1.0" });
    expect((await getVersion("2")).state).toBe("IN_PROGRESS");
    expect(await run()).toBe("1.0");
    held.release();
    await world.settled();
    expect(await getImage()).toMatchObject({
      state: "UPDATED",
      latestActiveImageVersion: "2.0",
      tags: { team: "a" },
    });
    expect(await run()).toBe("2.0");
    expect(await run("1")).toBe("1.0");
  });

  test("inherits nothing from the version before", async () => {
    await world.image("demo", {
      description: "first",
      resources: [{ minimumMemoryInMiB: 512 }],
      environmentVariables: { A: "b" },
      additionalOsCapabilities: ["ALL"],
      hooks: { port: 9000, microvmImageHooks: { ready: "ENABLED" } },
      logging: { disabled: {} },
    });
    await update();
    expect(await getVersion("2.0")).toMatchObject({
      description: null,
      resources: [{ minimumMemoryInMiB: 2048 }],
      environmentVariables: null,
      additionalOsCapabilities: null,
      hooks: null,
      logging: null,
    });
    expect(world.machine.builds.at(-1)).toMatchObject({ memoryMib: 2048, capabilities: "default" });
    expect(world.machine.builds.at(-1)?.environment).toEqual({
      AWS_REGION: "us-east-1",
      AWS_LAMBDA_MICROVM_IMAGE_NAME: "demo",
      AWS_LAMBDA_MICROVM_IMAGE_ARN: arn,
      AWS_LAMBDA_MICROVM_IMAGE_VERSION: "2.0",
    });
    expect(await getVersion("1.0")).toMatchObject({ description: "first", environmentVariables: { A: "b" } });
  });

  test("a failed version uses up its number and does not hide an older good one", async () => {
    await world.image("demo");
    expect(await failingUpdate()).toBe("2.0");
    expect(await getImage()).toMatchObject({
      state: "UPDATE_FAILED",
      latestActiveImageVersion: "1.0",
      latestFailedImageVersion: "2.0",
    });
    expect(await run()).toBe("1.0");
    await expect(run("2.0")).rejects.toMatchObject({
      kind: "not_found",
      message: `No active version found for MicroVM image ${arn}`,
    });
    expect(await update()).toBe("3.0");
    expect(await getImage()).toMatchObject({
      state: "UPDATED",
      latestActiveImageVersion: "3.0",
      latestFailedImageVersion: "2.0",
    });
  });

  test("an image whose first build failed can be updated", async () => {
    world.machine.failNext("buildTemplate", new BuildError("ARCHIVE_INVALID", "no zip"));
    await world.image("demo");
    expect((await getImage()).state).toBe("CREATE_FAILED");
    await update();
    expect(await getImage()).toMatchObject({
      state: "UPDATED",
      latestActiveImageVersion: "2.0",
      latestFailedImageVersion: "1.0",
    });
  });

  test("is refused while something is being done to the image, and of many at once one is served", async () => {
    const held = world.hold("buildTemplate:half");
    const creating = world.image("demo");
    await held.reached;
    const refusal = { kind: "invalid_input", message: `Cannot update MicroVM Image in its current state: ${arn}` };
    await expect(begin()).rejects.toMatchObject(refusal);
    held.release();
    await creating;
    const race = await Promise.allSettled([1, 2, 3].map(() => begin()));
    expect(race.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected", "rejected"]);
    for (const one of race) if (one.status === "rejected") expect(one.reason).toMatchObject(refusal);
    await world.settled();
    expect((await getImage()).latestActiveImageVersion).toBe("2.0");
    const deleting = world.hold("deleteTemplate:begin");
    await deleteImage();
    await deleting.reached;
    await expect(begin()).rejects.toMatchObject(refusal);
    deleting.release();
  });

  test("checks the image first, then what is to become of it", async () => {
    await expect(begin()).rejects.toMatchObject({
      kind: "not_found",
      message: `MicroVMImage not found for MicroVMImageID: ${arn}`,
    });
    await world.image("demo");
    await expect(begin({ imageIdentifier: "demo" })).rejects.toThrow("Invalid ARN format: demo");
    await expect(
      world.operations.UpdateMicrovmImage({ imageIdentifier: arn, ...request }, context(OTHER_ACCOUNT)),
    ).rejects.toMatchObject({ kind: "denied", message: expect.stringContaining("lambda:UpdateMicrovmImage") });
    await expect(begin({ codeArtifact: { uri: "https://x/y" } })).rejects.toThrow("valid S3 URI");
    await expect(begin({ baseImageVersion: "7" })).rejects.toThrow(`${BASE_IMAGE}, Version: 7`);
    await expect(begin({ environmentVariables: { AWS_REGION: "x" } })).rejects.toThrow("is reserved");
    expect(await getImage()).toMatchObject({ state: "CREATED", latestActiveImageVersion: "1.0" });
    expect(await update()).toBe("2.0"); // no number was used up
  });

  test("the same clientToken gets the same answer, a changed request a conflict", async () => {
    await world.image("demo");
    const first = await begin({ clientToken: "t" });
    await world.settled();
    expect(await begin({ clientToken: "t" })).toEqual(first);
    await expect(begin({ clientToken: "t", description: "new" })).rejects.toMatchObject({ kind: "conflict" });
    expect(world.machine.builds).toHaveLength(2);
  });
});

describe("UpdateMicrovmImageVersion", () => {
  test("an INACTIVE version is not launched any more, keeps nothing ready, and what runs of it goes on", async () => {
    await world.image("demo");
    await update();
    const old = await world.running(arn, { imageVersion: "1.0" });
    const asleep = await world.running(arn, { imageVersion: "2.0" });
    await world.operations.SuspendMicrovm({ microvmIdentifier: asleep }, context());
    await world.settled();
    const [, second] = world.machine.builds.map(({ templateId }) => templateId);
    expect(await setStatus("2", "INACTIVE")).toEqual(await getVersion("2.0"));
    expect(await getVersion("2.0")).toMatchObject({ status: "INACTIVE", state: "SUCCESSFUL", stateReason: null });
    expect(await getImage()).toMatchObject({ state: "UPDATED", latestActiveImageVersion: "1.0" });
    expect([...world.host.retired]).toEqual([second]);
    expect(await run()).toBe("1.0");
    await expect(run("2.0")).rejects.toMatchObject({ kind: "not_found" });
    await world.operations.ResumeMicrovm({ microvmIdentifier: asleep }, context());
    expect([await world.state(old), await world.state(asleep)]).toEqual(["RUNNING", "RUNNING"]);

    expect((await setStatus("2.0", "ACTIVE")).status).toBe("ACTIVE");
    expect((await getImage()).latestActiveImageVersion).toBe("2.0");
    expect([...world.host.retired]).toEqual([]);
    expect(await run()).toBe("2.0");
    expect(world.machine.violations).toEqual([]);
  });

  test("to switch to what it is already changes nothing", async () => {
    await world.image("demo");
    const before = await getVersion("1.0");
    await world.clock.advance(1000);
    expect(await setStatus("1.0", "ACTIVE")).toEqual(before);
    await failingUpdate();
    expect((await setStatus("2.0", "INACTIVE")).status).toBe("INACTIVE");
  });

  test("with none left ACTIVE nothing can be launched", async () => {
    await world.image("demo");
    await setStatus("1.0", "INACTIVE");
    expect(await getImage()).toMatchObject({ state: "CREATED", latestActiveImageVersion: null });
    await expect(run()).rejects.toThrow(`No active version found for MicroVM image ${arn}`);
  });

  test("refuses a failed version with the way out, a busy image with a conflict, and what is not there", async () => {
    await world.image("demo");
    await failingUpdate();
    await expect(setStatus("2.0", "ACTIVE")).rejects.toMatchObject({
      kind: "invalid_input",
      message: `The version 2.0 of the MicroVM image ${arn} is FAILED: only a SUCCESSFUL version can be ACTIVE. Update the image to build another one.`,
    });
    const held = world.hold("buildTemplate:half");
    await begin();
    await held.reached;
    await expect(setStatus("1.0", "INACTIVE")).rejects.toMatchObject({
      kind: "conflict",
      message: "MicroVM Image is already in state: UPDATING",
    });
    held.release();
    await world.settled();
    for (const version of ["4.0", "0", "latest"])
      await expect(setStatus(version, "INACTIVE")).rejects.toMatchObject({
        kind: "not_found",
        message: `MicroVMImage not found for MicroVMImage: ${arn}, Version: ${version}`,
      });
  });

  test("a host that cannot be told now is told later, and a new server knows what is switched off", async () => {
    await world.image("demo");
    const [template] = [...world.machine.templates];
    world.machine.failNext("retireTemplate", new HostError("internal", "busy"));
    await setStatus("1.0", "INACTIVE");
    expect([...world.host.retired]).toEqual([]);
    await look();
    expect([...world.host.retired]).toEqual([template]);
    await world.crash();
    expect([...world.host.retired]).toEqual([template]);
  });

  test("a launch that has chosen a version which is switched off meanwhile chooses again", async () => {
    await world.image("demo");
    await update();
    const held = world.hold("store.transaction:before");
    const launching = run();
    await held.reached;
    await switchVersion("2.0", "INACTIVE");
    held.release();
    expect(await launching).toBe("1.0");
    const again = world.hold("store.transaction:before");
    const refused = run("1.0");
    await again.reached;
    await switchVersion("1.0", "INACTIVE");
    again.release();
    await expect(refused).rejects.toThrow("No active version found");
    await world.settled();
    expect(world.machine.launches).toHaveLength(1);
  });
});

describe("DeleteMicrovmImageVersion", () => {
  test("the image is UPDATING until nothing of the version is left, and its number is not given out again", async () => {
    await world.image("demo");
    await update();
    const held = world.hold("deleteTemplate:begin");
    expect(await deleteVersion("2")).toEqual({ imageIdentifier: arn, imageVersion: "2.0", state: "DELETING" });
    await held.reached;
    expect(await getImage()).toMatchObject({ state: "UPDATING", latestActiveImageVersion: "1.0" });
    expect(await getVersion("2.0")).toMatchObject({ state: "DELETING", status: "INACTIVE" });
    expect((await deleteVersion("2.0")).state).toBe("DELETING");
    await expect(deleteVersion("1.0")).rejects.toMatchObject({
      kind: "conflict",
      message: "MicroVM Image is already in state: UPDATING",
    });
    await expect(deleteImage()).rejects.toMatchObject({
      kind: "invalid_input",
      message: `Cannot delete MicroVM image in its current state: ${arn}`,
    });
    expect(await run()).toBe("1.0");
    held.release();
    await world.settled();
    expect(await getImage()).toMatchObject({ state: "UPDATED", latestActiveImageVersion: "1.0" });
    await expect(getVersion("2.0")).rejects.toMatchObject({
      kind: "not_found",
      message: `MicroVMImage not found for MicroVMImage: ${arn}, Version: 2.0`,
    });
    expect([...world.machine.templates]).toEqual([world.machine.builds[0]?.templateId]);
    expect(await deleteVersion("2.0")).toEqual({ imageIdentifier: arn, imageVersion: "2.0", state: "DELETED" });
    expect(await update()).toBe("3.0");
  });

  test("a failed version goes like any other, and the last one stays", async () => {
    await world.image("demo");
    await failingUpdate();
    await deleteVersion("2.0");
    await world.settled();
    expect(await getImage()).toMatchObject({ state: "UPDATED", latestFailedImageVersion: null });
    await expect(deleteVersion("1.0")).rejects.toMatchObject({
      kind: "invalid_input",
      message: "This is the last version. Please delete the entire image",
    });
    for (const version of ["3.0", "0", "x"])
      await expect(deleteVersion(version)).rejects.toMatchObject({
        kind: "not_found",
        message: `MicroVMImage not found for MicroVMImage: ${arn}, Version: ${version}`,
      });
  });

  test("is refused while a microvm of it lives, whatever those of other versions do", async () => {
    await world.image("demo");
    await update();
    await world.running(arn, { imageVersion: "2.0" });
    const id = await world.running(arn, { imageVersion: "1.0" });
    await world.operations.SuspendMicrovm({ microvmIdentifier: id }, context());
    await world.settled();
    const refusal = {
      kind: "invalid_input",
      message: "Cannot delete microvm image version with running microvms.",
    };
    await expect(deleteVersion("1.0")).rejects.toMatchObject(refusal);
    expect((await getImage()).state).toBe("UPDATED");
    const held = world.hold("terminate:begin");
    await world.operations.TerminateMicrovm({ microvmIdentifier: id }, context());
    await held.reached;
    expect(await world.state(id)).toBe("TERMINATING");
    await expect(deleteVersion("1.0")).rejects.toMatchObject(refusal);
    held.release();
    await world.settled();
    await deleteVersion("1.0");
    await world.settled();
    await expect(getVersion("1.0")).rejects.toMatchObject({ kind: "not_found" });
  });

  test("the token that made the version is forgotten with it", async () => {
    await world.image("demo");
    await begin({ clientToken: "t" });
    await world.settled();
    await deleteVersion("2.0");
    await world.settled();
    expect((await begin({ clientToken: "t" })).imageVersion).toBe("3.0");
  });
});

describe("DeleteMicrovmImage", () => {
  test("the image is there, and its name taken, until nothing of it is left", async () => {
    await world.image("demo", { clientToken: "t" });
    await update();
    const held = world.hold("deleteTemplate:begin");
    expect(await deleteImage()).toEqual({ imageIdentifier: arn, state: "DELETING" });
    await held.reached;
    expect((await getImage()).state).toBe("DELETING");
    const { items } = await world.operations.ListMicrovmImages({}, context());
    expect(items).toEqual([expect.objectContaining({ name: "demo", state: "DELETING" })]);
    await expect(run()).rejects.toThrow("No active version found");
    expect(await deleteImage()).toEqual({ imageIdentifier: arn, state: "DELETING" });
    await expect(world.image("demo")).rejects.toThrow("already exists");
    await expect(setStatus("1.0", "INACTIVE")).rejects.toThrow("MicroVM Image is already in state: DELETING");
    held.release();
    await world.settled();
    const gone = { kind: "not_found", message: `MicroVMImage not found for MicroVMImageID: ${arn}` };
    await expect(getImage()).rejects.toMatchObject(gone);
    await expect(world.operations.ListMicrovmImageVersions({ imageIdentifier: arn }, context())).rejects.toMatchObject(
      gone,
    );
    await expect(deleteVersion("1.0")).rejects.toMatchObject({ kind: "not_found" });
    expect(await world.operations.ListMicrovmImages({}, context())).toEqual({ items: [], nextToken: null });
    expect(world.machine.templates.size).toBe(0);
    expect(await deleteImage()).toEqual({ imageIdentifier: arn, state: "DELETED" });
  });

  test("afterwards the name and the token that made it are free: the same request makes it anew", async () => {
    await world.image("demo", { clientToken: "t" });
    await update();
    await deleteImage();
    await world.settled();
    await world.image("demo", { clientToken: "t" });
    expect(await getImage()).toMatchObject({
      state: "CREATED",
      latestActiveImageVersion: "1.0",
      latestFailedImageVersion: null,
    });
    expect(await run()).toBe("1.0");
  });

  test.each(["CREATING", "UPDATING"])("is refused while it is %s", async (state) => {
    if (state === "UPDATING") await world.image("demo");
    const held = world.hold("buildTemplate:half");
    const going = state === "UPDATING" ? update() : world.image("demo");
    await held.reached;
    expect((await getImage()).state).toBe(state);
    await expect(deleteImage()).rejects.toMatchObject({
      kind: "invalid_input",
      message: `Cannot delete MicroVM image in its current state: ${arn}`,
    });
    held.release();
    await going;
    await deleteImage();
    await world.settled();
    await expect(getImage()).rejects.toMatchObject({ kind: "not_found" });
  });

  test("is refused while a microvm of any version lives, one that is ending included", async () => {
    await world.image("demo");
    const id = await world.running(arn);
    await update();
    const refusal = { kind: "invalid_input", message: "Cannot delete microvm image with running microvms." };
    await expect(deleteImage()).rejects.toMatchObject(refusal);
    const held = world.hold("terminate:begin");
    await world.operations.TerminateMicrovm({ microvmIdentifier: id }, context());
    await held.reached;
    await expect(deleteImage()).rejects.toMatchObject(refusal);
    held.release();
    await world.settled();
    await deleteImage();
    await world.settled();
    await expect(getImage()).rejects.toMatchObject({ kind: "not_found" });
    expect(await world.state(id)).toBe("TERMINATED"); // and can still be asked for
    expect(world.machine.violations).toEqual([]);
  });

  test("a failed image goes too", async () => {
    world.machine.failNext("buildTemplate", new BuildError("ARCHIVE_INVALID", "no zip"));
    await world.image("demo");
    await deleteImage();
    await world.settled();
    await expect(getImage()).rejects.toMatchObject({ kind: "not_found" });
  });

  test("what was never there, is malformed or another's is refused", async () => {
    await expect(deleteImage()).rejects.toMatchObject({
      kind: "not_found",
      message: `MicroVMImage not found for MicroVMImageID: ${arn}`,
    });
    await expect(deleteImage("demo")).rejects.toThrow("Invalid ARN format: demo");
    await expect(deleteImage(BASE_IMAGE)).rejects.toMatchObject({ kind: "not_found" });
    await expect(deleteImage(imageArn("demo", OTHER_ACCOUNT))).rejects.toMatchObject({ kind: "denied" });
  });

  test("a launch and a deletion that meet: one of them is refused, and nothing is launched from what is gone", async () => {
    await world.image("demo");
    const held = world.hold("store.transaction:before");
    const launching = run();
    await held.reached;
    await deleteImage();
    held.release();
    await expect(launching).rejects.toThrow(`No active version found for MicroVM image ${arn}`);
    await world.settled();
    expect([world.machine.instances.size, world.machine.templates.size]).toEqual([0, 0]);
    expect(world.machine.violations).toEqual([]);
  });

  test("a host that cannot remove a template now is asked again", async () => {
    await world.image("demo");
    world.machine.failNext("deleteTemplate", new HostError("internal", "busy"));
    await deleteImage();
    await world.settled();
    expect((await getImage()).state).toBe("DELETING");
    await look();
    await expect(getImage()).rejects.toMatchObject({ kind: "not_found" });
    expect(world.machine.templates.size).toBe(0);
  });
});

describe("a template outlives its version", () => {
  test("as long as a checkpoint or a fork of it needs it, and not longer", async () => {
    await world.image("demo");
    const { checkpoints } = world.control.extensions;
    const id = await world.running(arn);
    const { checkpointId } = await checkpoints.create(context(), id, null);
    await end(id);
    await deleteImage();
    await world.settled();
    await expect(getImage()).rejects.toMatchObject({ kind: "not_found" });
    const [template] = [...world.machine.templates];
    expect([...world.host.retired]).toEqual([template]);

    await world.crash(); // a new server has to find that out
    const { items } = await world.control.extensions.checkpoints.forkCheckpoint(context(), checkpointId, {});
    const fork = items[0]?.microvmId ?? "";
    await world.settled();
    await world.control.extensions.checkpoints.delete(context(), checkpointId);
    await look();
    await world.operations.SuspendMicrovm({ microvmIdentifier: fork }, context());
    await world.settled();
    await world.operations.ResumeMicrovm({ microvmIdentifier: fork }, context());
    expect(await world.state(fork)).toBe("RUNNING");
    expect(world.machine.templates).toContain(template);
    await end(fork);
    await look();
    expect(world.machine.templates.size).toBe(0);
    expect(world.machine.violations).toEqual([]);
  });
});

test("the reconciler removes a template that nothing needs, and leaves the others alone", async () => {
  await world.image("demo");
  const [template] = [...world.machine.templates];
  world.machine.templates.add("stray");
  await look();
  expect([...world.machine.templates]).toEqual([template]);
  expect(world.machine.calls).toEqual([]);
});

describe("the catalogue of base images", () => {
  test("lists what can be built on, newest version first, in bare numbers", async () => {
    const { guestMadeAt } = world.host.facts;
    expect(await world.operations.ListManagedMicrovmImages({}, context())).toEqual({
      items: [{ imageArn: BASE_IMAGE, createdAt: guestMadeAt, updatedAt: null }],
      nextToken: null,
    });
    const version = { imageArn: BASE_IMAGE, status: "AVAILABLE", createdAt: guestMadeAt, updatedAt: null };
    const list = (nextToken?: string | null) =>
      world.operations.ListManagedMicrovmImageVersions(
        { imageIdentifier: BASE_IMAGE, maxResults: 1, ...(nextToken && { nextToken }) },
        context(),
      );
    const first = await list();
    expect(first.items).toEqual([{ ...version, imageVersion: "1" }]);
    expect(await list(first.nextToken)).toEqual({ items: [{ ...version, imageVersion: "0" }], nextToken: null });
    for (const imageVersion of first.items.map((item) => item.imageVersion))
      await world.image(`on-${imageVersion}`, { baseImageVersion: imageVersion });
  });

  test.each([
    ["al2023-1", "invalid_input"],
    [`${BASE_IMAGE}0`, "not_found"],
    [BASE_IMAGE.replace("us-east-1", "eu-west-1"), "not_found"],
    [imageArn("demo"), "not_found"],
    [imageArn("demo", OTHER_ACCOUNT), "denied"],
  ])("knows no versions of %s", async (imageIdentifier, kind) => {
    await world.image("demo");
    await expect(
      world.operations.ListManagedMicrovmImageVersions({ imageIdentifier }, context()),
    ).rejects.toMatchObject({ kind });
  });
});
