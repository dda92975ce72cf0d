import type { QuotaName } from "@torpor/protocol";
import { TorporError } from "../../lib/errors.ts";

/** Quotas that are used up by making things, with what a refusal says; the service's own words where they are known. */
const WORDS = {
  "allocated-memory-mib": () => "The base maximum allocated memory limit has been reached for this account.",
  "running-microvms": (limit) =>
    `The account may have ${limit} MicroVMs that are not suspended, and would have more. Suspend or terminate some first, or ask for fewer.`,
  images: (limit) => `The account has ${limit} MicroVM images, as many as it may. Delete one that is not needed first.`,
  "versions-per-image": (limit) =>
    `The MicroVM image has ${limit} versions, as many as it may. Delete one that is not needed first.`,
  "network-connectors": (limit) =>
    `The account has ${limit} network connectors, as many as it may. Delete one that is not needed first.`,
  "concurrent-builds": () => "The maximum number of concurrent builds has been reached. Try again when one has ended.",
} as const satisfies Partial<Record<QuotaName, (limit: number) => string>>;

export type ExhaustibleQuota = keyof typeof WORDS;

/** @throws TorporError `quota` when `wanted`, with what there is already, is more than the limit */
export function refuseBeyond(name: ExhaustibleQuota, limit: number, wanted: number): void {
  if (wanted > limit) throw new TorporError("quota", WORDS[name](limit));
}
