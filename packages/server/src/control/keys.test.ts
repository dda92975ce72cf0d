import { readFile, stat } from "node:fs/promises";
import { expect, test } from "vitest";
import { temporaryFolder, temporaryStore } from "../store/testing.ts";
import { credentialsPath, Keys, writeCredentials } from "./keys.ts";
import { FakeClock } from "./testing/fake-clock.ts";

test("the root key is made once for an account and found by its id", async () => {
  const { accessKeys } = await temporaryStore();
  const keys = new Keys(accessKeys, new FakeClock());
  const root = await keys.rootKey("000000000000");
  expect(root.accessKeyId).toMatch(/^AKIA[A-Z2-7]{16}$/);
  expect(root.secretAccessKey).toMatch(/^[A-Za-z0-9+/]{40}$/);
  expect(root.principalArn).toBe("arn:aws:iam::000000000000:root");
  expect(await new Keys(accessKeys, new FakeClock()).rootKey("000000000000")).toEqual(root);
  expect(await keys.find(root.accessKeyId)).toEqual(root);
  expect(await keys.find("AKIAUNKNOWN")).toBeUndefined();
  const other = await keys.rootKey("111122223333");
  expect(other.accessKeyId).not.toBe(root.accessKeyId);
  expect(other.secretAccessKey).not.toBe(root.secretAccessKey);
});

test("credentials are written whole and for their owner alone", async () => {
  const folder = await temporaryFolder();
  const credentials = {
    accessKeyId: "AKIAAAAAAAAAAAAAAAAA",
    secretAccessKey: "s".repeat(40),
    region: "us-east-1",
    accountId: "000000000000",
    endpointUrl: "http://127.0.0.1:4700",
    endpointPort: 4743,
    caFile: "/ca.pem",
  };
  expect(await writeCredentials(folder, credentials)).toBe(credentialsPath(folder));
  expect(JSON.parse(await readFile(credentialsPath(folder), "utf8"))).toEqual(credentials);
  expect((await stat(credentialsPath(folder))).mode & 0o777).toBe(0o600);
});
