import { MANAGED_CONNECTORS, type ManagedConnector, managedConnectorArn } from "@torpor/protocol";
import { invalidInput, TorporError } from "../../lib/errors.ts";

const CONNECTOR_ARN = /^arn:([a-z0-9-]+):lambda:([a-z0-9-]*):([0-9]{12}|aws):network-connector:(\S+)$/;
const MANAGED_PREFIX = "aws-network-connector:";

/** Where the request was made: connectors are of one region and account. */
export interface ConnectorScope {
  readonly region: string;
  readonly accountId: string;
}

/**
 * The ingress connectors as they are echoed: HTTP_INGRESS unless something is named.
 * @throws TorporError with the service's wording
 */
export function ingressConnectors(given: readonly string[] | null | undefined, scope: ConnectorScope): string[] {
  if (!given || given.length === 0) return [managedConnectorArn(scope.region, "HTTP_INGRESS")];
  const names = given.map((arn) => connectorOf(arn, scope));
  for (const [index, name] of names.entries())
    if (name === "INTERNET_EGRESS" || name === "own")
      throw invalidInput(`The network connector ${given[index]} cannot be used for ingress.`);
  if (names.length > 1 && names.includes("ALL_INGRESS"))
    throw invalidInput(
      "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or SHELL_INGRESS instead",
    );
  if (names.length > 1 && names.includes("NO_INGRESS"))
    throw invalidInput("NO_INGRESS cannot be combined with other ingress network connectors");
  return [...given];
}

/**
 * The egress connectors as they are echoed: `inherited` (of the image version, or INTERNET_EGRESS) unless something
 * is named. What an account's own lead to is Reach's to say.
 * @throws TorporError with the service's wording
 */
export function egressConnectors(
  given: readonly string[] | null | undefined,
  inherited: readonly string[] | undefined,
  scope: ConnectorScope,
): string[] {
  if (!given || given.length === 0) return [...(inherited ?? [managedConnectorArn(scope.region, "INTERNET_EGRESS")])];
  for (const arn of given)
    if (!["INTERNET_EGRESS", "own"].includes(connectorOf(arn, scope)))
      throw invalidInput(`The network connector ${arn} cannot be used for egress.`);
  return [...given];
}

/** True when the connectors open the HTTPS endpoint. */
export function admitsHttp(ingress: readonly string[]): boolean {
  return ingress.some((arn) => /:(HTTP|ALL)_INGRESS$/.test(arn));
}

/** True when the connectors open a shell. */
export function admitsShell(ingress: readonly string[]): boolean {
  return ingress.some((arn) => /:(SHELL|ALL)_INGRESS$/.test(arn));
}

/** What the ARN's form says: one of the region's own, or one of the account's, which is for egress and may not exist. */
function connectorOf(arn: string, scope: ConnectorScope): ManagedConnector | "own" {
  const parts = CONNECTOR_ARN.exec(arn);
  if (!parts) throw invalidInput(`Malformed network connector ARN: ${arn}`);
  const [, , region, account, resource = ""] = parts;
  if (account !== "aws") {
    if (account !== scope.accountId)
      throw new TorporError(
        "denied",
        `Access to the network connector ${arn} is denied: it belongs to another account.`,
      );
    return "own";
  }
  const name = MANAGED_CONNECTORS.find((known) => resource === `${MANAGED_PREFIX}${known}`);
  if (!name || region !== scope.region) throw invalidInput(`Unrecognized managed network connector ARN: ${arn}`);
  return name;
}
