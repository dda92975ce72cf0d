import { describe, expect, test } from "vitest";
import { AuditTrail } from "../control/audit/trail.ts";
import type { AccessKey } from "../control/request-context.ts";
import { ACCOUNT, context, World } from "../control/testing/world.ts";
import { createLog } from "../lib/log.ts";
import { temporaryFolder } from "../store/testing.ts";
import { startApi, type TestApi } from "./api.fixture.ts";
import { EVERY_OPERATION, type EveryOperation, type Named } from "./every-operation.fixture.ts";

/** Two accounts on one server: what the one asks for by the other's names, in every operation that there is. */

const OTHER = "999999999999";
const ABSENT: Named = {
  imageArn: `arn:aws:lambda:us-east-1:${ACCOUNT}:microvm-image:absent`,
  buildId: "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
  microvmId: "microvm-aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
  checkpointId: "checkpoint-aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
  accessKeyId: "AKIAABSENTABSENTABSE",
  connectorId: "nc-aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
  accountId: ACCOUNT,
};

async function setUp() {
  const trail = await AuditTrail.open({
    folder: await temporaryFolder(),
    maxFileBytes: 1 << 20,
    maxFiles: 2,
    log: createLog("silent"),
  });
  const world = await World.create({ trail });
  const { keys, extensions } = world.control;
  const api = await startApi({ control: world.control, audit: trail, clock: world.clock });
  const owner = await keys.rootKey(ACCOUNT);
  const imageArn = await world.image("demo");
  const microvmId = await world.running(imageArn);
  const { checkpointId } = await extensions.checkpoints.create(context(), microvmId, "one");
  const { accessKeyId } = await extensions.keys.create(context(), { name: "ci" });
  const connector = await world.operations.CreateNetworkConnector(
    {
      Name: "net",
      ClientToken: "token",
      OperatorRole: `arn:aws:iam::${ACCOUNT}:role/some`,
      Configuration: {
        VpcEgressConfiguration: {
          SubnetIds: ["subnet-1"],
          NetworkProtocol: "IPv4",
          AssociatedComputeResourceTypes: ["MicroVm"],
        },
      },
    },
    context(),
  );
  const [build] = await world.store.images.builds(imageArn, 1);
  const owned: Named = {
    imageArn,
    microvmId,
    checkpointId,
    accessKeyId,
    connectorId: connector.Id,
    buildId: build?.id ?? "",
    accountId: ACCOUNT,
  };
  await extensions.accounts.create(context(), { accountId: OTHER });
  const stranger = await keys.rootKey(OTHER);
  return { world, api, owner, stranger, owned };
}

async function ask(api: TestApi, { request }: EveryOperation, named: Named, key: AccessKey) {
  const response = await api.send(request(named), { key });
  return { status: response.status, text: await response.text() };
}

const isLeft = (world: World) =>
  Promise.all([
    world.operations.ListMicrovmImages({}, context()),
    world.operations.ListMicrovms({}, context()),
    world.control.extensions.checkpoints.list(context(), undefined, {}),
    world.store.accessKeys.ofAccount(ACCOUNT),
    world.store.accounts.all(),
    world.store.networkConnectors.page({ accountId: ACCOUNT }, undefined, 50),
    world.machine.calls.length,
  ]);

describe("another account", () => {
  test.each(EVERY_OPERATION.map((operation) => [operation.action, operation] as const))(
    "%s tells nothing of what is not its own, and changes nothing",
    async (action, operation) => {
      const { world, api, owned, stranger } = await setUp();
      const before = await isLeft(world);
      const answer = await ask(api, operation, owned, stranger);
      const absent = await ask(api, operation, ABSENT, stranger);
      // But for the names that the request itself brought along, what exists looks like what does not.
      const blank = (text: string, names: Named): string =>
        Object.values(names).reduce((rest, name) => rest.replaceAll(name, "…"), text);
      expect({ ...answer, text: blank(answer.text, owned) }).toEqual({ ...absent, text: blank(absent.text, ABSENT) });
      const { kind } = operation.permission.on;
      const passes = operation.permission.passesRole !== undefined;
      if (kind === "any" || kind === "newImage" || kind === "newConnector") {
        if (passes)
          expect(answer.text).toContain("perform: iam:PassRole on resource: arn:aws:iam::000000000000:role/some");
        else expect(answer.status).toBe(200);
      } else if (kind === "arn" || kind === "server" || kind === "account" || kind === "newAccessKey") {
        expect(answer.status).toBe(403);
        expect(JSON.parse(answer.text).Message).toMatch(
          new RegExp(
            `^User: arn:aws:iam::${OTHER}:root is not authorized to perform: ${action} on resource: \\S+ because`,
          ),
        );
      } else if (passes) expect(answer.status).toBe(403);
      else expect(answer.status).toBe(404);
      expect(await isLeft(world)).toEqual(before);
    },
  );
});
