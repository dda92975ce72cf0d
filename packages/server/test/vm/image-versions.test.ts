import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  DeleteMicrovmImageCommand,
  DeleteMicrovmImageVersionCommand,
  GetMicrovmCommand,
  GetMicrovmImageCommand,
  GetMicrovmImageVersionCommand,
  ListMicrovmImageBuildsCommand,
  ListMicrovmImageVersionsCommand,
  ResumeMicrovmCommand,
  UpdateMicrovmImageCommand,
  UpdateMicrovmImageVersionCommand,
} from "@aws-sdk/client-lambda-microvms";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, BASE_ARN, buildImage, HELLO, RunningMicrovm, suspend, terminate } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";

let server: TestServer;
let image: string;
beforeAll(async () => {
  server = await TestServer.start({ "pool-size": "1", "standby-seconds": "0", "warm-memory-mib": "1024" });
  image = await buildImage(server, "hello", HELLO);
});
afterAll(() => server?.[Symbol.asyncDispose]());

async function templateOf(imageVersion: string): Promise<string> {
  const { items } = await server.api.send(new ListMicrovmImageBuildsCommand({ imageIdentifier: image, imageVersion }));
  return items!.find(({ buildState }) => buildState === "SUCCESSFUL")!.buildId!;
}

/** VMMs that are kept ready for a template. */
async function readyFor(template: string): Promise<number> {
  let count = 0;
  for (const id of await server.vmms()) {
    if (!id.startsWith("vmm-")) continue; // a microvm has it
    const record = await readFile(join(server.dataDir, "vmms", id, "vmm.json"), "utf8").catch(() => "");
    if (record.includes(`/templates/${template}/`)) count++;
  }
  return count;
}

/** Until the image is neither CREATING, UPDATING nor DELETING: its state, or undefined when it is gone. */
async function settled(): Promise<string | undefined> {
  const state = await eventually("the image settled", async () => {
    try {
      const found = await server.api.send(new GetMicrovmImageCommand({ imageIdentifier: image }));
      return found.state!.endsWith("ING") ? undefined : found.state!;
    } catch (err) {
      if ((err as Error).name === "ResourceNotFoundException") return "gone";
      throw err;
    }
  });
  return state === "gone" ? undefined : state;
}

const templates = (): Promise<string[]> => readdir(join(server.dataDir, "templates"));
const switchVersion = (imageVersion: string, status: "ACTIVE" | "INACTIVE") =>
  server.api.send(new UpdateMicrovmImageVersionCommand({ imageIdentifier: image, imageVersion, status }));
const versionOf = async ({ id }: RunningMicrovm): Promise<string> =>
  (await server.api.send(new GetMicrovmCommand({ microvmIdentifier: id }))).imageVersion!;

test("a new version is launched while the old one's microvms go on; an old one is switched off and goes", async () => {
  const first = await templateOf("1.0");
  await eventually("a pool of 1.0", async () => ((await readyFor(first)) >= 2 ? true : undefined));
  const old = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  expect(await old.hello()).toMatchObject({ memory: 1 });

  const { codeArtifact } = await server.api.send(
    new GetMicrovmImageVersionCommand({ imageIdentifier: image, imageVersion: "1.0" }),
  );
  const updated = await server.api.send(
    new UpdateMicrovmImageCommand({
      imageIdentifier: image,
      baseImageArn: BASE_ARN,
      buildRoleArn: `arn:aws:iam::${server.credentials.accountId}:role/build`,
      codeArtifact,
      resources: [{ minimumMemoryInMiB: 512 }],
    }),
  );
  expect(updated).toMatchObject({ state: "UPDATING", imageVersion: "2.0", latestActiveImageVersion: "1.0" });
  expect(await old.hello()).toMatchObject({ memory: 2 });
  expect(await settled()).toBe("UPDATED");
  const second = await templateOf("2.0");
  const young = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  expect([await versionOf(old), await versionOf(young)]).toEqual(["1.0", "2.0"]);
  expect(await young.hello()).toMatchObject({ memory: 1 });

  await switchVersion("1.0", "INACTIVE");
  await eventually("nothing ready for 1.0", async () => ((await readyFor(first)) === 0 ? true : undefined));
  await eventually("a pool of 2.0", async () => ((await readyFor(second)) >= 2 ? true : undefined));
  await suspend(server, old);
  await server.api.send(new ResumeMicrovmCommand({ microvmIdentifier: old.id }));
  expect(await old.hello()).toMatchObject({ memory: 3 });

  await server.kill(); // a new server finds out what is switched off
  await server.start();
  await suspend(server, old);
  expect(await old.hello()).toMatchObject({ memory: 4 }); // the request wakes it
  await eventually("a pool of 2.0 again", async () => {
    const another = await RunningMicrovm.run(server, image);
    expect(await versionOf(another)).toBe("2.0");
    await terminate(server, another);
    return (await readyFor(second)) >= 2 ? true : undefined;
  });
  expect(await readyFor(first)).toBe(0);

  const deletion = new DeleteMicrovmImageVersionCommand({ imageIdentifier: image, imageVersion: "1.0" });
  await expect(server.api.send(deletion)).rejects.toThrow("Cannot delete microvm image version with running microvms.");
  await terminate(server, old);
  expect((await server.api.send(deletion)).state).toBe("DELETING");
  expect(await settled()).toBe("UPDATED");
  expect(await templates()).toEqual([second]);
  const { items } = await server.api.send(new ListMicrovmImageVersionsCommand({ imageIdentifier: image }));
  expect(items!.map(({ imageVersion }) => imageVersion)).toEqual(["2.0"]);

  const end = new DeleteMicrovmImageCommand({ imageIdentifier: image });
  await expect(server.api.send(end)).rejects.toThrow("Cannot delete microvm image with running microvms.");
  await terminate(server, young);
  expect((await server.api.send(end)).state).toBe("DELETING");
  expect(await settled()).toBeUndefined();
  expect(await templates()).toEqual([]);
  await eventually("no VMM left", async () => ((await server.vmms()).length === 0 ? true : undefined));
  expect((await server.api.send(end)).state).toBe("DELETED");
});
