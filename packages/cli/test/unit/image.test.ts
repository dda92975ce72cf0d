import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Entry, open, type ZipFile } from "yauzl";
import { zipFolder } from "../../src/zip-folder.ts";
import { type Answer, IMAGE, listen, torpor } from "./torpor.ts";

const signal = new AbortController().signal;
let dir: string;
let app: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "torpor-image-"));
  app = join(dir, "demo");
  await mkdir(join(app, ".git"), { recursive: true });
  await mkdir(join(app, "bin"));
  await writeFile(join(app, "Dockerfile"), "FROM x\n");
  await writeFile(join(app, ".git", "HEAD"), "ref");
  await writeFile(join(app, "bin", "start"), "#!/bin/sh\n");
  await chmod(join(app, "bin", "start"), 0o755);
  await symlink("bin/start", join(app, "start"));
});
afterEach(() => rm(dir, { recursive: true }));

async function* entriesOf(path: string): AsyncGenerator<[Entry, string]> {
  const zip = await promisify<string, { lazyEntries: true }, ZipFile>(open)(path, { lazyEntries: true });
  const read = promisify<Entry, Readable>(zip.openReadStream.bind(zip));
  for (let i = 0; i < zip.entryCount; i++) {
    const next = once(zip, "entry");
    zip.readEntry();
    const [entry] = await next;
    yield [entry, entry.fileName.endsWith("/") ? "" : await text(await read(entry))];
  }
  zip.close();
}

describe("a folder becomes a zip", () => {
  test("with modes and links, without .git", async () => {
    const zip = join(dir, "a.zip");
    await zipFolder(app, zip, signal);
    const found: Record<string, string> = {};
    for await (const [entry, content] of entriesOf(zip)) {
      const mode = (entry.externalFileAttributes >>> 16).toString(8);
      found[entry.fileName] = `${mode} ${content.trim()}`;
    }
    expect(found).toEqual({
      Dockerfile: "100644 FROM x",
      "bin/": "40755 ",
      "bin/start": "100755 #!/bin/sh",
      start: "120777 bin/start",
    });
  });

  test("that is the same for the same content, whenever it was written", async () => {
    await zipFolder(app, join(dir, "a.zip"), signal);
    await utimes(join(app, "Dockerfile"), new Date(), new Date("2001-01-01"));
    await zipFolder(app, join(dir, "b.zip"), signal);
    expect(await readFile(join(dir, "a.zip"))).toEqual(await readFile(join(dir, "b.zip")));
  });

  test("unless there is nothing in it", async () => {
    const empty = join(dir, "empty");
    await mkdir(join(empty, ".git"), { recursive: true });
    await expect(zipFolder(empty, join(dir, "c.zip"), signal)).rejects.toThrow("is empty");
  });
});

/** A service whose one build, of this version, ends in `state`. */
function service(state: "SUCCESSFUL" | "FAILED", bodies: unknown[] = [], imageVersion = "1.0"): Answer {
  const createdAt = 1;
  const version = {
    baseImageArn: "b",
    buildRoleArn: "r",
    codeArtifact: { uri: "s3://b/k" },
    imageArn: IMAGE,
    imageVersion,
    state,
    status: "ACTIVE",
    createdAt,
    stateReason: state === "FAILED" ? "The container image build failed." : null,
  };
  return ({ method, path, body }) => {
    if (path.startsWith("/torpor-artifacts")) return "";
    if (path.endsWith(`/versions/${imageVersion}/log?follow=true`)) return "STEP 1/1: FROM x\n";
    if (method !== "GET") bodies.push(JSON.parse(body));
    if (path.endsWith(`/versions/${imageVersion}`)) return version;
    const image = { imageArn: IMAGE, name: "demo", createdAt, updatedAt: createdAt, state: "CREATED" };
    return method === "GET" ? image : { ...version, ...image, state: method === "PUT" ? "UPDATING" : "CREATING" };
  };
}

describe("image build", () => {
  test("uploads the folder, shows the log and prints the ARN", async () => {
    const bodies: unknown[] = [];
    await using server = await listen(service("SUCCESSFUL", bodies));
    const flags = ["--memory", "512", "--ready-port", "9000", "--hook", "run", "--env", "A=b=c"];
    const ran = await torpor(["image", "build", app, ...flags], server.env);
    expect(ran).toMatchObject({ code: 0, stdout: `${IMAGE}\n` });
    expect(ran.stderr).toContain("STEP 1/1: FROM x\n");
    expect(ran.stderr).toContain("next: torpor run demo\n");
    expect(bodies).toEqual([
      expect.objectContaining({
        name: "demo",
        codeArtifact: {
          uri: expect.stringMatching(/^s3:\/\/torpor-artifacts-000000000000-eu-west-1\/demo\/\w{64}\.zip$/),
        },
        resources: [{ minimumMemoryInMiB: 512 }],
        environmentVariables: { A: "b=c" },
        hooks: { port: 9000, microvmImageHooks: { ready: "ENABLED" }, microvmHooks: { run: "ENABLED" } },
      }),
    ]);
  });

  test("fails with the build's reason", async () => {
    await using server = await listen(service("FAILED"));
    const ran = await torpor(["image", "build", app, "--json"], server.env);
    expect([ran.code, ran.stdout]).toEqual([1, ""]);
    expect(JSON.parse(ran.stderr.split("\n").at(-2) ?? "")).toMatchObject({
      error: {
        message: "the build of demo 1.0 failed: The container image build failed.",
        hint: `torpor image update ${app} --name demo, after mending what the log above shows`,
      },
    });
  });

  test("says so when the name is taken", async () => {
    await using server = await listen(({ method, path }, response) => {
      if (path.startsWith("/torpor-artifacts")) return "";
      expect(method).toBe("POST");
      return response.writeHead(400).end('{"message":"MicroVM image demo already exists"}');
    });
    const ran = await torpor(["image", "build", app], server.env);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain(
      `torpor: an image named demo exists already\ntry: torpor image update ${app} --name demo, or another --name`,
    );
  });

  test("of what is there already makes its next version, from flags that mean the same", async () => {
    const bodies: unknown[] = [];
    await using server = await listen(service("SUCCESSFUL", bodies, "2.0"));
    const flags = ["--name", "demo", "--memory", "1024", "--env", "A=b", "--json"];
    const ran = await torpor(["image", "update", app, ...flags], server.env);
    expect(ran.code).toBe(0);
    expect(JSON.parse(ran.stdout)).toEqual({ imageArn: IMAGE, imageVersion: "2.0", name: "demo", state: "SUCCESSFUL" });
    expect(ran.stderr).toContain("built demo 2.0; next: torpor run demo\n");
    expect(server.asked).toContain(`PUT /2025-09-09/microvm-images/${IMAGE}`);
    expect(bodies).toEqual([
      {
        baseImageArn: "arn:aws:lambda:eu-west-1:aws:microvm-image:al2023-1",
        buildRoleArn: expect.stringContaining(":role/"),
        codeArtifact: { uri: expect.stringMatching(/\/demo\/\w{64}\.zip$/) },
        resources: [{ minimumMemoryInMiB: 1024 }],
        environmentVariables: { A: "b" },
        clientToken: expect.any(String),
      },
    ]);
  });

  test("needs a Dockerfile", async () => {
    await using server = await listen(() => undefined);
    const ran = await torpor(["image", "build", dir], server.env);
    expect([ran.code, server.asked]).toEqual([2, []]);
    expect(ran.stderr).toContain(`${dir} has no Dockerfile`);
  });
});
