import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import { onTestFinished } from "vitest";
import type { FileStore } from "../../blobs/file-store.ts";
import { openStore, temporaryFolder } from "../../blobs/store/store.fixture.ts";
import type { AccessKey } from "../../control/request-context.ts";
import { type Clock, systemClock } from "../../lib/clock.ts";
import { createLog } from "../../lib/log.ts";
import type { Audit } from "../door.ts";
import { noThrottle } from "../throttle.fixture.ts";
import { createS3Handler, type S3HandlerOptions } from "./s3-handler.ts";

export const ALICE: AccessKey = {
  accessKeyId: "AKIAALICEALICEALICE1",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
  accountId: "111111111111",
  principalArn: "arn:aws:iam::111111111111:root",
  name: "root",
  access: "full",
  expiresAt: null,
};
export const BOB: AccessKey = {
  accessKeyId: "AKIABOBBOBBOBBOBBOB2",
  secretAccessKey: "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
  accountId: "222222222222",
  principalArn: "arn:aws:iam::222222222222:root",
  name: "root",
  access: "full",
  expiresAt: null,
};
const KEYS = new Map([ALICE, BOB].map((key) => [key.accessKeyId, key]));

export const NO_AUDIT: Audit = { ready: async () => {}, append: async () => {} };

export interface TestServer {
  readonly folder: string;
  readonly store: FileStore;
  readonly server: Server;
  readonly port: number;
  readonly endpoint: string;
  /** The real client, as a user would make it. */
  client(key?: AccessKey, more?: S3ClientConfig): S3Client;
}

/** A whole S3 on a port of its own, gone when the test ends. */
export async function startServer(
  options: Partial<S3HandlerOptions> & { maxObjectBytes?: number; clock?: Clock } = {},
): Promise<TestServer> {
  const folder = await temporaryFolder();
  const clock = options.clock ?? systemClock;
  const maxObjectBytes = options.maxObjectBytes ?? 2 ** 30;
  const store = await openStore(folder, { maxObjectBytes, clock });
  const keys = options.keys ?? { find: async (id: string) => KEYS.get(id), used: () => {} };
  const handler = createS3Handler({
    store,
    keys,
    throttle: noThrottle(),
    audit: NO_AUDIT,
    clock,
    log: createLog("silent"),
    region: "us-east-1",
    ...options,
  });
  const server = createServer((request, response) => void handler(request, response));
  server.on("checkContinue", (request, response) => void handler(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  const endpoint = `http://127.0.0.1:${port}`;
  return {
    folder,
    store,
    server,
    port,
    endpoint,
    client(key = ALICE, more = {}) {
      const client = new S3Client({
        endpoint,
        region: "us-east-1",
        forcePathStyle: true,
        maxAttempts: 1,
        credentials: { accessKeyId: key.accessKeyId, secretAccessKey: key.secretAccessKey },
        ...more,
      });
      onTestFinished(() => client.destroy());
      return client;
    },
  };
}
