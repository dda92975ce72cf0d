import { describe, expect, test } from "vitest";
import { ApiError, TorporClient, UnreachableError } from "../../src/index.ts";
import { KEY, listen, type Seen, signatureIsRight } from "./server.ts";

const signal = new AbortController().signal;
const client = (endpointUrl: string) => new TorporClient({ endpointUrl, region: "eu-test-1", credentials: KEY });
const IMAGE = "arn:aws:lambda:eu-test-1:000000000000:microvm-image:demo";
const MICROVM = {
  microvmId: "microvm-3f0c2b7e-8a41-3d5c-9e77-1b2c3d4e5f60",
  state: "PENDING",
  endpoint: "9a41c6d2.lambda-microvm.eu-test-1.localhost",
  imageArn: IMAGE,
  imageVersion: "1.0",
  idlePolicy: null,
  maximumDurationInSeconds: 28800,
  startedAt: 1789483142.026,
  somethingNew: 1,
};

describe("an operation", () => {
  test("goes out signed, as the operation table lays it out", async () => {
    await using server = await listen((_, response) => response.end(JSON.stringify(MICROVM)));
    const vm = await client(server.url).call("RunMicrovm", { imageIdentifier: IMAGE, runHookPayload: "{}" }, signal);
    const [seen] = server.seen;
    expect(seen).toMatchObject({ method: "POST", url: "/2025-09-09/microvms" });
    expect(JSON.parse(seen?.body ?? "")).toEqual({
      imageIdentifier: IMAGE,
      runHookPayload: "{}",
      clientToken: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect(await signatureIsRight(seen as Seen, "lambda")).toBe(true);
    expect(vm.startedAt).toEqual(new Date(1789483142026));
    expect(vm).not.toHaveProperty("idlePolicy");
    expect(vm).not.toHaveProperty("somethingNew");
  });

  test("encodes an ARN as one path segment, and its signature still fits", async () => {
    await using server = await listen((_, response) =>
      response.end(JSON.stringify({ imageArn: IMAGE, name: "demo", state: "CREATED", createdAt: 1 })),
    );
    await client(server.url).call("GetMicrovmImage", { imageIdentifier: IMAGE }, signal);
    expect(server.seen[0]?.url).toBe(`/2025-09-09/microvm-images/${encodeURIComponent(IMAGE)}`);
    expect(server.seen[0]?.body).toBe("");
    expect(await signatureIsRight(server.seen[0] as Seen, "lambda")).toBe(true);
  });

  test("puts list parameters into the query, and its signature still fits", async () => {
    await using server = await listen((_, response) => response.end('{"items":[],"nextToken":null}'));
    const page = await client(server.url).call(
      "ListMicrovms",
      { imageIdentifier: IMAGE, maxResults: 50, nextToken: "a b+c/d=" },
      signal,
    );
    expect(page).toEqual({ items: [] });
    expect(server.seen[0]?.url).toContain("nextToken=a%20b%2Bc%2Fd%3D");
    expect(await signatureIsRight(server.seen[0] as Seen, "lambda")).toBe(true);
  });

  test("lists page after page, as large as they get", async () => {
    const item = { imageArn: IMAGE, name: "demo", state: "CREATED", createdAt: 1 };
    const pages = [
      { items: [item, item], nextToken: "a+b" },
      { items: [], nextToken: "c" },
      { items: [item], nextToken: null },
    ];
    await using server = await listen((_, response) => response.end(JSON.stringify(pages.shift())));
    const listed = await Array.fromAsync(client(server.url).list("ListMicrovmImages", { nameFilter: "de mo" }, signal));
    expect(listed).toEqual(Array(3).fill({ ...item, createdAt: new Date(1000) }));
    const path = "/2025-09-09/microvm-images";
    expect(server.seen.map(({ url }) => new URL(url, server.url).searchParams.get("nextToken"))).toEqual([
      null,
      "a+b",
      "c",
    ]);
    for (const { url } of server.seen) expect(url).toMatch(`${path}?`);
    expect(new URL(server.seen[2]?.url ?? "", server.url).searchParams.get("nameFilter")).toBe("de mo");
    expect(new URL(server.seen[2]?.url ?? "", server.url).searchParams.get("maxResults")).toBe("50");
  });

  test("refuses an id that would climb out of the path", async () => {
    await using server = await listen((_, response) => response.end("{}"));
    await expect(client(server.url).call("GetMicrovm", { microvmIdentifier: ".." }, signal)).rejects.toThrow(
      "cannot be part of a path",
    );
    expect(server.seen).toEqual([]);
  });

  test("fails clearly when the answer is not the operation's", async () => {
    await using server = await listen((_, response) => response.end("<html>hello</html>"));
    await expect(client(server.url).call("GetMicrovm", { microvmIdentifier: "x" }, signal)).rejects.toThrow("not JSON");
    await using other = await listen((_, response) => response.end('{"hello":1}'));
    await expect(client(other.url).call("GetMicrovm", { microvmIdentifier: "x" }, signal)).rejects.toThrow(
      "the answer has no microvmId",
    );
  });
});

describe("an error", () => {
  test("carries status, type, message and request id", async () => {
    await using server = await listen((_, response) =>
      response
        .writeHead(404, { "x-amzn-errortype": "ResourceNotFoundException", "x-amzn-requestid": "r-1" })
        .end('{"message":"MicroVM not found: x"}'),
    );
    const err = await client(server.url)
      .call("GetMicrovm", { microvmIdentifier: "x" }, signal)
      .catch((e: unknown) => e);
    expect(err).toBeInstanceOf(ApiError);
    expect(err).toMatchObject({
      status: 404,
      type: "ResourceNotFoundException",
      message: "MicroVM not found: x",
      requestId: "r-1",
    });
  });

  test("has a type and a message whatever the body is", async () => {
    await using server = await listen((_, response) => response.writeHead(502).end("<html>bad gateway</html>"));
    await expect(client(server.url).health(signal)).rejects.toMatchObject({ status: 502, type: "HTTP502" });
  });

  test("says where nothing listens", async () => {
    const server = await listen((_, response) => response.end());
    await server[Symbol.asyncDispose]();
    const err = await client(server.url)
      .health(signal)
      .catch((e: unknown) => e);
    expect(err).toBeInstanceOf(UnreachableError);
    expect(String(err)).toContain(server.url);
    expect(String(err)).toContain("ECONNREFUSED");
  });

  test("is the signal's reason when the caller gave up", async () => {
    const abort = new AbortController();
    await using server = await listen(() => abort.abort(new Error("enough")));
    await expect(client(server.url).health(abort.signal)).rejects.toThrow("enough");
  });
});

test("a list in the query is sent one by one, under the name that the wire has for it", async () => {
  await using server = await listen((_, response) => void response.writeHead(204).end());
  const input = { Resource: IMAGE, TagKeys: ["a b", "c&d"] };
  expect(await client(server.url).call("UntagResource", input)).toEqual({});
  expect(server.seen[0]?.url).toMatch(/^\/2017-03-31\/tags\/arn%3A.*\?tagKeys=a%20b&tagKeys=c%26d$/);
});

describe("logs", () => {
  test("arrive line by line, and giving up ends them", async () => {
    const abort = new AbortController();
    await using server = await listen((_, response) => {
      response.write('{"time":1,"stream":"stdout","text":"one"}\n{"time":2,"stream":"std');
      response.write('err","text":"två"}\n');
    });
    const got: string[] = [];
    const read = async (): Promise<void> => {
      for await (const line of client(server.url).logs("microvm-1", { follow: true }, abort.signal)) {
        got.push(`${line.stream} ${line.text}`);
        if (got.length === 2) abort.abort(new Error("enough"));
      }
    };
    await expect(read()).rejects.toThrow("enough");
    expect(got).toEqual(["stdout one", "stderr två"]);
    expect(server.seen[0]?.url).toContain("follow=true");
  });

  test("of a build are text as it comes", async () => {
    await using server = await listen((_, response) => response.end("STEP 1: FROM x\nSTEP 2: RUN y\n"));
    let text = "";
    const build = { imageIdentifier: IMAGE, imageVersion: "1.0" };
    for await (const piece of client(server.url).buildLog(build, { follow: false }, signal)) text += piece;
    expect(text).toBe("STEP 1: FROM x\nSTEP 2: RUN y\n");
  });
});

test("a build is watched from its first line to its end, each line once", async () => {
  const version = {
    baseImageArn: "b",
    buildRoleArn: "r",
    codeArtifact: { uri: "s3://b/k" },
    imageArn: IMAGE,
    imageVersion: "1.0",
    status: "ACTIVE",
    createdAt: 1,
  };
  const states = ["PENDING", "IN_PROGRESS", "SUCCESSFUL"];
  const logs = ["", "one\n", "one\ntwo\n"];
  await using server = await listen((seen, response) =>
    response.end(seen.url.includes("/log") ? logs.shift() : JSON.stringify({ ...version, state: states.shift() })),
  );
  const texts = client(server.url).watchBuild({ imageIdentifier: IMAGE, imageVersion: "1.0" });
  expect(await Array.fromAsync(texts)).toEqual(["one\n", "two\n"]);
  expect([states, logs]).toEqual([[], []]);
});

describe("Torpor's own operations", () => {
  const receipt = {
    operation: "build",
    startedAt: "2026-11-24T00:00:00.000Z",
    totalMs: 1.5,
    phases: [{ name: "boot", ms: 1 }],
    bytesRead: 1,
    bytesWritten: 2,
    reused: ["layer cache"],
  };

  test("give receipts as they are", async () => {
    await using server = await listen((seen, response) =>
      response.end(JSON.stringify(seen.url.endsWith("/receipt") ? receipt : { items: [receipt] })),
    );
    const image = { imageIdentifier: IMAGE, imageVersion: "1.0" };
    expect(await client(server.url).buildReceipt(image)).toEqual(receipt);
    expect(await client(server.url).receipts("microvm-1")).toEqual([receipt]);
    expect(server.seen.map((seen) => decodeURIComponent(seen.url))).toEqual([
      `/torpor/v1/images/${IMAGE}/versions/1.0/receipt`,
      "/torpor/v1/microvms/microvm-1/receipts",
    ]);
  });

  test("refuse what is something else", async () => {
    for (const wrong of [{}, { items: [{ ...receipt, phases: [1] }] }, { items: [{ ...receipt, totalMs: "1" }] }]) {
      await using server = await listen((_, response) => response.end(JSON.stringify(wrong)));
      await expect(client(server.url).receipts("microvm-1")).rejects.toMatchObject({ type: "BadResponse" });
      await expect(client(server.url).host()).rejects.toThrow("is no host");
      await expect(client(server.url).health()).rejects.toThrow("is no health");
    }
  });
});
