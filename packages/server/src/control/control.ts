import { join } from "node:path";
import type { BlobSource } from "../blobs/blob-store.ts";
import type { Config } from "../config.ts";
import type { HostClient } from "../host/host-client.ts";
import type { Clock } from "../lib/clock.ts";
import type { Log } from "../lib/log.ts";
import { type LogsConfig, openLogs } from "../logs/open-logs.ts";
import type { Store } from "../store/store.ts";
import { AuditOperations } from "./audit/operations.ts";
import type { AuditTrail } from "./audit/trail.ts";
import { Checkpoints } from "./checkpoint/checkpoints.ts";
import { CheckpointOperations } from "./checkpoint/operations.ts";
import { ConnectorChanges } from "./connector/changes.ts";
import { readNetworkFile } from "./connector/network-file.ts";
import { connectorOperations } from "./connector/operations.ts";
import { Reach } from "./connector/reach.ts";
import type { EndpointGate } from "./endpoint-gate.ts";
import { ControlExtensions } from "./extensions.ts";
import { Gate } from "./gate.ts";
import { Idempotency } from "./idempotency.ts";
import { AccountOperations } from "./identity/account-operations.ts";
import { Authority } from "./identity/authority.ts";
import { KeyOperations } from "./identity/key-operations.ts";
import { Keys } from "./identity/keys.ts";
import type { Sealer } from "./identity/sealer.ts";
import { IdlePolicies } from "./idle.ts";
import { BuildLogs } from "./image/build-log.ts";
import { Builds } from "./image/builds.ts";
import { Deletions } from "./image/deletions.ts";
import { managedImageOperations } from "./image/managed-operations.ts";
import { imageOperations } from "./image/operations.ts";
import { Templates } from "./image/templates.ts";
import { versionOperations } from "./image/version-operations.ts";
import { BuildOutput } from "./logs/build-output.ts";
import { LogCollector } from "./logs/collector.ts";
import { LogReading } from "./logs/reading.ts";
import { Fleet } from "./microvm/fleet.ts";
import { Lifecycle } from "./microvm/lifecycle.ts";
import { microvmOperations } from "./microvm/operations.ts";
import { Retention } from "./microvm/retention.ts";
import type { EndpointName } from "./microvm/view.ts";
import { QuotaOperations } from "./quota/operations.ts";
import { Quotas } from "./quota/quotas.ts";
import { Reconciler } from "./reconcile.ts";
import type { Operations, Rates } from "./request-context.ts";
import { GuestCredentials } from "./role/guest-credentials.ts";
import { readRoleFile } from "./role/role-file.ts";
import { Roles } from "./role/roles.ts";
import { SteadyTime } from "./steady-time.ts";
import { tagOperations } from "./tag/operations.ts";
import { Tasks } from "./tasks.ts";
import type { TokenService } from "./token/token.ts";

/** How long work on hosts may go on when the server closes; what is left then is the next server's. */
const CLOSE_GRACE_MS = 10_000;

export interface ControlDeps {
  readonly config: LogsConfig &
    Pick<
      Config,
      | "accountId"
      | "quotaPreset"
      | "quotas"
      | "region"
      | "allowEmulatedAccounts"
      | "dataDir"
      | "maxMicrovms"
      | "endedRetentionHours"
      | "maxConcurrentBuilds"
      | "maxArtifactBytes"
      | "roleFile"
      | "networkFile"
      | "slotCidr"
      | "strictRoles"
    >;
  readonly store: Store;
  readonly host: HostClient;
  readonly tokens: TokenService;
  readonly sealer: Sealer;
  readonly trail: Pick<AuditTrail, "folder" | "end" | "changed">;
  readonly blobs: BlobSource;
  readonly clock: Clock;
  readonly log: Log;
  readonly endpointName: EndpointName;
}

export interface Control {
  readonly operations: Operations;
  readonly gate: EndpointGate;
  readonly keys: Keys;
  readonly rates: Rates;
  readonly authority: Authority;
  readonly extensions: ControlExtensions;
  /** How long the account's microvms may live, in seconds. */
  readonly longestLife: (accountId: string) => number;
  /** Resolves when the rows agree with the host: from then on requests may come. The policies run from then on. */
  start(): Promise<void>;
  /** Stops the policies, gives work in progress a while, and leaves microvms running. */
  close(): Promise<void>;
  /** Resolves when nothing that was begun is still going on; what time decides is not waited for. */
  settled(): Promise<void>;
}

/** The control plane: operations, state machines and policies over one store and one host. Call `start` before use. */
export async function createControl(deps: ControlDeps): Promise<Control> {
  const { config, store, host, tokens, sealer, trail, blobs, clock, log, endpointName } = deps;
  const stopping = new AbortController();
  const abandoning = new AbortController();
  const shutdown = abandoning.signal;
  const tasks = new Tasks(log);
  const policies = new Tasks(log);
  const steady = await SteadyTime.load(clock, store.settings);

  const quotas = await Quotas.load({ config, rows: store.accountQuotas });
  const fleet = new Fleet({ store, clock, log, shutdown, maxMicrovms: config.maxMicrovms, quotas });
  const roles = new Roles({ commands: readRoleFile(config.roleFile), strict: config.strictRoles, clock, shutdown });
  const networks = readNetworkFile(config.networkFile, config.slotCidr);
  const reach = new Reach({ networks, region: config.region, store });
  const credentials = new GuestCredentials({ roles, fleet, host, clock, log });
  const lifecycle = new Lifecycle({ fleet, host, credentials, clock, steady, tasks, log, shutdown });
  const checkpoints = new Checkpoints({ fleet, lifecycle, host, store, clock, log, shutdown });
  const buildLogs = new BuildLogs(join(config.dataDir, "logs", "builds"), log);
  const templates = new Templates({ host, store, log });
  const deletions = new Deletions({ store, templates, logs: buildLogs, clock, tasks, log });
  const reconciler = new Reconciler({
    fleet,
    lifecycle,
    checkpoints,
    deletions,
    templates,
    host,
    store,
    clock,
    steady,
    log,
    shutdown,
  });
  const logs = await openLogs(join(config.dataDir, "logs", "groups"), config, clock, log);
  const collector = new LogCollector({
    fleet,
    host,
    logs: logs.store,
    tasks: policies,
    log,
    stopping: stopping.signal,
  });
  const idle = new IdlePolicies({ fleet, lifecycle, store, clock, steady, log });
  const builds = new Builds({
    config,
    store,
    host,
    roles,
    blobs,
    logs: buildLogs,
    output: new BuildOutput(logs.store, clock),
    clock,
    tasks,
    log,
    shutdown: stopping.signal,
  });
  const retention = new Retention({ config, store, host, clock, log });
  const idempotency = new Idempotency(store, clock);
  const connectorChanges = new ConnectorChanges({ store, clock, tasks, log, shutdown });
  const serverAccountId = config.accountId;
  const keys = new Keys({ rows: store.accessKeys, sealer, clock, log });
  const keyOperations = new KeyOperations({ store, keys, clock, serverAccountId });
  const accounts = new AccountOperations({
    store,
    keyOperations,
    facts: host.facts,
    serverAccountId,
    allowEmulated: config.allowEmulatedAccounts,
    clock,
  });

  return {
    operations: {
      ...microvmOperations({
        config,
        store,
        host,
        fleet,
        lifecycle,
        roles,
        reach,
        quotas,
        clock,
        steady,
        idempotency,
        tokens,
        endpointName,
      }),
      ...imageOperations({
        config,
        facts: host.facts,
        store,
        builds,
        deletions,
        roles,
        reach,
        quotas,
        clock,
        idempotency,
      }),
      ...versionOperations({ store, templates, deletions, clock, tasks }),
      ...managedImageOperations({ config, facts: host.facts }),
      ...connectorOperations({ config, store, changes: connectorChanges, quotas, idempotency, clock }),
      ...tagOperations({ store, quotas }),
    },
    gate: new Gate({ fleet, lifecycle, host, store, clock, shutdown: stopping.signal }),
    rates: quotas,
    keys,
    authority: new Authority({ config, store, fleet }),
    longestLife: (accountId) => quotas.limit(accountId, "maximum-duration-seconds"),
    extensions: new ControlExtensions({
      store,
      fleet,
      host,
      buildLogs,
      quotas: new QuotaOperations({ config, quotas, fleet, store }),
      keys: keyOperations,
      accounts,
      audit: new AuditOperations(trail, serverAccountId),
      logs: new LogReading({ region: config.region, logs: logs.store }),
      checkpoints: new CheckpointOperations({
        store,
        fleet,
        lifecycle,
        checkpoints,
        roles,
        host,
        quotas,
        clock,
        steady,
        idempotency,
        tasks,
        endpointName,
      }),
    }),

    async start() {
      await accounts.open();
      await keys.open();
      await fleet.load();
      await builds.recover();
      await connectorChanges.recover();
      await reconciler.reconcile();
      await collector.start();
      policies.start("logs", () => logs.store.run(stopping.signal));
      policies.start("idle policies", () => idle.run(stopping.signal));
      policies.start("credentials", () => credentials.run(stopping.signal));
      policies.start("uses of keys", () => keys.run(stopping.signal));
      policies.start("retention", () => retention.run(stopping.signal));
      policies.start("reconciler", () => reconciler.run(stopping.signal));
    },

    async close() {
      stopping.abort(new Error("the server is closing"));
      const abandon = clock.after(CLOSE_GRACE_MS, () => abandoning.abort(new Error("the server is closing")));
      await policies.settled();
      await tasks.settled();
      await keys.recordUses().catch((err: unknown) => log.warn({ err }, "uses of access keys not recorded"));
      await logs.close();
      abandon();
      abandoning.abort(new Error("the server is closed"));
    },

    settled: () => tasks.settled(),
  };
}
