/**
 * The quotas of an account as one table: what they bound, what is allowed by default, and what AWS allows. Limits of
 * the machine itself (how many microvms, builds at once, space on the disk) are settings of the server, not quotas.
 */

/** What a server for oneself allows, or what AWS allows: in most regions, or in its four largest for MicroVMs. */
export interface QuotaPresets {
  readonly selfHosted: number | null;
  readonly aws: number | null;
  readonly awsLarge?: number;
}

export interface QuotaDefinition {
  /** What is bounded, as a sentence's end: "how many images an account has". */
  readonly describe: string;
  readonly unit: string;
  /** `each`: a bound on every single thing, so nothing of it is ever used up. `address`: of every source address. */
  readonly scope: "account" | "each" | "operation" | "address";
  /** AWS's name for it; undefined where AWS has no such quota, or has not said how it is called. */
  readonly code?: string;
  /** Whether AWS raises it on request. */
  readonly adjustable: boolean;
  readonly presets: QuotaPresets;
  /** Values that make sense. Null, unlimited, is one of them unless `bounded`. */
  readonly min: number;
  readonly max: number;
  readonly bounded?: true;
}

const MOST = 2 ** 40;
const own = (selfHosted: number | null): QuotaPresets => ({ selfHosted, aws: selfHosted });

const COUNTS = {
  "allocated-memory-mib": {
    describe: "baseline memory of all microvms that have not ended, suspended ones too",
    unit: "MiB",
    scope: "account",
    code: "L-CD1C0CC4",
    adjustable: true,
    presets: { selfHosted: null, aws: 400 * 1024, awsLarge: 1024 * 1024 },
    min: 0,
    max: MOST,
  },
  "running-microvms": {
    describe: "microvms that are not suspended",
    unit: "microvms",
    scope: "account",
    adjustable: false,
    presets: own(null),
    min: 0,
    max: MOST,
  },
  images: {
    describe: "images",
    unit: "images",
    scope: "account",
    code: "L-942E56BE",
    adjustable: true,
    presets: { selfHosted: 1000, aws: 100 },
    min: 0,
    max: MOST,
  },
  "versions-per-image": {
    describe: "versions that an image has",
    unit: "versions",
    scope: "each",
    code: "L-F8BECE9C",
    adjustable: true,
    presets: { selfHosted: 1000, aws: 50 },
    min: 1,
    max: MOST,
  },
  "network-connectors": {
    describe: "network connectors",
    unit: "connectors",
    scope: "account",
    adjustable: false,
    presets: own(1000),
    min: 0,
    max: MOST,
  },
  "concurrent-builds": {
    describe: "builds that are going on or wait for their turn",
    unit: "builds",
    scope: "account",
    code: "L-72E0D058",
    adjustable: true,
    presets: { selfHosted: 100, aws: 5, awsLarge: 10 },
    min: 0,
    max: MOST,
  },
  "maximum-duration-seconds": {
    describe: "how long a microvm may live",
    unit: "s",
    scope: "each",
    code: "L-B430C318",
    adjustable: false,
    presets: own(28_800),
    min: 1,
    max: 366 * 86_400, // beyond AWS's only where somebody says so
    bounded: true,
  },
  "auth-token-minutes": {
    describe: "how long an endpoint token may be valid",
    unit: "min",
    scope: "each",
    adjustable: false,
    presets: own(60),
    min: 1,
    max: 1440,
    bounded: true,
  },
  "tags-per-resource": {
    describe: "tags that a resource has",
    unit: "tags",
    scope: "each",
    adjustable: false,
    presets: own(50),
    min: 0,
    max: 1000,
    bounded: true,
  },
} as const satisfies Record<string, QuotaDefinition>;

/** A token bucket: so many requests a second, and so many at once after a rest. */
interface RateDefinition {
  readonly describe: string;
  readonly selfHosted: readonly [rate: number, burst: number];
  readonly aws?: readonly [rate: number, burst: number];
  readonly codes?: readonly [rate: string, burst: string];
  readonly scope?: "address";
}

/** Operations with numbers of their own. Every other one has a bucket of its own, of `other-operations`' size. */
export const RATES = {
  RunMicrovm: {
    describe: "RunMicrovm and forks",
    selfHosted: [100, 1000],
    aws: [5, 5],
    codes: ["L-535CA9B6", "L-91B95582"],
  },
  SuspendMicrovm: {
    describe: "SuspendMicrovm",
    selfHosted: [100, 1000],
    aws: [2, 2],
    codes: ["L-90045317", "L-139F9A48"],
  },
  ResumeMicrovm: {
    describe: "ResumeMicrovm",
    selfHosted: [100, 1000],
    aws: [5, 5],
    codes: ["L-118C44B3", "L-25EEC0A4"],
  },
  TerminateMicrovm: {
    describe: "TerminateMicrovm",
    selfHosted: [200, 2000],
    aws: [10, 10],
    codes: ["L-74787B8A", "L-2CCA0501"],
  },
  CreateMicrovmAuthToken: {
    describe: "CreateMicrovmAuthToken",
    selfHosted: [500, 2000],
    aws: [50, 50],
    codes: ["L-7712260B", "L-D65D9F16"],
  },
  CreateMicrovmShellAuthToken: { describe: "CreateMicrovmShellAuthToken", selfHosted: [100, 1000], aws: [5, 5] },
  GetMicrovm: { describe: "GetMicrovm", selfHosted: [2000, 4000], aws: [100, 100] },
  "other-operations": { describe: "each other operation, AWS's and Torpor's own", selfHosted: [1000, 2000] },
  unauthenticated: {
    describe: "requests of one source address that turn out not to be signed by a known key",
    selfHosted: [50, 500],
    scope: "address",
  },
} as const satisfies Record<string, RateDefinition>;

export type RateName = keyof typeof RATES;
export type QuotaName = keyof typeof COUNTS | `${RateName}.rate` | `${RateName}.burst`;

function rateQuotas(name: string, rate: RateDefinition): [string, QuotaDefinition][] {
  return (
    [["rate", "requests a second", "req/s"] as const, ["burst", "requests at once", "req"] as const] as const
  ).map(([part, what, unit], index) => {
    const code = rate.codes?.[index];
    const selfHosted = rate.selfHosted[index] ?? null;
    return [
      `${name}.${part}`,
      {
        describe: `${what}: ${rate.describe}`,
        unit,
        scope: rate.scope ?? "operation",
        ...(code !== undefined && { code }),
        adjustable: rate.aws !== undefined,
        presets: { selfHosted, aws: rate.aws?.[index] ?? selfHosted },
        min: 1,
        max: 1_000_000,
      },
    ];
  });
}

// The keys are those of QuotaName: both tables' names, the second one's with their two parts.
export const QUOTAS = {
  ...COUNTS,
  ...Object.fromEntries(Object.entries(RATES).flatMap(([name, rate]) => rateQuotas(name, rate))),
} as Readonly<Record<QuotaName, QuotaDefinition>>;
