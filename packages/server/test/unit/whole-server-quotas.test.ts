import { CreateMicrovmImageCommand, ListMicrovmsCommand } from "@aws-sdk/client-lambda-microvms";
import { expect, test } from "vitest";
import { FakeHostServer } from "../fake-host/server.ts";

test("a server keeps to the quotas and rates that it was started with", async () => {
  const quotas =
    "images=0,other-operations.rate=1,other-operations.burst=2,unauthenticated.rate=1,unauthenticated.burst=2";
  await using server = await FakeHostServer.start({ settings: { quotas } });
  const client = server.client({ maxAttempts: 1 });
  const image = {
    name: "demo",
    baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
    buildRoleArn: "arn:aws:iam::000000000000:role/build",
    codeArtifact: { uri: "s3://bucket/app.zip" },
  };
  await expect(client.send(new CreateMicrovmImageCommand(image))).rejects.toMatchObject({
    name: "ServiceQuotaExceededException",
  });
  const list = new ListMicrovmsCommand({});
  const asked = await Promise.allSettled(Array.from({ length: 20 }, () => client.send(list)));
  expect(asked.some(({ status }) => status === "fulfilled")).toBe(true);
  expect(asked.some((each) => each.status === "rejected" && each.reason.name === "ThrottlingException")).toBe(true);
  // Clients that leave it to the SDK are slowed down, and none is refused.
  const patient = server.client({ maxAttempts: 10 });
  const answers = await Promise.all(Array.from({ length: 3 }, () => patient.send(list)));
  expect(answers.map(({ $metadata }) => $metadata.httpStatusCode)).toEqual([200, 200, 200]);

  const stranger = server.client({ maxAttempts: 1, credentials: { accessKeyId: "AKIANOBODY", secretAccessKey: "x" } });
  const strange = await Promise.allSettled(Array.from({ length: 100 }, () => stranger.send(list)));
  const names = new Set(strange.map((each) => (each.status === "rejected" ? each.reason.name : "done")));
  expect(names).toEqual(new Set(["UnrecognizedClientException", "ThrottlingException"]));
});
