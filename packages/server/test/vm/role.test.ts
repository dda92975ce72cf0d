import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, buildImage, RunningMicrovm, suspend, terminate } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";
import { ask, WORKLOAD } from "./workload.ts";

const ROLE = "arn:aws:iam::000000000000:role/agent";

let folder: string;
let server: TestServer;
let image: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "torpor-role-"));
  const roleFile = join(folder, "roles.toml");
  await writeFile(roleFile, `["${ROLE}"]\ncommand = ["/bin/cat", "${join(folder, "printed")}"]\n`);
  await prints("BUILD", 3600);
  // Of both kinds: a clone that has been primed as nobody, and one that has just been restored.
  server = await TestServer.start({ "role-file": roleFile, "pool-size": "1" });
  image = await buildImage(server, "workload", WORKLOAD);
});
afterAll(async () => {
  await server?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

/** @returns when they expire */
async function prints(key: string, seconds: number): Promise<number> {
  const expires = Date.now() + seconds * 1000;
  const Expiration = new Date(expires).toISOString();
  const printed = { Version: 1, AccessKeyId: key, SecretAccessKey: "secret", SessionToken: "session", Expiration };
  await writeFile(join(folder, "printed"), JSON.stringify(printed));
  return expires;
}

interface Found {
  readonly withoutToken: string | number;
  readonly role: string | number;
  readonly document: string | number;
}

test("programs find the role's credentials where SDKs look for them, and new ones after a sleep", async () => {
  const expired = await prints("FIRST", 6);
  const vm = await RunningMicrovm.run(server, image, { executionRoleArn: ROLE, ...AWAKE_ON_REQUEST });
  const first = await ask<Found>(vm, "/credentials");
  expect(first).toMatchObject({ withoutToken: 401, role: "execution_role" });
  expect(JSON.parse(String(first.document))).toMatchObject({ Code: "Success", AccessKeyId: "FIRST", Token: "session" });
  // Whoever may talk to the microvm's ports does not get at them.
  expect((await vm.get("/latest/meta-data/", 4698)).status).toBe(502);

  await suspend(server, vm);
  await prints("SECOND", 3600);
  await eventually("the first ones to expire", async () => (Date.now() > expired ? true : undefined));
  const second = await ask<Found>(vm, "/credentials");
  expect(JSON.parse(String(second.document))).toMatchObject({ AccessKeyId: "SECOND" });
  await terminate(server, vm);
});

test("without a role there are none, and nobody waits for the answer", async () => {
  const vm = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
  expect(await ask<Found>(vm, "/credentials")).toMatchObject({ withoutToken: 401, role: 404 });
  await terminate(server, vm);
});
