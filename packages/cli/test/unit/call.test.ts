import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ID, listen, microvm, torpor } from "./torpor.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-call-"));
  const files = ["-keyout", join(dir, "key.pem"), "-out", join(dir, "ca.pem")];
  const name = ["-subj", "/CN=test", "-addext", "subjectAltName=DNS:*.lambda-microvm.eu-west-1.localhost"];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"];
  execFileSync("openssl", ["req", ...kind, ...files, ...name], { stdio: "ignore" });
});
afterAll(() => rm(dir, { recursive: true }));

/** A microvm's endpoint, and the API that names it. */
async function endpoint(
  answer: (
    request: IncomingMessage,
    body: string,
  ) => { status: number; headers?: Record<string, string>; body: string },
) {
  const server = createServer(
    { key: await readFile(join(dir, "key.pem")), cert: await readFile(join(dir, "ca.pem")) },
    async (request, response) => {
      const { status, headers, body } = answer(request, await text(request));
      response.writeHead(status, headers).end(body);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const api = await listen(({ method }) =>
    method === "GET"
      ? microvm("SUSPENDED", { endpoint: `9a41.lambda-microvm.eu-west-1.localhost:${port}` })
      : { authToken: { "X-aws-proxy-auth": "the.token" } },
  );
  return {
    env: api.env,
    [Symbol.asyncDispose]: async () => {
      await api[Symbol.asyncDispose]();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test("a call goes over HTTPS with a fresh token, trusting the server's own authority", async () => {
  await using vm = await endpoint((request, body) => ({
    status: 200,
    body: `${request.method} ${request.url} ${request.headers["x-aws-proxy-auth"]} ${request.headers["x-aws-proxy-port"]} ${request.headers.accept} ${body}`,
  }));
  const args = ["call", ID, "/a?b=c", "--ca-file", join(dir, "ca.pem"), "-p", "9000", "-d", "@-", "-H", "Accept: x/y"];
  const ran = await torpor(args, vm.env, "hello");
  expect(ran).toEqual({ code: 0, stderr: "", stdout: "POST /a?b=c the.token 9000 x/y hello" });
});

test("an endpoint that nobody vouches for is not spoken to", async () => {
  await using vm = await endpoint(() => ({ status: 200, body: "hello" }));
  const ran = await torpor(["call", ID], vm.env);
  expect(ran).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("self-signed certificate") });
});

test("a refusal of the endpoint and an error of the workload are told apart", async () => {
  const ca = ["--ca-file", join(dir, "ca.pem")];
  await using refused = await endpoint(() => ({
    status: 502,
    headers: { "x-aws-proxy-error": "APP_CONNECT_FAILED" },
    body: "",
  }));
  const first = await torpor(["call", ID, ...ca], refused.env);
  expect(first).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("the endpoint (APP_CONNECT_FAILED) answered 502"),
  });
  await using broken = await endpoint(() => ({ status: 500, body: "oops" }));
  const second = await torpor(["call", ID, "--json", ...ca], broken.env);
  expect(second.code).toBe(1);
  expect(JSON.parse(second.stdout)).toMatchObject({ status: 500, body: "oops" });
  expect(JSON.parse(second.stderr)).toMatchObject({ error: { message: "the workload answered 500" } });
});
