import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { parseQuotas } from "@torpor/protocol";
import { parse } from "smol-toml";
import { AddressList } from "./lib/address-list.ts";
import { messageOf, TorporError } from "./lib/errors.ts";

/**
 * The only reader of process.env. Every setting is here, with its default, its range and what it is for; flags win
 * over `TORPOR_*` variables, these over the TOML file, that over the default.
 */
interface Setting<T> {
  readonly describe: string;
  readonly fallback: T | ((home: string) => T);
  /** @throws Error with what was expected */
  readonly parse: (raw: unknown) => T;
  readonly secret?: true;
}

const text = (raw: unknown): string => {
  if (typeof raw !== "string" || raw === "") throw new Error("expected a non-empty text");
  return raw;
};
const optionalText = (raw: unknown): string => {
  if (typeof raw !== "string") throw new Error("expected a text");
  return raw;
};
const path = (raw: unknown): string => resolve(text(raw));
const optionalPath = (raw: unknown): string => (raw === "" ? "" : path(raw));
const integer =
  (min: number, max: number) =>
  (raw: unknown): number => {
    const n = typeof raw === "number" ? raw : typeof raw === "string" && /^-?\d+$/.test(raw) ? Number(raw) : Number.NaN;
    if (!Number.isSafeInteger(n) || n < min || n > max)
      throw new Error(`expected a whole number from ${min} to ${max}`);
    return n;
  };
const flag = (raw: unknown): boolean => {
  if (raw === true || raw === "true" || raw === "1") return true;
  if (raw === false || raw === "false" || raw === "0") return false;
  throw new Error("expected true or false");
};
const oneOf =
  <const T extends string>(...values: T[]) =>
  (raw: unknown): T => {
    if (!values.includes(raw as T)) throw new Error(`expected one of ${values.join(", ")}`);
    return raw as T;
  };
const matching =
  (pattern: RegExp, what: string) =>
  (raw: unknown): string => {
    if (typeof raw !== "string" || !pattern.test(raw)) throw new Error(`expected ${what}`);
    return raw;
  };
const quotaList = (raw: unknown): string => {
  const list = optionalText(raw);
  parseQuotas(list);
  return list;
};
const networks = (raw: unknown): string => {
  const list = optionalText(raw);
  new AddressList(list);
  return list;
};
const isRoot = (): boolean => process.getuid?.() === 0;

const SETTINGS = {
  dataDir: setting(
    "Everything that Torpor keeps: database, images, microvms, keys.",
    (home) => (isRoot() ? "/var/lib/torpor" : join(home, ".local/share/torpor")),
    path,
  ),
  artifactsDir: setting(
    "Guest kernel, initramfs, base images and build toolchain, as scripts/setup.sh makes them.",
    (home) => (isRoot() ? "/var/cache/torpor/artifacts" : join(home, ".cache/torpor/artifacts")),
    path,
  ),
  region: setting(
    "Region of all ARNs.",
    "us-east-1",
    matching(/^[a-z]{2}(-[a-z]+)+-\d$/, "a region such as us-east-1"),
  ),
  accountId: setting(
    "The server's own account: its keys look after all others, and its root key is in credentials.json.",
    "000000000000",
    matching(/^\d{12}$/, "twelve digits"),
  ),
  allowEmulatedAccounts: setting(
    "Serve several accounts although microvms are emulated, which keeps none of them from the others.",
    false,
    flag,
  ),
  apiHost: setting("Address that the API listens on.", "127.0.0.1", text),
  apiPort: setting("Port of the API; 0 takes any free one.", 4700, integer(0, 65535)),
  endpointHost: setting("Address that the microvms' HTTPS endpoint listens on.", "127.0.0.1", text),
  endpointPort: setting("Port of the microvms' HTTPS endpoint; 0 takes any free one.", 4743, integer(0, 65535)),
  endpointPublicPort: setting(
    "Port in the microvms' addresses, where a proxy in front has another one; 0 means endpoint-port.",
    0,
    integer(0, 65535),
  ),
  endpointDomain: setting(
    "Domain under which microvms get their names; empty means lambda-microvm.<region>.localhost.",
    "",
    optionalText,
  ),
  endpointCertificate: setting(
    "PEM file with a certificate for *.<endpoint-domain> and what signed it; empty means one of our own authority.",
    "",
    optionalPath,
  ),
  endpointKey: setting("PEM file with the key of endpoint-certificate.", "", optionalPath),
  trustedProxies: setting(
    "Addresses and networks of proxies before the endpoint whose word for a client's address counts, such as 10.0.0.0/8, ::1.",
    "",
    networks,
  ),
  proxyProtocol: setting(
    "on: connections of trusted-proxies begin with a PROXY header, version 1 or 2.",
    "off",
    oneOf("on", "off"),
  ),
  proxyHeader: setting(
    "The header in which trusted-proxies say for whom they ask; one only, since they pass the other on as clients made it up.",
    "x-forwarded-for",
    oneOf("x-forwarded-for", "forwarded"),
  ),
  endpointTls: setting(
    "off: a proxy ends TLS, and the endpoint takes plain HTTP/1.1, from trusted-proxies alone.",
    "on",
    oneOf("on", "off"),
  ),
  forwardedHeaders: setting(
    "What workloads hear of a client's address: aws adds nothing and passes on what came, set replaces X-Forwarded-For, -Host and -Proto.",
    "aws",
    oneOf("aws", "set"),
  ),
  endpointMaxPerAddress: setting(
    "Connections to the endpoint that one client address may have; behind trusted-proxies also its requests at once.",
    1000,
    integer(1, 10_000),
  ),
  logLevel: setting("debug, info, warn or error.", "info", oneOf("debug", "info", "warn", "error", "silent")),

  auditFileMib: setting("Size of a file of the audit trail, after which the next one is begun.", 16, integer(1, 1024)),
  auditFiles: setting("Files of the audit trail that are kept.", 16, integer(2, 1000)),

  qemuBinary: setting("The VMM.", "/usr/bin/qemu-system-x86_64", path),
  helperBinary: setting("The native helper; empty means the one among the artifacts.", "", optionalText),
  accelerator: setting(
    "auto boots a guest to find out whether KVM works; kvm and tcg insist.",
    "auto",
    oneOf("auto", "kvm", "tcg"),
  ),
  burst: setting(
    "Memory and vCPUs that a guest sees, as a multiple of the baseline; 0 means 4 with KVM, 1 without.",
    0,
    integer(0, 4),
  ),
  slotCidr: setting(
    "Addresses of the network slots, a /30 each.",
    "100.64.0.0/16",
    matching(/^\d+\.\d+\.0\.0\/16$/, "a /16 such as 100.64.0.0/16"),
  ),
  networkFile: setting(
    "TOML file that says what subnets and security groups of network connectors stand for; empty means none of them.",
    "",
    (raw) => (raw === "" ? "" : path(raw)),
  ),
  microvmBandwidth: setting(
    "MB/s each way for a microvm; 0 means the quota-preset's: 125, or with aws 2 for each GiB of its memory.",
    0,
    integer(0, 100_000),
  ),
  microvmConnections: setting(
    "Connections to other machines that a microvm may have open at once.",
    4096,
    integer(1, 1_000_000),
  ),
  microvmConnectionRate: setting(
    "Connections to other machines that a microvm may begin in a second.",
    250,
    integer(1, 100_000),
  ),
  vmmUidBase: setting("First of the user ids that VMMs run under, one a slot.", 210_000, integer(1000, 1_000_000_000)),
  builderUidBase: setting(
    "First of the 65536 user ids that image builds are mapped to.",
    300_000,
    integer(65_536, 1_000_000_000),
  ),
  endedRetentionHours: setting(
    "How long microvms that have ended stay listed, with their logs and receipts; 0 means for ever.",
    720,
    integer(0, 24 * 3660),
  ),
  maxMicrovms: setting("Microvms that this host runs at once.", 1000, integer(1, 16_000)),
  poolSize: setting(
    "Microvms of one image version that are kept restored ahead of need, at most; 0 keeps none, and no processes either.",
    4,
    integer(0, 1000),
  ),
  poolRequest: setting(
    "What a microvm is asked before it is kept ready: options sends its workload OPTIONS *, which asks for nothing; none does not.",
    "options",
    oneOf("options", "none"),
  ),
  standbySeconds: setting(
    "How long a suspended microvm's process is kept, so that it wakes at once; 0 ends it with the suspend.",
    120,
    integer(0, 86_400),
  ),
  warmMemoryMib: setting(
    "Memory for what is kept though nobody uses it: pool and standby; 0 means 15 % of the host's.",
    0,
    integer(0, 2 ** 30),
  ),
  maxConcurrentBuilds: setting("Image builds that this host makes at once; others wait.", 2, integer(1, 64)),
  buildTimeoutSeconds: setting("Longest time for a container build.", 1800, integer(10, 86_400)),
  buildNetwork: setting(
    "What RUN steps reach: slot (what the image's egress connectors let it reach), none, or host (for single users only).",
    "slot",
    oneOf("slot", "none", "host"),
  ),
  maxArtifactBytes: setting("Largest zip that is accepted.", 1 << 30, integer(1024, 2 ** 40)),
  maxUnpackedBytes: setting("Largest sum of the files in a zip.", 4 * 2 ** 30, integer(1024, 2 ** 42)),
  readyGraceSeconds: setting(
    "Without a ready hook: how long a build waits for the workload to listen on an exposed port (or 8080).",
    30,
    integer(0, 3600),
  ),
  reservedDiskMib: setting(
    "Space on the data directory's file system that builds and suspends leave free.",
    256,
    integer(0, 2 ** 30),
  ),
  scrubDays: setting(
    "After how many days checkpoints and what suspended microvms wake from are read again, to find damage; 0: never again.",
    7,
    integer(0, 3650),
  ),

  roleFile: setting(
    "TOML file that says where the credentials of execution and build roles come from; empty means nowhere.",
    "",
    optionalPath,
  ),
  strictRoles: setting("Refuse roles that are not in the role-file.", false, flag),

  quotaPreset: setting(
    "What accounts may have and how often they may ask: self-hosted is generous, aws is as there.",
    "self-hosted",
    oneOf("self-hosted", "aws"),
  ),
  quotas: setting(
    "Quotas other than the preset's, such as images=200, RunMicrovm.rate=5; torpor quotas lists them.",
    "",
    quotaList,
  ),

  logRetentionDays: setting("Log lines of groups and streams that are older are removed.", 30, integer(1, 3650)),
  logMaxMib: setting(
    "Log lines of groups and streams that are kept for one account; beyond it the oldest are removed.",
    1024,
    integer(16, 2 ** 24),
  ),
  otlpLogsEndpoint: setting(
    "Where log lines are posted to as OTLP/HTTP, such as http://collector:4318/v1/logs; empty means nowhere.",
    "",
    matching(/^(https?:\/\/[^\s]+)?$/, "an http or https URL"),
  ),
  otlpLogsHeaders: setting(
    "Headers sent with them: name=value,name=value, values percent-encoded.",
    "",
    optionalText,
    true,
  ),
  cloudwatchRegion: setting(
    "Region of AWS whose CloudWatch Logs gets log lines; empty means none.",
    "",
    matching(/^([a-z]{2}(-[a-z]+)+-\d)?$/, "a region such as us-east-1"),
  ),
  cloudwatchEndpoint: setting(
    "A CloudWatch Logs service to use instead of AWS's own; empty means AWS's.",
    "",
    matching(/^(https?:\/\/[^\s]+)?$/, "an http or https URL"),
  ),
  cloudwatchAccessKeyId: setting(
    "Access key for it; empty means whatever the AWS SDK finds on this machine.",
    "",
    optionalText,
  ),
  cloudwatchSecretAccessKey: setting("Secret for it.", "", optionalText, true),

  s3Endpoint: setting("An S3 service to use instead of the embedded one; empty means embedded.", "", optionalText),
  s3AccessKeyId: setting("Access key for s3Endpoint.", "", optionalText),
  s3SecretAccessKey: setting("Secret for s3Endpoint.", "", optionalText, true),
  s3ForcePathStyle: setting("Path-style requests to s3Endpoint.", true, flag),
  maxObjectBytes: setting("Largest object of the embedded S3.", 5 * 2 ** 30, integer(1, 2 ** 43)),
} as const;

function setting<T>(
  describe: string,
  fallback: T | ((home: string) => T),
  parse: (raw: unknown) => T,
  secret?: true,
): Setting<T> {
  return secret ? { describe, fallback, parse, secret } : { describe, fallback, parse };
}

type Settings = typeof SETTINGS;
export type SettingName = keyof Settings;
type Widen<T> = T extends string
  ? string extends T
    ? string
    : T
  : T extends number
    ? number
    : T extends boolean
      ? boolean
      : T;
export type Config = { readonly [K in SettingName]: Settings[K] extends Setting<infer T> ? Widen<T> : never };
/** Where a value came from: `default`, `file <path>`, `environment TORPOR_X`, `flag --x`. */
export type Origins = { readonly [K in SettingName]: string };

export interface ConfigSources {
  readonly flags?: Readonly<Record<string, unknown>>;
  readonly env?: NodeJS.ProcessEnv;
  /** TOML file; must exist when given. Default: `TORPOR_CONFIG`, else /etc/torpor/torpor.toml if it is there. */
  readonly file?: string;
}

/** @throws TorporError naming the setting, where it was set, its value and what was expected. */
export function loadConfig(sources: ConfigSources = {}): { config: Config; origins: Origins } {
  const env = sources.env ?? process.env;
  const file =
    sources.file ??
    env.TORPOR_CONFIG ??
    (existsSync("/etc/torpor/torpor.toml") ? "/etc/torpor/torpor.toml" : undefined);
  const fromFile = file === undefined ? {} : readToml(file);
  for (const name of Object.keys(fromFile))
    if (!(snakeToCamel(name) in SETTINGS)) throw new TorporError("invalid_input", `${file}: unknown setting "${name}"`);

  const config: Record<string, unknown> = {};
  const origins: Record<string, string> = {};
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const s = SETTINGS[name] as Setting<unknown>;
    const [raw, origin] = firstDefined([
      [sources.flags?.[name], `flag --${camelToKebab(name)}`],
      [env[envName(name)], `environment ${envName(name)}`],
      [fromFile[camelToSnake(name)] ?? fromFile[name], `file ${file}`],
    ]);
    if (origin === undefined) {
      config[name] =
        typeof s.fallback === "function"
          ? (s.fallback as (home: string) => unknown)(env.HOME ?? homedir())
          : s.fallback;
      origins[name] = "default";
      continue;
    }
    try {
      config[name] = s.parse(raw);
    } catch (err) {
      const shown = s.secret ? "(hidden)" : JSON.stringify(raw);
      throw new TorporError("invalid_input", `${camelToKebab(name)} (${origin}): ${messageOf(err)}, got ${shown}`);
    }
    origins[name] = origin;
  }
  return { config: Object.freeze(config) as Config, origins: Object.freeze(origins) as Origins };
}

/** One row a setting, secrets masked. */
export function describeConfig(
  config: Config,
  origins: Origins,
): { name: string; value: string; origin: string; describe: string }[] {
  return (Object.keys(SETTINGS) as SettingName[]).map((name) => ({
    name: camelToKebab(name),
    value: (SETTINGS[name] as Setting<unknown>).secret && config[name] !== "" ? "********" : String(config[name]),
    origin: origins[name],
    describe: SETTINGS[name].describe,
  }));
}

/** Every setting as a flag of the command line, in the order in which they are documented. */
export function settingFlags(): { flag: string; name: SettingName; describe: string }[] {
  return (Object.keys(SETTINGS) as SettingName[]).map((name) => ({
    flag: camelToKebab(name),
    name,
    describe: SETTINGS[name].describe,
  }));
}

/** The domain that microvm endpoints are named under. */
export function endpointDomain(config: Config): string {
  return config.endpointDomain || `lambda-microvm.${config.region}.localhost`;
}

function readToml(file: string): Record<string, unknown> {
  try {
    return parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  } catch (err) {
    throw new TorporError("invalid_input", `cannot read the configuration file ${file}: ${messageOf(err)}`);
  }
}

function firstDefined(candidates: [unknown, string][]): [unknown, string] | [undefined, undefined] {
  return candidates.find(([value]) => value !== undefined) ?? [undefined, undefined];
}

const camelToKebab = (name: string): string => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
const camelToSnake = (name: string): string => camelToKebab(name).replaceAll("-", "_");
const snakeToCamel = (name: string): string => name.replace(/[_-]([a-z])/g, (_, c: string) => c.toUpperCase());
const envName = (name: string): string => `TORPOR_${camelToSnake(name).toUpperCase()}`;
