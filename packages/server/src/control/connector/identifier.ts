import { formatConnectorArn, parseConnectorArn } from "@torpor/protocol";
import { notFound, type TorporError } from "../../lib/errors.ts";
import { refuseForeign } from "../authorise.ts";
import type { RequestContext } from "../request-context.ts";

/**
 * Id or name of the connector that an operation names by ARN, id or name.
 * @throws TorporError `denied` when the ARN is another account's, `not_found` when it is of another region
 */
export function idOrName(operation: string, identifier: string, region: string, context: RequestContext): string {
  if (!identifier.startsWith("arn:")) return identifier;
  const arn = parseConnectorArn(identifier);
  if (!arn) throw connectorNotFound(identifier);
  refuseForeign(operation, identifier, arn, context);
  if (arn.region !== region) throw connectorNotFound(identifier);
  return arn.id;
}

/** @param identifier as it was given */
export const unknownConnector = (identifier: string, region: string, accountId: string): TorporError =>
  connectorNotFound(
    identifier.startsWith("arn:") ? identifier : formatConnectorArn({ region, account: accountId, id: identifier }),
  );

export const connectorNotFound = (arn: string): TorporError => notFound(`Network connector not found for: ${arn}`);
