import { QUOTAS, type QuotaDefinition, type QuotaName, RATES, type RateName } from "./quota-table.ts";

export const isQuotaName = (name: string): name is QuotaName => Object.hasOwn(QUOTAS, name);
export const isRateName = (name: string): name is RateName => Object.hasOwn(RATES, name);
export const QUOTA_NAMES: readonly QuotaName[] = Object.keys(QUOTAS).filter(isQuotaName);

/** Null: unlimited. */
export type QuotaValue = number | null;
export type QuotaPreset = "self-hosted" | "aws";

/** Where AWS allows more memory and builds. */
const LARGE_REGIONS: readonly string[] = ["us-east-1", "us-east-2", "us-west-2", "ap-northeast-1"];

export function presetValue(preset: QuotaPreset, region: string, name: QuotaName): QuotaValue {
  const { selfHosted, aws, awsLarge } = QUOTAS[name].presets;
  if (preset === "self-hosted") return selfHosted;
  return LARGE_REGIONS.includes(region) ? (awsLarge ?? aws) : aws;
}

/** @throws Error that says what the quota may be */
export function checkQuotaValue(name: QuotaName, value: unknown): QuotaValue {
  const { min, max, bounded } = QUOTAS[name];
  if (value === null && !bounded) return null;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new Error(`expected for ${name} a whole number from ${min} to ${max}${bounded ? "" : ", or unlimited"}`);
}

/** As people write it: `unlimited` or a whole number. @throws Error that says what the quota may be */
export function parseQuotaValue(name: QuotaName, text: string): QuotaValue {
  return checkQuotaValue(name, text === "unlimited" ? null : /^\d{1,15}$/.test(text) ? Number(text) : undefined);
}

export const formatQuotaValue = (value: QuotaValue): string => (value === null ? "unlimited" : String(value));

/**
 * A setting's text: `images=200, RunMicrovm.rate=5`.
 * @throws Error that names the part which is wrong
 */
export function parseQuotas(text: string): ReadonlyMap<QuotaName, QuotaValue> {
  const quotas = new Map<QuotaName, QuotaValue>();
  for (const part of text.split(",").map((each) => each.trim())) {
    if (part === "") continue;
    const [name = "", value, ...more] = part.split("=").map((each) => each.trim());
    if (value === undefined || more.length > 0)
      throw new Error(`expected NAME=VALUE, separated by commas, in "${part}"`);
    if (!isQuotaName(name)) throw new Error(`there is no quota "${name}": torpor quotas lists them`);
    if (quotas.has(name)) throw new Error(`${name} is given twice`);
    quotas.set(name, parseQuotaValue(name, value));
  }
  return quotas;
}

/** A quota of an account, as `GET /torpor/v1/quotas` tells it. */
export interface Quota {
  readonly name: QuotaName;
  readonly describe: string;
  readonly unit: string;
  readonly scope: QuotaDefinition["scope"];
  readonly code: string | null;
  readonly adjustable: boolean;
  readonly value: QuotaValue;
  /** How much of it is taken now; null where nothing is used up. Of `versions-per-image`, the image with most. */
  readonly used: number | null;
  /** Who said the value: the preset, the server's settings, or somebody for this account. */
  readonly source: QuotaSource;
}
export type QuotaSource = "default" | "config" | "account";

export interface Quotas {
  readonly accountId: string;
  readonly items: readonly Quota[];
}
