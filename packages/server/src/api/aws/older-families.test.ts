import * as aws from "@aws-sdk/client-lambda-microvms";
import { describe, expect, test } from "vitest";
import { notFound } from "../../lib/errors.ts";
import { IMAGE_ARN, startApi } from "../api.fixture.ts";

describe("tags", () => {
  const path = `/2017-03-31/tags/${encodeURIComponent(IMAGE_ARN)}`;

  test("are set, removed and listed by the unmodified SDK client", async () => {
    const { client, calls } = await startApi();
    const Resource = IMAGE_ARN;
    const tagged = await client().send(new aws.TagResourceCommand({ Resource, Tags: { "a b": "ü" } }));
    expect(tagged.$metadata.httpStatusCode).toBe(204);
    await client().send(new aws.UntagResourceCommand({ Resource, TagKeys: ["a b", "c+d=é"] }));
    const { Tags } = await client().send(new aws.ListTagsCommand({ Resource }));
    expect(Tags).toEqual({ team: "a" });
    expect(calls.map(({ name, input }) => [name, input])).toEqual([
      ["TagResource", { Resource, Tags: { "a b": "ü" } }],
      ["UntagResource", { Resource, TagKeys: ["a b", "c+d=é"] }],
      ["ListTags", { Resource }],
    ]);
  });

  test("are answered with 204 and not one byte", async () => {
    const { send } = await startApi();
    for (const request of [
      { method: "POST", path, body: JSON.stringify({ Tags: { a: "b" } }) },
      { method: "DELETE", path, query: { tagKeys: ["a"] } },
    ]) {
      const response = await send(request);
      expect([response.status, await response.text()]).toEqual([204, ""]);
      expect(response.headers.get("content-type")).toBeNull();
      expect(response.headers.get("x-amzn-requestid")).not.toBeNull();
    }
  });

  test("of a microvm, and without keys, are refused in the service's words", async () => {
    const { send, calls } = await startApi();
    const microvm = "arn:aws:lambda:us-east-1:111122223333:microvm:microvm-1";
    const refused = await send({ method: "GET", path: `/2017-03-31/tags/${encodeURIComponent(microvm)}` });
    expect(refused.status).toBe(400);
    expect(await refused.json()).toEqual({
      message: expect.stringContaining(
        `1 validation error detected: Value '${microvm}' at 'resource' failed to satisfy`,
      ),
    });
    expect(await (await send({ method: "DELETE", path })).json()).toEqual({
      message:
        "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null",
    });
    expect(calls).toEqual([]);
  });
});

describe("network connectors", () => {
  const path = "/2026-04-04/network-connectors";

  test("are answered with 202, ISO times, and without what is unset", async () => {
    const { send } = await startApi();
    const request = {
      Name: "egress",
      Configuration: {
        VpcEgressConfiguration: {
          SubnetIds: ["subnet-1"],
          NetworkProtocol: "IPv4",
          AssociatedComputeResourceTypes: ["MicroVm"],
        },
      },
    };
    const made = await send({ method: "POST", path, body: JSON.stringify(request) });
    expect(made.status).toBe(202);
    const { Arn, Id } = (await made.json()) as { Arn: string; Id: string };
    const found = await (await send({ method: "GET", path: `${path}/${encodeURIComponent(Arn)}` })).json();
    expect(found).toEqual({
      Arn,
      Name: "egress",
      Id,
      Configuration: request.Configuration,
      OperatorRole: "arn:aws:iam::111122223333:role/connect",
      State: "PENDING",
      Version: 1,
      StateReason: "Initial creation",
      LastModified: "2026-09-15T14:30:00.512Z",
    });
    const listed = await (await send({ method: "GET", path, query: { MaxItems: "10", State: "ACTIVE" } })).json();
    expect(listed).toEqual({
      NetworkConnectors: [{ Arn, Name: "egress", Id, Type: "VPC_EGRESS", LastModified: "2026-09-15T14:30:00.512Z" }],
    });
    expect((await send({ method: "DELETE", path: `${path}/${Id}` })).status).toBe(202);
    expect((await send({ method: "PUT", path: `${path}/${Id}`, body: "{}" })).status).toBe(202);
  });

  test("are refused under the older names, with members spelled small, and a capital Message where it is so", async () => {
    const operations = {
      GetNetworkConnector: async () => {
        throw notFound("Network connector not found for: x");
      },
    };
    const { send } = await startApi({ operations });
    const Configuration = { VpcEgressConfiguration: { SubnetIds: [], NetworkProtocol: "IPv9" } };
    const invalid = await send({ method: "POST", path, body: JSON.stringify({ Name: "a", Configuration }) });
    expect([invalid.status, invalid.headers.get("x-amzn-errortype")]).toEqual([400, "InvalidParameterValueException"]);
    const { message } = (await invalid.json()) as { message: string };
    expect(message).toMatch(/^2 validation errors detected: /);
    expect(message).toContain("at 'configuration.vpcEgressConfiguration.subnetIds'");
    expect(message).toContain("at 'configuration.vpcEgressConfiguration.networkProtocol'");
    const missing = await send({ method: "GET", path: `${path}/x` });
    expect(missing.status).toBe(404);
    expect(await missing.json()).toMatchObject({ Message: "Network connector not found for: x" });
  });
});
