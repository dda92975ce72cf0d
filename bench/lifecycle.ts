/**
 * What the steps of a microvm's life take on this machine: `node bench/lifecycle.ts [CYCLES]`, as root, after
 * scripts/setup.sh. Whole server, real VMs, the unmodified SDK; milliseconds as min / median / max.
 */
import { SuspendMicrovmCommand, TerminateMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import { TorporClient } from "@torpor/sdk";
import {
  AWAKE_ON_REQUEST,
  buildImage,
  HELLO,
  RunningMicrovm,
  untilState,
} from "../packages/server/test/vm/fixtures.ts";
import { TestServer } from "../packages/server/test/vm/server.ts";

const cycles = Number(process.argv[2] ?? 10);
const samples = new Map<string, number[]>();
const record = (name: string, ms: number): void => {
  samples.set(name, [...(samples.get(name) ?? []), ms]);
};
const timed = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
  const start = performance.now();
  const result = await work();
  record(name, performance.now() - start);
  return result;
};

await using server = await TestServer.start();
const torpor = new TorporClient({ ...server.credentials, credentials: server.credentials });
const { signal } = new AbortController();
const image = await timed("image: upload to ACTIVE", () => buildImage(server, "hello", HELLO));
const built = await torpor.buildReceipt({ imageIdentifier: image, imageVersion: "1.0" }, signal);
for (const phase of built.phases) record(`image: ${phase.name}`, phase.ms);

for (let n = 0; n < cycles; n++) {
  const vm = await timed("run: RunMicrovm to first HTTP answer", async () => {
    const started = await RunningMicrovm.run(server, image, AWAKE_ON_REQUEST);
    await started.hello();
    return started;
  });
  await timed("request to a running microvm", () => vm.hello());
  await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "SUSPENDED");
  await timed("wake: request to a suspended microvm", () => vm.hello());
  for (const receipt of await torpor.receipts(vm.id, signal)) {
    record(`${receipt.operation}: host, all`, receipt.totalMs);
    for (const phase of receipt.phases) record(`${receipt.operation}: host, ${phase.name}`, phase.ms);
  }
  await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "TERMINATED");
}

for (const [name, values] of samples) {
  const sorted = values.toSorted((a, b) => a - b);
  const [min, median, max] = [sorted[0]!, sorted[Math.floor(sorted.length / 2)]!, sorted.at(-1)!];
  const cells = [min, median, max].map((ms) => ms.toFixed(1).padStart(9)).join("");
  console.log(`${name.padEnd(44)}${cells}   n=${values.length}`);
}
