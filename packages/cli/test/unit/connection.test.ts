import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { quote } from "../../src/command/env.ts";
import { resolveConnection } from "../../src/connection.ts";
import { readEnvironment } from "../../src/environment.ts";
import { listen, torpor } from "./torpor.ts";

let dataDir: string;
const FILE = {
  endpointUrl: "http://127.0.0.1:4700",
  endpointPort: 4799,
  region: "eu-west-1",
  accountId: "123456789012",
  accessKeyId: "AKFILE",
  secretAccessKey: "file secret",
  caFile: "/data/ca.pem",
};
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "torpor-cli-"));
  await writeFile(join(dataDir, "credentials.json"), JSON.stringify(FILE));
});
afterEach(() => rm(dataDir, { recursive: true }));

describe("the server is found", () => {
  const AWS = { AWS_ACCESS_KEY_ID: "AKENV", AWS_SECRET_ACCESS_KEY: "env secret", AWS_REGION: "us-west-2" };
  const resolve = (env: NodeJS.ProcessEnv, flags = {}) => resolveConnection(flags, readEnvironment(env), false);

  test("by the file that it wrote, whatever keys for AWS lie about", () => {
    expect(resolve({ TORPOR_DATA_DIR: dataDir, ...AWS })).toEqual({
      endpointUrl: "http://127.0.0.1:4700",
      s3EndpointUrl: "http://127.0.0.1:4700",
      region: "eu-west-1",
      accountId: "123456789012",
      credentials: { accessKeyId: "AKFILE", secretAccessKey: "file secret" },
      caFile: "/data/ca.pem",
      endpointPort: 4799,
    });
  });

  test("by the environment before the file", () => {
    const found = resolve({ TORPOR_DATA_DIR: dataDir, ...AWS, AWS_ENDPOINT_URL: "https://torpor.test" });
    expect(found).toMatchObject({
      endpointUrl: "https://torpor.test",
      region: "us-west-2",
      credentials: { accessKeyId: "AKENV", secretAccessKey: "env secret" },
    });
  });

  test("by flags before everything", () => {
    const flags = { endpointUrl: "http://[::1]:1", region: "ap-south-1", accessKeyId: "AKFLAG", secretAccessKey: "s" };
    const env = { TORPOR_DATA_DIR: dataDir, ...AWS, AWS_ENDPOINT_URL: "https://torpor.test" };
    expect(resolve(env, flags)).toMatchObject({
      endpointUrl: "http://[::1]:1",
      region: "ap-south-1",
      credentials: { accessKeyId: "AKFLAG", secretAccessKey: "s" },
    });
  });

  test("or it is said what is missing", async () => {
    expect(() => resolve({ TORPOR_DATA_DIR: "/nonexistent" })).toThrow("there is no /nonexistent/credentials.json");
    expect(() => resolve({ AWS_ENDPOINT_URL: "http://x", HOME: "/nonexistent" })).toThrow("no keys for http://x");
    expect(() => resolve({ AWS_ENDPOINT_URL: "torpor", ...AWS })).toThrow("no http or https URL");
    await writeFile(join(dataDir, "credentials.json"), '{"endpointUrl":"http://x"}');
    expect(() => resolve({ TORPOR_DATA_DIR: dataDir })).toThrow("accessKeyId is missing");
  });
});

describe("env", () => {
  test("gives a shell what AWS's clients need", async () => {
    const { stdout } = await torpor(["env"], { TORPOR_DATA_DIR: dataDir });
    const shown = execFileSync("sh", ["-c", `${stdout}\nenv`], { encoding: "utf8", env: {} });
    expect(shown).toContain("AWS_ENDPOINT_URL=http://127.0.0.1:4700\n");
    expect(shown).toContain("AWS_SECRET_ACCESS_KEY=file secret\n");
    expect(shown).toContain("AWS_DEFAULT_REGION=eu-west-1\n");
    expect(shown).toContain("NODE_EXTRA_CA_CERTS=/data/ca.pem\n");
  });

  test("quotes any text for a shell", () => {
    const text = fc.string({ unit: "grapheme" }).filter((t) => !t.includes("\0"));
    fc.assert(
      fc.property(fc.array(text, { minLength: 20, maxLength: 20 }), (texts) => {
        const words = texts.map(quote).join(" ");
        const out = execFileSync("sh", ["-c", `printf '%s\\0' ${words}`], { encoding: "utf8" });
        expect(out.split("\0").slice(0, -1)).toEqual(texts);
      }),
      { numRuns: 10 },
    );
  });
});

describe("errors", () => {
  test("say what to try, on stderr, and end with 1", async () => {
    const ran = await torpor(["ls"]);
    expect(ran).toMatchObject({ code: 1, stdout: "" });
    expect(ran.stderr).toMatch(/^torpor: no server is known: .*\ntry: torpor serve, or .*\n$/);
  });

  test("of the server carry its words and the request's id", async () => {
    await using server = await listen((_, response) =>
      response
        .writeHead(404, { "x-amzn-errortype": "ResourceNotFoundException", "x-amzn-requestid": "r-7" })
        .end('{"message":"MicroVM not found: x"}'),
    );
    const ran = await torpor(["show", "x"], server.env);
    expect(ran.stderr).toBe(
      "torpor: ResourceNotFoundException: MicroVM not found: x (request r-7)\ntry: torpor ls --all\n",
    );
    const json = await torpor(["show", "x", "--json"], server.env);
    expect([json.code, json.stdout]).toEqual([1, ""]);
    expect(JSON.parse(json.stderr)).toMatchObject({
      error: { type: "ResourceNotFoundException", hint: "torpor ls --all" },
    });
  });

  test("of the command line end with 2", async () => {
    for (const args of [["nosuch"], ["ls", "--nosuch"], ["run"], ["token", "x", "--minutes", "61"], []])
      expect((await torpor(args)).code, args.join(" ")).toBe(2);
  });
});

test("help and version are no errors", async () => {
  expect(await torpor(["--version"])).toEqual({ code: 0, stdout: "0.1.0\n", stderr: "" });
  const help = await torpor(["run", "--help"]);
  expect([help.code, help.stderr]).toEqual([0, ""]);
  expect(help.stdout).toContain("--max-duration <seconds>");
});

test("config is the server's own command", async () => {
  const { code, stdout } = await torpor(["config", "--json", "--region", "eu-north-1"]);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toContainEqual(
    expect.objectContaining({ name: "region", value: "eu-north-1", origin: "flag --region" }),
  );
});
