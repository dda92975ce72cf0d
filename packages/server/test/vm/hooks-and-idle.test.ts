import { GetMicrovmCommand, SuspendMicrovmCommand, TerminateMicrovmCommand } from "@aws-sdk/client-lambda-microvms";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AWAKE_ON_REQUEST, buildImage, RunningMicrovm, untilState } from "./fixtures.ts";
import { eventually, TestServer } from "./server.ts";

/** Writes down each hook that is called, with its body, and refuses those that the payload names. */
const APP = `
import http.server, json, sys, threading
calls = []
refuse = []
class App(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        name = self.path.rsplit("/", 1)[1]
        calls.append([name, body])
        if name == "run":
            refuse.extend(json.loads(json.loads(body).get("runHookPayload") or "[]"))
        print("hook", name, flush=True)
        self.send_response(500 if name in refuse else 200)
        self.send_header("content-length", "0")
        self.send_header("connection", "close")
        self.end_headers()
    def do_GET(self):
        data = json.dumps(calls).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *a): pass
threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", 9000), App).serve_forever, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), App).serve_forever()
`;
const DOCKERFILE = `FROM public.ecr.aws/lambda/microvms:al2023-minimal
WORKDIR /srv
COPY app.py .
CMD ["python3", "app.py"]
`;
/** Generous: in emulation a first request of a Python server takes a while. */
const timeouts = {
  runTimeoutInSeconds: 30,
  resumeTimeoutInSeconds: 30,
  suspendTimeoutInSeconds: 30,
  terminateTimeoutInSeconds: 30,
};

let server: TestServer;
let image: string;
beforeAll(async () => {
  server = await TestServer.start();
  const hooks = { run: "ENABLED", resume: "ENABLED", suspend: "ENABLED", terminate: "ENABLED", ...timeouts } as const;
  image = await buildImage(
    server,
    "hooked",
    { Dockerfile: DOCKERFILE, "app.py": APP },
    {
      hooks: {
        port: 9000,
        microvmHooks: hooks,
        microvmImageHooks: {
          ready: "ENABLED",
          readyTimeoutInSeconds: 60,
          validate: "ENABLED",
          validateTimeoutInSeconds: 60,
        },
      },
    },
  );
});
afterAll(() => server?.[Symbol.asyncDispose]());

const calls = async (vm: RunningMicrovm): Promise<[string, string][]> => {
  const { status, body } = await vm.get();
  if (status !== 200) throw new Error(`the endpoint answered ${status}`);
  return JSON.parse(body) as [string, string][];
};

test("hooks are called in their order, run with its payload; a workload on loopback only is reached", async () => {
  const payload = JSON.stringify([]);
  const vm = await RunningMicrovm.run(server, image, { ...AWAKE_ON_REQUEST, runHookPayload: payload });
  const first = await calls(vm);
  expect(first.at(-1)![0]).toBe("run");
  expect(JSON.parse(first.at(-1)![1])).toEqual({ microvmId: vm.id, runHookPayload: payload });
  await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "SUSPENDED");
  const names = (await calls(vm)).map(([name]) => name);
  expect(names).toEqual([...first.map(([name]) => name), "suspend", "resume"]);
  await server.api.send(new TerminateMicrovmCommand({ microvmIdentifier: vm.id }));
  await untilState(server, vm.id, "TERMINATED");
});

test.each(["run", "suspend", "resume"] as const)(
  "a %s hook that answers 500 ends the microvm with the reason",
  async (hook) => {
    // The hook that refuses the run is told to by the very payload of that run.
    const vm = await RunningMicrovm.run(server, image, { ...AWAKE_ON_REQUEST, runHookPayload: JSON.stringify([hook]) });
    if (hook !== "run") {
      await calls(vm);
      await server.api.send(new SuspendMicrovmCommand({ microvmIdentifier: vm.id }));
    }
    if (hook === "resume") {
      await untilState(server, vm.id, "SUSPENDED");
      expect((await vm.get()).status).toBe(502);
    }
    await untilState(server, vm.id, "TERMINATED");
    const { stateReason } = await server.api.send(new GetMicrovmCommand({ microvmIdentifier: vm.id }));
    const name = hook[0]!.toUpperCase() + hook.slice(1);
    expect(stateReason).toBe(
      `${name} lifecycle hook returned HTTP status 500. Please check your hook endpoint and application logs for more details.`,
    );
    expect(await server.vmms()).toEqual([]);
  },
);

test("an idle microvm is suspended by itself, and ends when it has slept for its time", async () => {
  const vm = await RunningMicrovm.run(server, image, {
    idlePolicy: { maxIdleDurationSeconds: 60, suspendedDurationSeconds: 5, autoResumeEnabled: true },
  });
  await calls(vm);
  await untilState(server, vm.id, "SUSPENDED", "TERMINATED");
  await untilState(server, vm.id, "TERMINATED");
});

test("the maximum duration ends a microvm, whatever it does", async () => {
  const vm = await RunningMicrovm.run(server, image, { ...AWAKE_ON_REQUEST, maximumDurationInSeconds: 5 });
  await untilState(server, vm.id, "TERMINATED");
  const { stateReason } = await server.api.send(new GetMicrovmCommand({ microvmIdentifier: vm.id }));
  expect(stateReason).toBe("MicroVM exceeded maximum lifetime.");
});

test("a main process that exits ends its microvm with its exit code", async () => {
  const source = `import http.server, os
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self): os._exit(124)
http.server.HTTPServer(("", 8080), App).serve_forever()
`;
  const exits = await buildImage(server, "exits", { Dockerfile: DOCKERFILE, "app.py": source });
  const vm = await RunningMicrovm.run(server, exits, AWAKE_ON_REQUEST);
  expect((await vm.get()).status).toBe(502);
  await untilState(server, vm.id, "TERMINATED");
  const { stateReason } = await server.api.send(new GetMicrovmCommand({ microvmIdentifier: vm.id }));
  expect(stateReason).toBe("Container Stopped with Exit Code: 124");
  await eventually("the VMM to be gone", async () => ((await server.vmms()).length === 0 ? true : undefined));
});
