import type { Config } from "../config.ts";
import type { Clock } from "../lib/clock.ts";
import { messageOf, TorporError } from "../lib/errors.ts";
import type { Log } from "../lib/log.ts";
import { type Exporter, Forwarder } from "./forward/forwarder.ts";
import { otlpExporter, parseOtlpHeaders } from "./forward/otlp.ts";
import { LogStore } from "./log-store.ts";

export type LogsConfig = Pick<
  Config,
  | "region"
  | "logRetentionDays"
  | "logMaxMib"
  | "otlpLogsEndpoint"
  | "otlpLogsHeaders"
  | "cloudwatchRegion"
  | "cloudwatchEndpoint"
  | "cloudwatchAccessKeyId"
  | "cloudwatchSecretAccessKey"
>;

export interface Logs {
  readonly store: LogStore;
  close(): Promise<void>;
}

const DAY_MS = 24 * 3600 * 1000;

/** The groups in the folder, and whoever they are forwarded to. */
export async function openLogs(folder: string, config: LogsConfig, clock: Clock, log: Log): Promise<Logs> {
  const store = await LogStore.open(folder, {
    clock,
    log,
    retentionMs: config.logRetentionDays * DAY_MS,
    maxBytes: config.logMaxMib * 2 ** 20,
  });
  const forwarders = (await exportersOf(config, log)).map((exporter) => new Forwarder({ exporter, clock, log }));
  for (const forwarder of forwarders) store.listen((target, _stream, events) => forwarder.add(target, events));
  return {
    store,
    close: async () => {
      await store.close();
      await Promise.all(forwarders.map((forwarder) => forwarder.close()));
    },
  };
}

/** @throws TorporError that names the setting, and not its value */
function otlpHeaders({ otlpLogsHeaders }: LogsConfig): Record<string, string> {
  try {
    return parseOtlpHeaders(otlpLogsHeaders);
  } catch (err) {
    throw new TorporError("invalid_input", `otlp-logs-headers: ${messageOf(err)}`);
  }
}

async function exportersOf(config: LogsConfig, log: Log): Promise<Exporter[]> {
  const exporters: Exporter[] = [];
  const { region } = config;
  if (config.otlpLogsEndpoint) {
    const headers = otlpHeaders(config);
    exporters.push(otlpExporter({ endpoint: config.otlpLogsEndpoint, headers, region, log }));
  }
  if (config.cloudwatchRegion) {
    // The SDK takes a while to load: only where somebody wants it.
    const { cloudWatchExporter } = await import("./forward/cloudwatch.ts");
    exporters.push(
      cloudWatchExporter({
        region: config.cloudwatchRegion,
        endpoint: config.cloudwatchEndpoint,
        accessKeyId: config.cloudwatchAccessKeyId,
        secretAccessKey: config.cloudwatchSecretAccessKey,
        log,
      }),
    );
  }
  for (const { name } of exporters) log.info({ exporter: name }, "log events are forwarded");
  return exporters;
}
