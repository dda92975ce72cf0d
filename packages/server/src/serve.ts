import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { createS3Handler } from "./api/s3/s3-handler.ts";
import { createApiServer } from "./api/server.ts";
import { Throttle } from "./api/throttle.ts";
import type { BlobSource } from "./blobs/blob-store.ts";
import { fileBlobSource } from "./blobs/file-source.ts";
import { FileStore } from "./blobs/file-store.ts";
import { s3BlobSource } from "./blobs/s3-source.ts";
import { type Config, endpointDomain, type Origins } from "./config.ts";
import { AuditTrail } from "./control/audit/trail.ts";
import { createControl } from "./control/control.ts";
import { writeCredentials } from "./control/identity/credentials-file.ts";
import { Sealer } from "./control/identity/sealer.ts";
import { openTokenService } from "./control/token/token-service.ts";
import { openAuthority } from "./endpoint/authority.ts";
import { ownFiles } from "./endpoint/certificate/own-certificate.ts";
import { frontOf } from "./endpoint/front.ts";
import { createEndpointServer } from "./endpoint/server.ts";
import type { HostClient } from "./host/host-client.ts";
import { openHost } from "./host/open-host.ts";
import { systemClock } from "./lib/clock.ts";
import type { Log } from "./lib/log.ts";
import { openStore } from "./store/open.ts";
import { version } from "./version.ts";

/**
 * Builds every room of the server, each on those below it, and runs until SIGINT or SIGTERM. What is built later is
 * closed earlier. Microvms outlive the server: the next one adopts them.
 * @param openMachine gives what runs the microvms; without VMs for tests and benches of all that is above
 */
export async function serve(
  config: Config,
  _origins: Origins,
  log: Log,
  openMachine: (config: Config, log: Log, signal: AbortSignal) => Promise<HostClient> = openHost,
): Promise<void> {
  const stopped = stopSignal(log);
  // Settings that contradict each other end it before anything is touched.
  const front = frontOf(config);
  const own = ownFiles(config.endpointCertificate, config.endpointKey);
  await using rooms = new AsyncDisposableStack();
  const clock = systemClock;
  await mkdir(config.dataDir, { recursive: true, mode: 0o700 });

  const store = await openStore(join(config.dataDir, "torpor.db"), log);
  rooms.defer(() => store.close());
  const host = await openMachine(config, log, stopped);
  rooms.defer(() => host.close());
  const objects = await FileStore.open(join(config.dataDir, "s3"), {
    maxObjectBytes: config.maxObjectBytes,
    reservedBytes: config.reservedDiskMib * 2 ** 20,
    clock,
    log,
  });
  const blobs: BlobSource = config.s3Endpoint ? rooms.use(s3BlobSource(externalS3(config))) : fileBlobSource(objects);
  const tokens = rooms.use(await openTokenService(join(config.dataDir, "keys", "endpoint-tokens.json"), clock, log));
  const sealer = await Sealer.open(join(config.dataDir, "keys", "access-keys.json"), clock);
  const trail = await AuditTrail.open({
    folder: join(config.dataDir, "audit"),
    maxFileBytes: config.auditFileMib * 2 ** 20,
    maxFiles: config.auditFiles,
    log,
  });
  rooms.defer(() => trail.close());
  const certificates = await openAuthority({
    dataDir: config.dataDir,
    domain: endpointDomain(config),
    own,
    clock,
    log,
  });
  rooms.use(certificates);
  const reload = (): void => void certificates.renewIfDue();
  process.on("SIGHUP", reload);
  rooms.defer(() => void process.off("SIGHUP", reload));

  const control = await createControl({
    config,
    store,
    host,
    tokens,
    sealer,
    trail,
    blobs,
    clock,
    log,
    endpointName: (label) => {
      const port = config.endpointPublicPort || endpoint.address.port;
      return `${label}.${endpointDomain(config)}${port === 443 ? "" : `:${port}`}`;
    },
  });
  rooms.defer(() => control.close());
  const endpoint = rooms.use(
    createEndpointServer({
      host: config.endpointHost,
      port: config.endpointPort,
      domain: endpointDomain(config),
      tls: certificates,
      gate: control.gate,
      tokens,
      log,
      clock,
      front,
      limits: { maxConnectionsPerAddress: config.endpointMaxPerAddress },
    }),
  );
  const { keys, rates, authority: admission, operations, extensions } = control;
  const throttle = new Throttle(rates, clock);
  const s3 = createS3Handler({
    store: objects,
    keys,
    throttle,
    audit: trail,
    clock,
    log,
    region: config.region,
  });
  const api = rooms.use(
    await createApiServer({
      config,
      version,
      log,
      clock,
      keys,
      throttle,
      admission,
      audit: trail,
      longestLife: control.longestLife,
      operations,
      extensions,
      s3,
    }),
  );

  await endpoint.listen();
  await control.start();
  await api.listen();
  const endpointUrl = api.address;
  await keys.publishRootKey(config.accountId, ({ accessKeyId, secretAccessKey }) =>
    writeCredentials(config.dataDir, {
      endpointUrl,
      endpointPort: config.endpointPublicPort || endpoint.address.port,
      region: config.region,
      accountId: config.accountId,
      accessKeyId,
      secretAccessKey,
      caFile: certificates.caFile,
    }),
  );
  log.info({ api: endpointUrl, endpoint: endpoint.address, isolation: host.facts.isolation }, "serving");
  await new Promise<void>((resolve) => {
    if (stopped.aborted) resolve();
    else stopped.addEventListener("abort", () => resolve(), { once: true });
  });
  log.info("stopping; microvms run on");
}

const externalS3 = (config: Config): Parameters<typeof s3BlobSource>[0] => ({
  endpoint: config.s3Endpoint,
  region: config.region,
  accessKeyId: config.s3AccessKeyId,
  secretAccessKey: config.s3SecretAccessKey,
  forcePathStyle: config.s3ForcePathStyle,
});

/** Aborted by the first SIGINT or SIGTERM; a second one ends the process at once. */
function stopSignal(log: Log): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const)
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(1);
      log.info({ signal: name }, "stop requested");
      controller.abort(new Error(`stopped by ${name}`));
    });
  return controller.signal;
}
