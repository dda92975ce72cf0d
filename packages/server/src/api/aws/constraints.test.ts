import { createHash } from "node:crypto";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { OPERATIONS } from "@torpor/protocol";
import { describe, expect, test } from "vitest";
import { badInputs, goodInputs, type HttpRequest } from "../../../../../contract/bad-input/cases.ts";
import { javaBuckets } from "../../../../../contract/bad-input/wording.ts";
import type { BotocoreModel } from "../../../../../contract/botocore.ts";
import { allDigests } from "../../../../../contract/contract.ts";
import { DIFFERENCES } from "../../../../protocol/src/compatibility/differences.ts";
import { context, World } from "../../control/testing/world.ts";
import { IMAGE_ARN, MICROVM, startApi, type TestApi } from "../api.fixture.ts";
import { KEY } from "../sigv4/signer.fixture.ts";

/**
 * Every way in which the input of an operation can be wrong, made from AWS's model and not from our table, against a
 * whole server: the answer is AWS's to the letter, and nothing has happened.
 */
const CASES = allDigests()
  .map(extended)
  .flatMap((model) =>
    Object.entries(model.operations)
      .filter(([name]) => name in OPERATIONS)
      .map(([name, operation]) => ({ name, model, operation })),
  );

/** The model with the values that we have and AWS has not. */
function extended(model: BotocoreModel): BotocoreModel {
  const shapes = { ...model.shapes };
  for (const { at, fact, aws, ours } of DIFFERENCES) {
    if (fact !== "enum") continue;
    const own = ours.split(", ");
    for (const { members = {} } of Object.values(model.shapes)) {
      const name = members[at]?.shape;
      const known = name === undefined ? [] : (model.shapes[name]?.enum ?? []);
      if (name === undefined || known.toSorted().join(", ") !== aws) continue;
      shapes[name] = { type: "string", enum: [...known, ...own.filter((value) => !known.includes(value))] };
    }
  }
  return { ...model, shapes };
}

const sent = (api: TestApi, { method, path, query, body }: HttpRequest): Promise<Response> =>
  api.send({
    method,
    path,
    query,
    ...(body !== undefined && { body, headers: { "content-type": "application/json" } }),
  });

describe("an input that is wrong is refused in AWS's words and leaves no trace", () => {
  test.each(CASES)("$name", async ({ model, operation }) => {
    const world = await World.create();
    const account = { ...context(KEY.accountId), principalArn: KEY.principalArn };
    const image = await world.image("demo-app", {}, account);
    const microvm = await world.running(image, {}, account);
    const { operations, extensions } = world.control;
    const api = await startApi({ operations, extensions });
    const before = await trace(world);
    const wrong: unknown[] = [];
    for (const { what, request, type, body } of badInputs(model, operation, known(image, microvm))) {
      const response = await sent(api, request);
      const answer = [response.status, response.headers.get("x-amzn-errortype"), await response.json()];
      const expected = [400, type, body];
      if (JSON.stringify(answer) !== JSON.stringify(expected)) wrong.push({ what, request, answer, expected });
    }
    expect(wrong).toEqual([]);
    await world.quiet();
    expect(await trace(world)).toEqual(before);
  });
});

describe("the requests that these are made from are right", () => {
  test.each(CASES)("$name", async ({ model, operation }) => {
    const api = await startApi();
    for (const { what, request } of goodInputs(model, operation, known(IMAGE_ARN, MICROVM))) {
      const response = await sent(api, request);
      expect([what, request, response.status, await response.text()]).toMatchObject([
        what,
        request,
        operation.http.responseCode ?? 200,
        expect.anything(),
      ]);
    }
  });
});

test("there are hundreds of them", () => {
  const all = CASES.flatMap(({ model, operation }) => [...badInputs(model, operation, known(IMAGE_ARN, MICROVM))]);
  expect(all.length).toBeGreaterThan(600);
});

/** Recorded, with the members of CreateMicrovmImage. */
test("members are told in the order of a Java HashMap", () => {
  const request = allDigests()[0]?.shapes.CreateMicrovmImageRequest;
  const order = javaBuckets(Object.keys(request?.members ?? {})).flat();
  const required = ["baseImageArn", "codeArtifact", "buildRoleArn"];
  expect(order.filter((name) => required.includes(name))).toEqual(required);
});

const known = (image: string, microvm: string) => ({
  imageIdentifier: image,
  microvmIdentifier: microvm,
  imageVersion: "1.0",
  Resource: image,
});

/** All that a request could have left behind: every row, and every call of the host. */
async function trace({ dataDir, machine, minted }: World): Promise<unknown> {
  using database = new DatabaseSync(join(dataDir, "torpor.db"), { readOnly: true });
  const tables = database.prepare("select name from sqlite_master where type = 'table' order by name").all();
  const rows = Object.fromEntries(
    tables.map(({ name }) => {
      const all = database.prepare(`select * from "${name}"`).all();
      return [String(name), [all.length, createHash("sha256").update(JSON.stringify(all)).digest("hex")]];
    }),
  );
  const { calls, builds, hooks, violations } = machine;
  return { rows, calls: [...calls], builds: builds.length, hooks: [...hooks], violations, minted: minted.length };
}
