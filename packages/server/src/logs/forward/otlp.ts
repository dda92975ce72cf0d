import { messageOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";
import { BusyError, type Exporter, type ForwardedEvent, RefusedError } from "./forwarder.ts";

export interface OtlpOptions {
  /** Where logs are posted to, as it is: `http://collector:4318/v1/logs`. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly region: string;
  readonly log: Log;
}

/** Answers after which the same request may succeed. Source: OTLP specification 1.x, "Retryable Response Codes". */
const RETRYABLE = new Set([429, 502, 503, 504]);
const MOST_ANSWER = 64 * 1024;

/** Sends events as OTLP/HTTP in its JSON form: one request, one message, no library needed. */
export function otlpExporter({ endpoint, headers, region, log }: OtlpOptions): Exporter {
  return {
    name: `OTLP ${endpoint}`,
    mostMs: Number.POSITIVE_INFINITY,
    keyOf: () => "",
    async send(events, signal) {
      let response: Response;
      try {
        response = await fetch(endpoint, {
          method: "POST",
          headers: { ...headers, "content-type": "application/json" },
          body: JSON.stringify(messageFor(events, region)),
          redirect: "error",
          signal,
        });
      } catch (err) {
        throw new BusyError(`${endpoint} does not answer: ${causeOf(err)}`);
      }
      const answer = await beginningOf(response);
      if (RETRYABLE.has(response.status))
        throw new BusyError(`${endpoint} answers ${response.status}`, retryAfterMs(response));
      if (!response.ok) throw new RefusedError(`${endpoint} answers ${response.status}: ${answer.slice(0, 256)}`);
      const rejected = rejectedBy(answer);
      if (rejected) log.warn({ endpoint, ...rejected }, "log events refused");
    },
    close() {},
  };
}

/** Events of one stream under one resource, with the names that the semantic conventions give to what it is. */
function messageFor(events: readonly ForwardedEvent[], region: string): object {
  const streams = new Map<string, ForwardedEvent[]>();
  for (const one of events) {
    const key = JSON.stringify([one.target.accountId, one.target.group, one.target.stream]);
    const of = streams.get(key);
    if (of) of.push(one);
    else streams.set(key, [one]);
  }
  return {
    resourceLogs: [...streams.values()].map((of) => {
      const { accountId, group, stream } = of[0]!.target;
      return {
        resource: {
          attributes: [
            { key: "service.name", value: { stringValue: group } },
            { key: "cloud.region", value: { stringValue: region } },
            { key: "cloud.account.id", value: { stringValue: accountId } },
            { key: "aws.log.group.names", value: { arrayValue: { values: [{ stringValue: group }] } } },
            { key: "aws.log.stream.names", value: { arrayValue: { values: [{ stringValue: stream }] } } },
          ],
        },
        scopeLogs: [
          {
            scope: { name: "torpor" },
            logRecords: of.map(({ event }) => ({
              timeUnixNano: `${event.time}000000`,
              observedTimeUnixNano: `${event.ingested}000000`,
              body: { stringValue: event.text },
            })),
          },
        ],
      };
    }),
  };
}

/** A collector may take a request and refuse some of it. */
function rejectedBy(answer: string): { readonly events: number; readonly reason: string } | undefined {
  let partial: { readonly rejectedLogRecords?: unknown; readonly errorMessage?: unknown };
  try {
    partial = Object(Object(JSON.parse(answer)).partialSuccess);
  } catch {
    return undefined; // empty, or not what it should be: the status counts
  }
  const events = Number(partial.rejectedLogRecords ?? 0);
  return events > 0 ? { events, reason: String(partial.errorMessage ?? "").slice(0, 256) } : undefined;
}

/** Whatever else follows is not waited for. */
async function beginningOf(response: Response): Promise<string> {
  let text = "";
  try {
    const decoder = new TextDecoder();
    for await (const chunk of response.body ?? []) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > MOST_ANSWER) break;
    }
  } catch {
    // the status has come: it counts
  }
  return text;
}

function retryAfterMs(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined;
}

const causeOf = (err: unknown): string => {
  const { cause } = Object(err) as { readonly cause?: unknown };
  return messageOf(cause ?? err);
};

/**
 * `name=value,name=value`, values percent-encoded, as OTEL_EXPORTER_OTLP_HEADERS has it.
 * @throws Error with what was expected
 */
export function parseOtlpHeaders(text: string): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const pair of text.split(",").filter((part) => part.trim() !== "")) {
    const [, name, value] = /^\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*=\s*(\S*)\s*$/.exec(pair) ?? [];
    if (name === undefined || value === undefined) throw new Error("expected name=value,name=value");
    try {
      headers[name.toLowerCase()] = decodeURIComponent(value);
    } catch {
      throw new Error("expected values that are percent-encoded");
    }
  }
  return headers;
}
