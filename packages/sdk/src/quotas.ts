import type { Quota, Quotas } from "@torpor/protocol";
import { isQuotaName } from "@torpor/protocol";
import { fieldsOf, listIn, optionalNumberIn, optionalTextIn, textIn, unexpected } from "./fields.ts";

const WHAT = "list of quotas";
const SCOPES: readonly Quota["scope"][] = ["account", "each", "operation", "address"];
const SOURCES: readonly Quota["source"][] = ["default", "config", "account"];

/** Those of a newer server that are not known here are left out. @throws ApiError when it is none */
export function parseQuotas(value: unknown): Quotas {
  const fields = fieldsOf(value);
  return { accountId: textIn(fields, "accountId", WHAT), items: listIn(fields, "items", WHAT).flatMap(parseQuota) };
}

function parseQuota(value: unknown): Quota[] {
  const fields = fieldsOf(value);
  const name = textIn(fields, "name", WHAT);
  const adjustable = fields.get("adjustable");
  if (typeof adjustable !== "boolean") throw unexpected(WHAT);
  if (!isQuotaName(name)) return [];
  return [
    {
      name,
      describe: textIn(fields, "describe", WHAT),
      unit: textIn(fields, "unit", WHAT),
      scope: oneOf(SCOPES, fields.get("scope")),
      code: optionalTextIn(fields, "code", WHAT),
      adjustable,
      value: optionalNumberIn(fields, "value", WHAT),
      used: optionalNumberIn(fields, "used", WHAT),
      source: oneOf(SOURCES, fields.get("source")),
    },
  ];
}

function oneOf<V extends string>(known: readonly V[], value: unknown): V {
  const found = known.find((each) => each === value);
  if (found === undefined) throw unexpected(WHAT);
  return found;
}
