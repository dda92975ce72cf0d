import { describe, expect, test } from "vitest";
import { TorporError } from "../../lib/errors.ts";
import { ACCOUNT, connectorArn, context, World, type WorldOptions } from "../testing/world.ts";
import { type Access, parsePolicy } from "./policy.ts";

const OTHER = "111111111111";
const ALLOW = { Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "lambda:Get*", Resource: "*" }] };
const DAY = 86_400_000;

async function setUp(options: WorldOptions = {}) {
  const world = await World.create(options);
  const { extensions, keys } = world.control;
  const root = await keys.rootKey(ACCOUNT);
  await world.clock.advance(1);
  return { world, keys: extensions.keys, accounts: extensions.accounts, found: keys, root };
}
const refused = (kind: string, message: RegExp) =>
  expect.toSatisfy(
    (err) => err instanceof TorporError && err.kind === kind && message.test(err.message),
    `${kind}: ${message}`,
  );

describe("an access key", () => {
  test("has its secret in the answer that makes it, and never again", async () => {
    const { world, keys, found } = await setUp();
    const expiresAt = new Date(world.clock.now() + DAY);
    const made = await keys.create(context(), { name: "ci", policy: ALLOW, expiresAt });
    const { secretAccessKey, ...view } = made;
    expect(view).toEqual({
      accessKeyId: expect.stringMatching(/^AKIA[A-Z2-7]{16}$/),
      accountId: ACCOUNT,
      name: "ci",
      principalArn: `arn:aws:iam::${ACCOUNT}:user/ci`,
      status: "ACTIVE",
      access: "policy",
      createdAt: new Date(world.clock.now()).toISOString(),
      expiresAt: expiresAt.toISOString(),
      lastUsedAt: null,
    });
    expect(await found.find(made.accessKeyId)).toMatchObject({
      secretAccessKey,
      access: parsePolicy(ALLOW),
      expiresAt,
    });
    expect(await keys.list(context(), undefined)).toEqual([
      expect.objectContaining({ name: "root", access: "full" }),
      view,
    ]);
    expect(await keys.policy(context(), made.accessKeyId)).toEqual(ALLOW);
  });

  test("is used, disabled, enabled, expires and is deleted", async () => {
    const { world, keys, found } = await setUp();
    const { accessKeyId } = await keys.create(context(), { name: "ci" });
    const view = async () => (await keys.list(context(), undefined)).find((key) => key.accessKeyId === accessKeyId);
    found.used(accessKeyId);
    expect(await view()).toMatchObject({ lastUsedAt: new Date(world.clock.now()).toISOString(), expiresAt: null });
    expect(await keys.update(context(), accessKeyId, { enabled: false })).toMatchObject({ status: "DISABLED" });
    expect(await found.find(accessKeyId)).toBeUndefined();
    const expiresAt = new Date(world.clock.now() + 1000);
    expect(await keys.update(context(), accessKeyId, { enabled: true, expiresAt })).toMatchObject({ status: "ACTIVE" });
    await world.clock.advance(1000);
    expect(await view()).toMatchObject({ status: "EXPIRED" });
    expect(await keys.update(context(), accessKeyId, { expiresAt: null })).toMatchObject({
      status: "ACTIVE",
      expiresAt: null,
    });
    await keys.delete(context(), accessKeyId);
    expect(await view()).toBeUndefined();
    await expect(keys.delete(context(), accessKeyId)).rejects.toEqual(refused("not_found", /Access key not found/));
  });

  test("gets a policy, another one, and none", async () => {
    const { keys, found } = await setUp();
    const { accessKeyId } = await keys.create(context(), { name: "ci" });
    const access = async (): Promise<Access | undefined> => (await found.find(accessKeyId))?.access;
    expect([await access(), await keys.policy(context(), accessKeyId)]).toEqual(["full", null]);
    await keys.putPolicy(context(), accessKeyId, ALLOW);
    expect(await access()).toEqual(parsePolicy(ALLOW));
    const bad = { ...ALLOW, Statement: [{ ...ALLOW.Statement[0], Condition: {} }] };
    await expect(keys.putPolicy(context(), accessKeyId, bad)).rejects.toEqual(
      refused("invalid_input", /Condition is not supported/),
    );
    await expect(keys.create(context(), { name: "no", policy: bad })).rejects.toEqual(
      refused("invalid_input", /Condition/),
    );
    expect(await access()).toEqual(parsePolicy(ALLOW));
    await keys.putPolicy(context(), accessKeyId, null);
    expect(await access()).toBe("full");
  });

  test("is rotated: both work until the old one is told to go", async () => {
    const { world, keys, found } = await setUp();
    const expiresAt = new Date(world.clock.now() + 10 * DAY);
    const old = await keys.create(context(), { name: "ci", policy: ALLOW, expiresAt });
    await world.clock.advance(DAY);
    const fresh = await keys.rotate(context(), old.accessKeyId);
    expect(fresh).toMatchObject({ name: "ci", access: "policy", principalArn: old.principalArn });
    expect(fresh.expiresAt).toBe(new Date(world.clock.now() + 10 * DAY).toISOString());
    expect(fresh.accessKeyId).not.toBe(old.accessKeyId);
    expect(fresh.secretAccessKey).not.toBe(old.secretAccessKey);
    for (const key of [old, fresh])
      expect((await found.find(key.accessKeyId))?.secretAccessKey).toBe(key.secretAccessKey);
    await expect(keys.rotate(context(), old.accessKeyId)).rejects.toEqual(
      refused("conflict", /another key already: AKIA\w+\. Delete/),
    );
    await keys.delete(context(), old.accessKeyId);
    await keys.rotate(context(), fresh.accessKeyId);
  });

  test.each([
    ["the name of another", { name: "ci" }, "conflict", /a key named ci already/],
    ["the name root", { name: "root" }, "invalid_input", /root/],
    ["no name", { name: "" }, "invalid_input", /1 to 64 letters/],
    ["a name with a slash", { name: "a/b" }, "invalid_input", /"a\/b"/],
    ["a name with a wildcard", { name: "*" }, "invalid_input", /"\*"/],
    ["an end in the past", { name: "new", expiresAt: new Date(0) }, "invalid_input", /expired at 1970/],
    ["an account that is not there", { name: "new", accountId: OTHER }, "not_found", /Account not found/],
  ])("is not made with %s", async (_what, wish, kind, message) => {
    const { keys } = await setUp();
    await keys.create(context(), { name: "ci" });
    await expect(keys.create(context(), wish)).rejects.toEqual(refused(kind, message));
    expect((await keys.list(context(), undefined)).length).toBe(2);
  });
});

describe("the root key", () => {
  test("is rotated, and the new one is handed out at once; the old one is valid until it is deleted", async () => {
    const { keys, found, root } = await setUp();
    const published: string[] = [];
    await found.publishRootKey(ACCOUNT, async ({ accessKeyId }) => void published.push(accessKeyId));
    const fresh = await keys.rotate(context(), root.accessKeyId);
    expect(fresh).toMatchObject({ name: "root", principalArn: `arn:aws:iam::${ACCOUNT}:root`, access: "full" });
    expect([...new Set(published)]).toEqual([root.accessKeyId, fresh.accessKeyId]);
    expect(await found.find(root.accessKeyId)).toEqual(root);
    await keys.delete(context(), root.accessKeyId);
    expect(await found.find(root.accessKeyId)).toBeUndefined();
    expect(published.at(-1)).toBe(fresh.accessKeyId);
  });

  test("is never the last one that goes, and has no policy", async () => {
    const { world, keys, root } = await setUp();
    const last = refused("conflict", /only root key of the account 000000000000/);
    await expect(keys.delete(context(), root.accessKeyId)).rejects.toEqual(last);
    await expect(keys.update(context(), root.accessKeyId, { enabled: false })).rejects.toEqual(last);
    const expiresAt = new Date(world.clock.now() + DAY);
    await expect(keys.update(context(), root.accessKeyId, { expiresAt })).rejects.toEqual(last);
    await expect(keys.putPolicy(context(), root.accessKeyId, ALLOW)).rejects.toEqual(
      refused("invalid_input", /A root key may do everything/),
    );
    const fresh = await keys.rotate(context(), root.accessKeyId);
    await keys.update(context(), root.accessKeyId, { enabled: false });
    await expect(keys.delete(context(), fresh.accessKeyId)).rejects.toEqual(refused("conflict", /only root key/));
  });
});

describe("an account", () => {
  test("is made with a root key, and is looked after by the server's account alone", async () => {
    const { world, keys, accounts, found } = await setUp();
    const made = await accounts.create(context(), { accountId: OTHER, name: "team b" });
    expect(made).toMatchObject({ accountId: OTHER, name: "team b", enabled: true, server: false });
    expect(await found.find(made.rootKey.accessKeyId)).toMatchObject({
      accountId: OTHER,
      principalArn: `arn:aws:iam::${OTHER}:root`,
      secretAccessKey: made.rootKey.secretAccessKey,
    });
    expect((await accounts.list(context())).map(({ accountId, server }) => [accountId, server])).toEqual([
      [ACCOUNT, true],
      [OTHER, false],
    ]);
    await expect(accounts.create(context(), { accountId: OTHER })).rejects.toEqual(
      refused("conflict", /There is an account/),
    );
    const stranger = context(OTHER);
    for (const attempt of [
      () => accounts.create(stranger, {}),
      () => accounts.list(stranger),
      () => accounts.update(stranger, OTHER, false),
    ])
      await expect(attempt()).rejects.toEqual(
        refused("denied", /User: arn:aws:iam::111111111111:root is not authorized/),
      );
    await world.clock.advance(1);
    const lent = await keys.create(context(), { accountId: OTHER, name: "lent" });
    expect((await keys.list(stranger, undefined)).map(({ name }) => name)).toEqual(["root", "lent"]);
    await keys.delete(stranger, lent.accessKeyId);
  });

  test("has an id of twelve digits when nobody says which", async () => {
    const { accounts } = await setUp();
    expect((await accounts.create(context(), {})).accountId).toMatch(/^[1-9]\d{11}$/);
  });

  test("whose keys are refused has none, until it is enabled again; the server's own stays", async () => {
    const { accounts, found } = await setUp();
    const { rootKey } = await accounts.create(context(), { accountId: OTHER });
    expect(await accounts.update(context(), OTHER, false)).toMatchObject({ enabled: false });
    expect(await found.find(rootKey.accessKeyId)).toBeUndefined();
    await accounts.update(context(), OTHER, true);
    expect(await found.find(rootKey.accessKeyId)).toBeDefined();
    await expect(accounts.update(context(), ACCOUNT, false)).rejects.toEqual(refused("invalid_input", /server's own/));
    await expect(accounts.update(context(), "222222222222", false)).rejects.toEqual(
      refused("not_found", /222222222222/),
    );
  });
});

describe("while microvms are emulated", () => {
  test("there is one account, unless the operator says otherwise", async () => {
    const { accounts } = await setUp({ allowEmulatedAccounts: false });
    await expect(accounts.create(context(), { accountId: OTHER })).rejects.toEqual(
      refused("conflict", /no security boundary.+allow-emulated-accounts/),
    );
    expect((await accounts.list(context())).length).toBe(1);
  });

  test("a server with several does not start, and says what to do", async () => {
    const { world, accounts } = await setUp();
    await accounts.create(context(), { accountId: OTHER });
    world.reconfigure({ allowEmulatedAccounts: false });
    await expect(world.restart()).rejects.toEqual(
      refused(
        "unavailable",
        /accounts 000000000000, 111111111111 are enabled.+allow-emulated-accounts.+torpor account disable/,
      ),
    );
    world.reconfigure({ allowEmulatedAccounts: true });
    await world.restart();
    await world.control.extensions.accounts.update(context(), OTHER, false);
    world.reconfigure({ allowEmulatedAccounts: false });
    await world.restart();
    await expect(world.control.extensions.accounts.update(context(), OTHER, true)).rejects.toEqual(
      refused("conflict", /emulated/),
    );
  });
});

describe("what is inherited needs permission too", () => {
  const limited = (...actions: string[]) => ({
    ...context(),
    access: parsePolicy({ Version: "2012-10-17", Statement: { Effect: "Allow", Action: actions, Resource: "*" } }),
  });
  const withoutConnectors = limited("lambda:RunMicrovm", "iam:PassRole");
  const withoutRole = limited("lambda:PassNetworkConnector");
  const ROLE = `arn:aws:iam::${ACCOUNT}:role/run`;

  test("the connector of an image", async () => {
    const { world } = await setUp();
    const image = await world.image("demo");
    await expect(world.operations.RunMicrovm({ imageIdentifier: image }, withoutConnectors)).rejects.toEqual(
      refused("denied", new RegExp(`lambda:PassNetworkConnector on resource: ${connectorArn("INTERNET_EGRESS")}`)),
    );
    await world.operations.RunMicrovm({ imageIdentifier: image }, limited("lambda:*"));
  });

  test("the connectors and the role of what is forked", async () => {
    const { world } = await setUp();
    const id = await world.running(await world.image("demo"), { executionRoleArn: ROLE });
    const { checkpoints } = world.control.extensions;
    const { checkpointId } = await checkpoints.create(context(), id, null);
    for (const fork of [
      (who: typeof withoutRole) => checkpoints.forkMicrovm(who, id, {}),
      (who: typeof withoutRole) => checkpoints.forkCheckpoint(who, checkpointId, {}),
    ]) {
      await expect(fork(withoutRole)).rejects.toEqual(
        refused("denied", new RegExp(`iam:PassRole on resource: ${ROLE}`)),
      );
      await expect(fork(withoutConnectors)).rejects.toEqual(refused("denied", /lambda:PassNetworkConnector/));
      await fork(limited("iam:PassRole", "lambda:Pass*"));
    }
  });
});
