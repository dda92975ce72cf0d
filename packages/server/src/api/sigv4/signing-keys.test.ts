import { expect, test } from "vitest";
import { deriveSigningKey } from "./canonical-request.ts";
import { signingKeyOf } from "./signing-keys.ts";

test("keys are those that are derived, again and again, of however many secrets, dates, regions and services", () => {
  const scopes = Array.from({ length: 700 }, (_, n) => {
    const [secret, date, region, service] = [n % 2, n % 3, n % 5, n % 7];
    return [`secret-${secret}-${Math.floor(n / 210)}`, `2026010${date}`, `eu-west-${region}`, `s${service}`] as const;
  });
  for (const scope of [...scopes, ...scopes.toReversed()])
    expect(signingKeyOf(...scope)).toEqual(deriveSigningKey(...scope));
});
