import { CloudWatchLogsClient, GetLogEventsCommand, paginateFilterLogEvents } from "@aws-sdk/client-cloudwatch-logs";
import { ResumeMicrovmCommand, SuspendMicrovmCommand, TerminateMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildImage, HELLO, RunningMicrovm, untilState } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";

let server: TestServer;
let image: string;
let logs: CloudWatchLogsClient;
beforeAll(async () => {
  server = await TestServer.start();
  image = await buildImage(server, "hello", HELLO);
  const { endpointUrl, region, accessKeyId, secretAccessKey } = server.credentials;
  logs = new CloudWatchLogsClient({ endpoint: endpointUrl, region, credentials: { accessKeyId, secretAccessKey } });
});
afterAll(async () => {
  logs?.destroy();
  await server?.[Symbol.asyncDispose]();
});

async function messages(logGroupName: string, logStreamNames?: string[]): Promise<string[]> {
  const found: string[] = [];
  const input = { logGroupName, ...(logStreamNames && { logStreamNames }) };
  for await (const page of paginateFilterLogEvents({ client: logs }, input))
    found.push(...(page.events ?? []).map(({ message }) => message ?? ""));
  return found;
}

test("what a workload prints is in its stream, each line once, over a suspend, a killed server and its end", async () => {
  const logging = { cloudWatch: { logGroup: "/mine", logStream: "s" } };
  const vm = await RunningMicrovm.run(server, image, { logging });
  const requests = async () => (await messages("/mine", ["s"])).filter((text) => text.startsWith("request "));
  const printed = (count: number) =>
    eventually(`${count} requests in the stream`, async () => {
      const found = await requests().catch(() => []);
      return found.length >= count ? found : undefined;
    });

  await vm.hello();
  expect(await printed(1)).toEqual(["request 1: /"]);

  await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "SUSPENDED");
  await server.api.send(new ResumeMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "RUNNING");
  await vm.hello();
  expect(await printed(2)).toEqual(["request 1: /", "request 2: /"]);

  await server.kill();
  await server.start();
  await untilState(server, vm.id, "RUNNING");
  await vm.hello();
  expect(await printed(3)).toEqual([1, 2, 3].map((n) => `request ${n}: /`));

  await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "TERMINATED");
  expect(await requests()).toHaveLength(3);
  const page = await logs.send(
    new GetLogEventsCommand({ logGroupName: "/mine", logStreamName: "s", startFromHead: true }),
  );
  const times = page.events?.map(({ timestamp }) => timestamp ?? 0) ?? [];
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  for (const time of times) expect(Math.abs(time - Date.now())).toBeLessThan(3_600_000);
});

test("the build's log is in the image's group", async () => {
  expect((await messages("/aws/lambda-microvms/hello")).some((text) => text.startsWith("STEP 1"))).toBe(true);
});
