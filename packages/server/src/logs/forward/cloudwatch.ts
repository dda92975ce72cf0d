import {
  CloudWatchLogsClient,
  CreateLogGroupCommand,
  CreateLogStreamCommand,
  InvalidParameterException,
  PutLogEventsCommand,
  ResourceAlreadyExistsException,
  ResourceNotFoundException,
} from "@aws-sdk/client-cloudwatch-logs";
import type { Log } from "../../lib/log.ts";
import type { LogTarget } from "../names.ts";
import { type Exporter, RefusedError } from "./forwarder.ts";

export interface CloudWatchOptions {
  readonly region: string;
  /** Empty: AWS's own. */
  readonly endpoint: string;
  /** Empty: what the SDK finds, for example an instance's role. */
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly log: Log;
}

/** Events of one request may not lie further apart. */
const DAY_MS = 24 * 3600 * 1000;

/** Puts events into log groups and streams of the same names on AWS, and makes those that are not there. */
export function cloudWatchExporter(options: CloudWatchOptions): Exporter {
  const { region, endpoint, accessKeyId, secretAccessKey, log } = options;
  const client = new CloudWatchLogsClient({
    region,
    maxAttempts: 1, // the forwarder tries again
    ...(endpoint && { endpoint }),
    ...(accessKeyId && { credentials: { accessKeyId, secretAccessKey } }),
  });
  return {
    name: `CloudWatch Logs in ${region}`,
    mostMs: DAY_MS - 1000,
    keyOf: ({ accountId, group, stream }) => JSON.stringify([accountId, group, stream]),
    async send(events, abortSignal) {
      const { target } = events[0]!;
      const put = new PutLogEventsCommand({
        logGroupName: target.group,
        logStreamName: target.stream,
        // An event without a text is refused there, and all of its request with it.
        logEvents: events.map(({ event }) => ({
          timestamp: event.time,
          message: event.text === "" ? " " : event.text,
        })),
      });
      try {
        const { rejectedLogEventsInfo } = await client.send(put, { abortSignal }).catch(async (err: unknown) => {
          if (!(err instanceof ResourceNotFoundException)) throw err;
          await createTarget(client, target, abortSignal);
          return await client.send(put, { abortSignal });
        });
        if (rejectedLogEventsInfo) log.warn({ ...target, ...rejectedLogEventsInfo }, "log events refused");
      } catch (err) {
        if (err instanceof InvalidParameterException) throw new RefusedError(err.message, { cause: err });
        throw err;
      }
    },
    close: () => client.destroy(),
  };
}

async function createTarget(
  client: CloudWatchLogsClient,
  { group, stream }: LogTarget,
  abortSignal: AbortSignal,
): Promise<void> {
  const there = (err: unknown): void => {
    if (!(err instanceof ResourceAlreadyExistsException)) throw err;
  };
  await client.send(new CreateLogGroupCommand({ logGroupName: group }), { abortSignal }).catch(there);
  const names = { logGroupName: group, logStreamName: stream };
  await client.send(new CreateLogStreamCommand(names), { abortSignal }).catch(there);
}
