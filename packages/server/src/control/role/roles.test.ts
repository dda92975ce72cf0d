import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { context, World, type WorldOptions } from "../testing/world.ts";
import { readRoleFile } from "./role-file.ts";

const ROLE = "arn:aws:iam::000000000000:role/agent";
const OTHER = "arn:aws:iam::000000000000:role/unknown";
const IDLE = { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 86_400, autoResumeEnabled: true };
const MINUTES = 60_000;

let folder: string;
let roleFile: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "torpor-roles-"));
  roleFile = join(folder, "roles.toml");
  const command = join(folder, "credentials");
  // A program as an operator has it; what it prints lies in a file, so that a test can change it.
  await writeFile(command, `#!/bin/sh\necho call >> ${folder}/calls\nexec cat ${folder}/printed\n`);
  await chmod(command, 0o755);
  await writeFile(roleFile, `["${ROLE}"]\ncommand = ["${command}"]\n`);
});
afterEach(() => rm(folder, { recursive: true }));

const calls = async (): Promise<number> =>
  (await readFile(join(folder, "calls"), "utf8").catch(() => "")).split("\n").length - 1;
async function prints(world: World, key: string, minutes = 60): Promise<void> {
  const printed = {
    Version: 1,
    AccessKeyId: key,
    SecretAccessKey: "secret",
    SessionToken: "session",
    Expiration: new Date(world.clock.now() + minutes * MINUTES).toISOString(),
  };
  await writeFile(join(folder, "printed"), JSON.stringify(printed));
}
async function create(options: WorldOptions = {}): Promise<{ world: World; image: string }> {
  const world = await World.create({ roleFile, ...options });
  await prints(world, "FIRST");
  return { world, image: await world.image("demo") };
}
const told = (world: World, id: string): { AccessKeyId?: string } | undefined => {
  const document = world.machine.instances.get(id)?.credentials;
  return document ? JSON.parse(document) : undefined;
};
const reason = async (world: World, id: string): Promise<string | null | undefined> =>
  (await world.operations.GetMicrovm({ microvmIdentifier: id }, context())).stateReason;

describe("a microvm with an execution role", () => {
  test("has its credentials when it runs, in the form that SDKs read", async () => {
    const { world, image } = await create();
    const id = await world.running(image, { executionRoleArn: ROLE });
    expect(told(world, id)).toEqual({
      Code: "Success",
      LastUpdated: new Date(world.clock.now()).toISOString().replace(/\.\d+Z/, "Z"),
      Type: "AWS-HMAC",
      AccessKeyId: "FIRST",
      SecretAccessKey: "secret",
      Token: "session",
      Expiration: new Date(world.clock.now() + 60 * MINUTES).toISOString().replace(/\.\d+Z/, "Z"),
    });
    expect(await reason(world, id)).toBeNull();
  });

  test("shares them with the others of the role, and one without has none", async () => {
    const { world, image } = await create();
    const ids = await Promise.all([1, 2, 3].map(() => world.running(image, { executionRoleArn: ROLE })));
    expect(await calls()).toBe(1);
    for (const id of ids) expect(told(world, id)?.AccessKeyId).toBe("FIRST");
    expect(world.machine.instances.get(await world.running(image))?.credentials).toBeUndefined();
  });

  test("gets new ones before they expire, also after a restart of the server", async () => {
    const { world, image } = await create();
    const id = await world.running(image, { executionRoleArn: ROLE });
    await prints(world, "SECOND", 120);
    await world.clock.advance(40 * MINUTES);
    expect(told(world, id)?.AccessKeyId).toBe("FIRST");
    await world.clock.advance(11 * MINUTES);
    await vi.waitFor(() => expect(told(world, id)?.AccessKeyId).toBe("SECOND"));
    await prints(world, "THIRD", 180);
    await world.crash();
    await world.clock.advance(MINUTES);
    await vi.waitFor(() => expect(told(world, id)?.AccessKeyId).toBe("THIRD"));
  });

  test("that has slept for longer than they lived wakes with new ones", async () => {
    const { world, image } = await create();
    const id = await world.running(image, { executionRoleArn: ROLE, idlePolicy: IDLE });
    await world.operations.SuspendMicrovm({ microvmIdentifier: id }, context());
    await world.settled();
    await world.clock.advance(70 * MINUTES);
    await prints(world, "SECOND");
    await world.operations.ResumeMicrovm({ microvmIdentifier: id }, context());
    await world.settled();
    expect(told(world, id)?.AccessKeyId).toBe("SECOND");
  });

  test("runs without them while its command fails, and gets them when it works again", async () => {
    const { world, image } = await create();
    for (const nonsense of [
      "no JSON",
      "{}",
      JSON.stringify({ Version: 1, AccessKeyId: "STATIC", SecretAccessKey: "s" }),
    ]) {
      await writeFile(join(folder, "printed"), nonsense);
      const id = await world.running(image, { executionRoleArn: ROLE });
      expect(world.machine.instances.get(id)?.credentials).toBe("");
    }
    const id = await world.running(image, { executionRoleArn: ROLE });
    await prints(world, "WORKS");
    await world.clock.advance(11_000);
    await vi.waitFor(() => expect(told(world, id)?.AccessKeyId).toBe("WORKS"));
  });

  test("keeps valid ones when a renewal fails", async () => {
    const { world, image } = await create();
    await world.running(image, { executionRoleArn: ROLE });
    await writeFile(join(folder, "printed"), "broken");
    await world.clock.advance(55 * MINUTES);
    const id = await world.running(image, { executionRoleArn: ROLE });
    expect(told(world, id)?.AccessKeyId).toBe("FIRST");
  });
});

describe("a role that is not configured", () => {
  test("is no error, and the microvm's reason says that it has no credentials", async () => {
    const { world, image } = await create();
    const id = await world.running(image, { executionRoleArn: OTHER });
    expect(await reason(world, id)).toMatch(/role\/unknown is not in the role-file of this server/);
    expect(world.machine.instances.get(id)?.credentials).toBeUndefined();
  });

  test("leaves a fork nothing of its origin's", async () => {
    const { world, image } = await create();
    const origin = await world.running(image, { executionRoleArn: ROLE });
    const { items } = await world.control.extensions.checkpoints.forkMicrovm(context(), origin, {
      executionRoleArn: OTHER,
    });
    await world.settled();
    expect(world.machine.instances.get(items[0]!.microvmId)?.credentials).toBe("");
  });

  test("is refused by name when roles are strict, also for a build", async () => {
    const { world } = await create();
    const strict = await World.create({ roleFile, strictRoles: true });
    await expect(strict.image("demo", { buildRoleArn: OTHER })).rejects.toThrow(
      /role\/unknown is not in the role-file/,
    );
    const image = await strict.image("demo", { buildRoleArn: ROLE });
    const run = strict.operations.RunMicrovm({ imageIdentifier: image, executionRoleArn: OTHER }, context());
    await expect(run).rejects.toThrow(/role\/unknown is not in the role-file/);
    expect(world.machine.launches).toEqual([]);
  });
});

describe("a build", () => {
  test("has the credentials of its build role", async () => {
    const { world } = await create();
    await world.image("other", { buildRoleArn: ROLE });
    expect(world.machine.builds.at(-1)?.credentials).toMatch(/"AccessKeyId":"FIRST"/);
  });
});

describe("the role-file", () => {
  test.each([
    ["no TOML", "["],
    ["an entry that is no role", `["arn:aws:iam::1:user/x"]\ncommand = ["/bin/true"]`],
    ["no command", `["${ROLE}"]\n`],
    ["an empty command", `["${ROLE}"]\ncommand = []`],
    ["a command that is no list", `["${ROLE}"]\ncommand = "/bin/true"`],
    ["a program that the PATH would decide", `["${ROLE}"]\ncommand = ["aws"]`],
    ["what nobody knows", `["${ROLE}"]\ncommand = ["/bin/true"]\nregion = "x"`],
  ])("with %s is refused by name", async (_, text) => {
    await writeFile(roleFile, text);
    expect(() => readRoleFile(roleFile)).toThrow(roleFile);
  });

  test("that is not there is refused by name", () => {
    expect(() => readRoleFile(join(folder, "none"))).toThrow(/role-file .*none.*ENOENT/);
  });
});
