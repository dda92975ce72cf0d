import { OPERATIONS } from "@torpor/protocol";
import { expect, test } from "vitest";
import { SAMPLES } from "../api.fixture.ts";
import { serializeOutput } from "./serialize.ts";

test("unset members are null in the answer, and left out of what the caller once sent", () => {
  const text = serializeOutput(OPERATIONS.CreateMicrovmImage.output, SAMPLES.CreateMicrovmImage);
  expect(JSON.parse(text)).toEqual({
    imageArn: "arn:aws:lambda:us-east-1:111122223333:microvm-image:demo-app",
    name: "demo-app",
    state: "CREATING",
    createdAt: 1789482600.512,
    baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
    buildRoleArn: "arn:aws:iam::111122223333:role/build",
    codeArtifact: { uri: "s3://demo-bucket/app.zip" },
    imageVersion: "1.0",
    latestActiveImageVersion: "1.0",
    latestFailedImageVersion: null,
    baseImageVersion: null,
    description: null,
    logging: null,
    egressNetworkConnectors: null,
    cpuConfigurations: null,
    resources: [{ minimumMemoryInMiB: 2048 }],
    additionalOsCapabilities: null,
    hooks: { port: 9000, microvmHooks: { run: "ENABLED", runTimeoutInSeconds: 5 } },
    environmentVariables: null,
    tags: null,
    updatedAt: null,
  });
  expect(text).toContain('"createdAt":1789482600.512,');
});

test("items of lists have their nulls, too", () => {
  const answer: unknown = JSON.parse(
    serializeOutput(OPERATIONS.ListMicrovmImageBuilds.output, SAMPLES.ListMicrovmImageBuilds),
  );
  expect(answer).toMatchObject({ items: [{ stateReason: null }], nextToken: "more" });
});

test("an output that does not fit its operation is an error, not an answer", () => {
  const { output } = OPERATIONS.GetMicrovm;
  expect(() => serializeOutput(output, {})).toThrow("lacks its required member microvmId");
  expect(() => serializeOutput(output, { ...SAMPLES.GetMicrovm, state: "DREAMING" })).toThrow("state is not one of");
  expect(() => serializeOutput(output, { ...SAMPLES.GetMicrovm, startedAt: new Date(Number.NaN) })).toThrow(
    "not a date",
  );
});
