import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as sdk from "@aws-sdk/client-lambda-microvms";
import { TorporClient } from "@torpor/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digestOf, readDigest, SERVICES } from "../../../../contract/oracle/digest.ts";
import { FakeHostServer } from "../fake-host/server.ts";
import { aws, installClients, python, sitePackages } from "./clients.ts";

/** Clients that know nothing of us, one whole life each, against a server without VMs. */

const CROWD = 250;
const BASE_IMAGE = "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1";
const ROLE = "arn:aws:iam::000000000000:role/build";
const UNKNOWN = "microvm-3f0c2b7e-8a41-3d5c-9e77-1b2c3d4e5f60";

let server: FakeHostServer;
let crowdsImage: string;

beforeAll(async () => {
  await installClients();
  server = await FakeHostServer.start({ settings: { "log-level": "info" } });
  await putArtifact();
  crowdsImage = await crowd();
});
afterAll(() => server?.[Symbol.asyncDispose]());

test("boto3 builds, runs, suspends, resumes, terminates, lists, tags, connects and deletes", async () => {
  expect(await python(server, "story.py", "boto3", crowdsImage)).toEqual({
    image: ["CREATING", "CREATED"],
    version: ["ACTIVE", { GREETING: "hello" }, true],
    tags: { stage: "test" },
    run: ["PENDING", "RUNNING"],
    token: [["X-aws-proxy-auth"], 4],
    suspend: "SUSPENDED",
    resume: "RUNNING",
    "busy image": ["ValidationException", 400],
    terminate: "TERMINATED",
    pages: [CROWD, CROWD],
    "small pages": 30,
    connector: ["ACTIVE", true],
    connectors: ["boto3"],
    errors: [
      ["ResourceNotFoundException", 404],
      ["ValidationException", 400],
      ["ResourceNotFoundException", 404],
    ],
    delete: "DELETING",
    gone: ["ResourceNotFoundException", 404],
  });
});

describe("the AWS CLI", () => {
  const microvms = (...args: string[]): Promise<unknown> => aws(server, "lambda-microvms", ...args);
  const state = async (id: string): Promise<string> => {
    const found = (await microvms("get-microvm", "--microvm-identifier", id)) as { readonly state: string };
    return found.state;
  };

  test("builds, runs, suspends, resumes, terminates and deletes", async () => {
    const name = "aws-cli";
    const { imageArn } = (await microvms(
      ...["create-microvm-image", "--name", name, "--base-image-arn", BASE_IMAGE, "--build-role-arn", ROLE],
      ...["--code-artifact", "uri=s3://artifacts/app.zip", "--tags", "team=a"],
    )) as { readonly imageArn: string };
    await eventually(async () => {
      const image = await microvms("get-microvm-image", "--image-identifier", imageArn);
      expect(image).toMatchObject({ name, state: "CREATED", tags: { team: "a" } });
    });
    const idle = "maxIdleDurationSeconds=60,suspendedDurationSeconds=600,autoResumeEnabled=true";
    const { microvmId: id } = (await microvms(
      ...["run-microvm", "--image-identifier", imageArn, "--idle-policy", idle],
    )) as { readonly microvmId: string };
    await eventually(async () => expect(await state(id)).toBe("RUNNING"));
    const token = ["--expiration-in-minutes", "5", "--allowed-ports", "port=8080", "range={startPort=1,endPort=9}"];
    expect(await microvms("create-microvm-auth-token", "--microvm-identifier", id, ...token)).toEqual({
      authToken: { "X-aws-proxy-auth": expect.stringMatching(/^ey/) },
    });
    await microvms("suspend-microvm", "--microvm-identifier", id);
    await eventually(async () => expect(await state(id)).toBe("SUSPENDED"));
    await microvms("resume-microvm", "--microvm-identifier", id);
    await eventually(async () => expect(await state(id)).toBe("RUNNING"));
    await microvms("terminate-microvm", "--microvm-identifier", id);
    await eventually(async () => expect(await state(id)).toBe("TERMINATED"));
    expect(await microvms("delete-microvm-image", "--image-identifier", imageArn)).toMatchObject({ state: "DELETING" });
    await eventually(async () => {
      await expect(microvms("get-microvm-image", "--image-identifier", imageArn)).rejects.toThrow(
        "(ResourceNotFoundException)",
      );
    });
  });

  test("takes all pages by itself", async () => {
    const { items } = (await microvms("list-microvms", "--image-identifier", crowdsImage)) as { items: unknown[] };
    expect(items).toHaveLength(CROWD);
  });

  test("is told who it is, and as another key what that one may not do", async () => {
    const Account = server.credentials.accountId;
    expect(await aws(server, "sts", "get-caller-identity")).toEqual({
      UserId: Account,
      Account,
      Arn: `arn:aws:iam::${Account}:root`,
    });
    const { endpointUrl, region } = server.credentials;
    const { admin } = new TorporClient({ endpointUrl, region, credentials: server.credentials });
    const Statement = { Effect: "Allow", Action: ["lambda:Get*", "s3:GetObject"], Resource: "*" };
    const reader = await admin.createKey({ name: "reader", policy: { Version: "2012-10-17", Statement } });
    const asReader = { dataDir: server.dataDir, credentials: { ...server.credentials, ...reader } };
    const Arn = `arn:aws:iam::${Account}:user/reader`;
    expect(await aws(asReader, "sts", "get-caller-identity")).toMatchObject({ Account, Arn });
    await expect(aws(asReader, "lambda-microvms", "run-microvm", "--image-identifier", crowdsImage)).rejects.toThrow(
      `An error occurred (AccessDeniedException) when calling the RunMicrovm operation: User: ${Arn} is not authorized to perform: lambda:RunMicrovm on resource: ${crowdsImage} because no identity-based policy allows the lambda:RunMicrovm action`,
    );
    await expect(aws(asReader, "s3api", "delete-object", "--bucket", "artifacts", "--key", "app.zip")).rejects.toThrow(
      "An error occurred (AccessDenied) when calling the DeleteObject operation",
    );
    await aws(asReader, "s3", "cp", "--only-show-errors", "s3://artifacts/app.zip", join(server.dataDir, "read.zip"));
    const ours = (await Array.fromAsync(admin.audit({ outcome: "failure", operation: "*:*" }))).slice(-2);
    expect(ours.map(({ keyName, operation, error }) => [keyName, operation, error])).toEqual([
      ["reader", "lambda:RunMicrovm", "AccessDeniedException"],
      ["reader", "s3:DeleteObject", "AccessDenied"],
    ]);
  });

  test("tells the service's errors as such", async () => {
    await expect(microvms("get-microvm", "--microvm-identifier", UNKNOWN)).rejects.toThrow(
      `An error occurred (ResourceNotFoundException) when calling the GetMicrovm operation: MicroVM not found: ${UNKNOWN}`,
    );
  });
});

test("the digests of AWS's models are those of the botocore that is pinned here", async () => {
  const folder = await sitePackages();
  for (const wanted of SERVICES) {
    const checkedIn = readDigest(wanted.service);
    expect(digestOf(folder, checkedIn.source.version, wanted)).toEqual(checkedIn);
  }
});

/** With the commands for S3, which print nothing. */
async function putArtifact(): Promise<void> {
  const file = join(server.dataDir, "app.zip");
  await writeFile(file, "a zip");
  await aws(server, "s3api", "create-bucket", "--bucket", "artifacts");
  await aws(server, "s3", "cp", "--only-show-errors", file, "s3://artifacts/app.zip");
}

/** An image with so many microvms that lists of them have pages. */
async function crowd(): Promise<string> {
  const client = server.client();
  const { imageArn } = await client.send(
    new sdk.CreateMicrovmImageCommand({
      name: "crowd",
      baseImageArn: BASE_IMAGE,
      buildRoleArn: ROLE,
      codeArtifact: { uri: "s3://artifacts/app.zip" },
    }),
  );
  await eventually(async () => {
    const { state } = await client.send(new sdk.GetMicrovmImageCommand({ imageIdentifier: imageArn }));
    expect(state).toBe("CREATED");
  });
  for (let n = 0; n < CROWD; n += 25)
    await Promise.all(
      Array.from({ length: 25 }, () => client.send(new sdk.RunMicrovmCommand({ imageIdentifier: imageArn }))),
    );
  client.destroy();
  return imageArn!;
}

/** Until it does not throw any more. */
async function eventually(look: () => Promise<void>): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await look();
    } catch (err) {
      if (attempt === 50) throw err;
    }
    await sleep(50);
  }
}
