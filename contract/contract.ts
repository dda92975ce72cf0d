import * as sdk from "@aws-sdk/client-lambda-microvms";
import sdkPackage from "@aws-sdk/client-lambda-microvms/package.json" with { type: "json" };
import { DIFFERENCES, type Difference } from "../packages/protocol/src/compatibility/differences.ts";
import { OPERATIONS } from "../packages/protocol/src/operations.ts";
import { statusOf } from "../packages/server/src/api/wire-errors.ts";
import { ofBotocore } from "./botocore.ts";
import { type Comparison, compare, unknownOperations } from "./compare.ts";
import type { Service } from "./facts.ts";
import { type Digest, readDigest, SERVICES } from "./oracle/digest.ts";
import { ofSdk } from "./sdk.ts";
import { ofTable } from "./table.ts";

export interface Verdict {
  readonly comparisons: readonly Comparison[];
  /** Operations that no model of AWS has. */
  readonly unknown: readonly string[];
  /** Declared, and not there. */
  readonly stale: readonly Difference[];
}

/** Our operation table against all that there is of AWS's. */
export function judge(
  ours: Service = ofTable(OPERATIONS, statusOf),
  oracles: readonly Service[] = [...botocoreOracles(), sdkOracle()],
  differences: readonly Difference[] = DIFFERENCES,
): Verdict {
  const comparisons = oracles.map((oracle) => compare(oracle, ours, differences));
  return {
    comparisons,
    unknown: unknownOperations(oracles, ours),
    stale: differences.filter((difference) => !comparisons.some(({ met }) => met.has(difference))),
  };
}

/** There is no client of Lambda Core on npm: of its operations, botocore's model is the only oracle. */
export function sdkOracle(): Service {
  return ofSdk(sdk as unknown as Record<string, unknown>, `${sdkPackage.name} ${sdkPackage.version}`);
}

export function botocoreOracles(digests: readonly Digest[] = allDigests()): Service[] {
  return digests.map((digest) =>
    ofBotocore(digest, `${digest.metadata.serviceId} in ${digest.source.package} ${digest.source.version}`),
  );
}

export const allDigests = (): Digest[] => SERVICES.map(({ service }) => readDigest(service));

export const passes = ({ comparisons, unknown, stale }: Verdict): boolean =>
  unknown.length === 0 && stale.length === 0 && comparisons.every(({ findings }) => findings.length === 0);
