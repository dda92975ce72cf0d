import { once } from "node:events";
import { connect, createServer } from "node:net";
import { setTimeout } from "node:timers/promises";
import * as aws from "@aws-sdk/client-lambda-microvms";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { systemClock } from "../lib/clock.ts";
import { createLog } from "../lib/log.ts";
import { buildApi, IMAGE_ARN, LINES, MICROVM, startApi } from "./api.fixture.ts";
import type { S3Handler } from "./server.ts";
import { presigned, signed } from "./sigv4/signer.fixture.ts";

const logs = (id = MICROVM, query = {}) => ({ method: "GET", path: `/torpor/v1/microvms/${id}/logs`, query });
const version = (what: string, number = "1.0") => ({
  method: "GET",
  path: `/torpor/v1/images/${encodeURIComponent(IMAGE_ARN)}/versions/${number}/${what}`,
});

describe("Torpor's own operations", () => {
  test("health needs no signature", async () => {
    const { url } = await startApi();
    const response = await fetch(`${url}/torpor/v1/health`);
    expect(response.status).toBe(200);
    expect(response.headers.get("x-amzn-requestid")).toMatch(/^[0-9a-f-]{36}$/);
    expect(await response.json()).toEqual({ status: "ok", version: "1.2.3", isolation: "emulated" });
  });

  test.each([logs(), version("log"), version("receipt"), { method: "GET", path: "/torpor/v1/host" }])(
    "$path needs one",
    async ({ path }) => {
      const { url } = await startApi();
      const response = await fetch(url + path);
      expect([response.status, await response.json()]).toEqual([403, { message: "Missing Authentication Token" }]);
    },
  );

  test("host facts, receipts, usage and a build's receipt are JSON", async () => {
    const { send } = await startApi();
    expect(await (await send({ method: "GET", path: "/torpor/v1/host" })).json()).toMatchObject({ accelerator: "tcg" });
    const receipts = await send({ method: "GET", path: `/torpor/v1/microvms/${MICROVM}/receipts` });
    expect(receipts.headers.get("content-type")).toMatch(/^application\/json/);
    expect(await receipts.json()).toMatchObject({ items: [{ operation: "launch", totalMs: 12.5 }] });
    const usage = await send({ method: "GET", path: `/torpor/v1/microvms/${MICROVM}/usage` });
    expect(await usage.json()).toMatchObject({ microvmId: MICROVM, process: "running", pssBytes: 300 });
    expect(await (await send(version("receipt"))).json()).toMatchObject({ operation: "launch" });
    expect((await send(version("receipt", "2"))).status).toBe(404);
  });

  test("logs are lines of JSON, a build's log is text", async () => {
    const { send } = await startApi();
    const response = await send(logs());
    expect(response.headers.get("content-type")).toBe("application/x-ndjson");
    expect(await response.text()).toBe(LINES.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const build = await send(version("log"));
    expect(build.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(await build.text()).toBe("STEP 1\nSTEP 2\n");
  });

  test("parameters are checked", async () => {
    const { send } = await startApi();
    const refused = [
      logs("microvm-1"),
      logs(MICROVM, { follow: "yes" }),
      logs(MICROVM, { follow: ["true", "true"] }),
      version("log", "latest"),
      { method: "GET", path: "/torpor/v1/images/demo/versions/1.0/log" },
    ];
    for (const request of refused) {
      const response = await send(request);
      expect([response.status, response.headers.get("x-amzn-errortype")]).toEqual([400, "ValidationException"]);
    }
  });

  test("a followed log is told its reader's account, arrives line by line and ends when the reader leaves", async () => {
    const { promise: first, resolve: write } = Promise.withResolvers<void>();
    const { promise: stopped, resolve: stop } = Promise.withResolvers<unknown>();
    const asked: unknown[] = [];
    const { send } = await startApi({
      extensions: {
        logs: async (context, microvmId, follow, signal) => {
          asked.push([context.accountId, microvmId, follow]);
          signal.addEventListener("abort", () => stop(signal.reason));
          return (async function* () {
            await first;
            yield LINES[0]!;
            await new Promise(() => {});
          })();
        },
      },
    });
    const response = await send(logs(MICROVM, { follow: "true" }));
    expect(response.status).toBe(200); // before there is any line
    const reader = response.body!.getReader();
    write();
    expect(Buffer.from((await reader.read()).value!).toString()).toBe(`${JSON.stringify(LINES[0])}\n`);
    await reader.cancel();
    expect(String(await stopped)).toContain("went away");
    expect(asked).toEqual([["111122223333", MICROVM, true]]);
  });

  test("a followed log may be silent for longer than a body may take to arrive", async () => {
    const { send } = await startApi({
      limits: { bodyMs: 20 },
      extensions: {
        buildLog: async () =>
          (async function* () {
            yield "STEP 1\n";
            await setTimeout(100);
            yield "STEP 2\n";
          })(),
      },
    });
    expect(await (await send(version("log"))).text()).toBe("STEP 1\nSTEP 2\n");
  });

  test("a log whose source fails is cut off, not ended", async () => {
    const { send } = await startApi({
      extensions: {
        buildLog: async () =>
          (async function* () {
            yield "STEP 1\n";
            throw new Error("disk gone");
          })(),
      },
    });
    await expect(send(version("log")).then((response) => response.text())).rejects.toThrow();
  });
});

describe("one port", () => {
  const s3: S3Handler = async (request, response) => void response.end(`s3 ${request.url}`);

  test("serves S3 by the scope of the signature, in the header and in the query", async () => {
    const { url, port } = await startApi({ s3 });
    const host = `127.0.0.1:${port}`;
    const put = await signed({ method: "PUT", path: "/torpor/v1/x", headers: { host } }, "s3", Date.now());
    const headers = Object.fromEntries(
      put.rawHeaders.flatMap((n, i) => (i % 2 === 0 ? [[n, put.rawHeaders[i + 1]!]] : [])),
    );
    expect(await (await fetch(url + put.url, { method: "PUT", headers })).text()).toBe("s3 /torpor/v1/x");
    const get = await presigned({ method: "GET", path: "/2025-09-09/x", headers: { host } }, "s3", Date.now());
    expect(await (await fetch(url + get.url)).text()).toBe(`s3 ${get.url}`);
  });

  test("leaves to S3 what is not signed and has none of our paths", async () => {
    const { url } = await startApi({ s3 });
    for (const path of ["/", "/bucket/key", "/torpor", "/2025-09-10/microvms"])
      expect(await (await fetch(url + path)).text()).toBe(`s3 ${path}`);
  });

  test("hands S3 a request whose body nobody has touched, and leaves 100 Continue to it", async () => {
    const { raw } = await startApi({
      s3: async (request, response) => {
        response.writeContinue();
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk);
        response.end(Buffer.concat(chunks));
      },
    });
    const answer = await raw(
      "PUT /b/k HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
    );
    expect(answer).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK[\s\S]*hello$/);
  });

  test("survives an S3 handler that fails", async () => {
    const { url, raw } = await startApi({
      s3: async () => {
        throw new Error("bug");
      },
    });
    expect(await raw("GET /b/k HTTP/1.1\r\nhost: x\r\n\r\n")).toBe("");
    expect((await fetch(`${url}/torpor/v1/health`)).status).toBe(200);
  });
});

describe("closing", () => {
  test("cuts followed logs off, lets other requests finish, and ends every connection", async () => {
    const { promise: entered, resolve: enter } = Promise.withResolvers<void>();
    const { promise: release, resolve: finish } = Promise.withResolvers<void>();
    const patient = { ...systemClock, after: () => () => {} }; // nothing is ended because of the time
    const { server, send, client } = await startApi({
      clock: patient,
      extensions: {
        logs: async () =>
          (async function* () {
            await new Promise(() => {});
          })(),
      },
      operations: {
        SuspendMicrovm: async () => {
          enter();
          await release;
          return {};
        },
      },
    });
    const followed = await send(logs(MICROVM, { follow: "true" }));
    const suspended = client().send(new aws.SuspendMicrovmCommand({ microvmIdentifier: MICROVM }));
    await entered;
    const closed = server.close();
    await expect(followed.text()).rejects.toThrow();
    finish();
    expect((await suspended).$metadata.httpStatusCode).toBe(200);
    await closed;
    await expect(fetch(`${followed.url}`)).rejects.toThrow();
  });

  test("does not wait for ever", async () => {
    const { promise: entered, resolve: enter } = Promise.withResolvers<AbortSignal>();
    const { server, client } = await startApi({
      limits: { closeMs: 50 },
      operations: {
        GetMicrovm: async (_input, { signal }) => {
          enter(signal);
          return await new Promise(() => {});
        },
      },
    });
    const call = client().send(new aws.GetMicrovmCommand({ microvmIdentifier: MICROVM }));
    const failed = expect(call).rejects.toThrow();
    const signal = await entered;
    await server.close();
    await failed;
    expect(signal.aborted).toBe(true);
  });
});

test("a port that is taken is named, with the setting that changes it", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void taken.close());
  await once(taken, "listening");
  const address = taken.address();
  const apiPort = typeof address === "object" && address !== null ? address.port : 0;
  await using api = await buildApi({ apiPort });
  await expect(api.listen()).rejects.toThrow(
    `The API cannot listen on 127.0.0.1:${apiPort}: something else listens there. End it, or choose another port with api-port.`,
  );
});

test("a client that leaves in the middle of its request is no error of the server's", async () => {
  const log = createLog("silent");
  const logged = vi.spyOn(log, "error");
  const left = Promise.withResolvers<unknown>();
  vi.spyOn(log, "debug").mockImplementation((_, message) => left.resolve(message));
  const { port } = await startApi({ log });
  const socket = connect(port, "127.0.0.1");
  socket.write(
    "POST /2025-09-09/microvms HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\nhalf",
  );
  await once(socket, "data"); // the server waits for the rest
  socket.destroy();
  expect(await left.promise).toBe("client left during its request");
  expect(logged).not.toHaveBeenCalled();
});
