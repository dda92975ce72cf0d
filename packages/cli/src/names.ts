import { formatImageArn, parseImageArn } from "@torpor/protocol";
import type { Connection } from "./connection.ts";
import { usage } from "./failure.ts";

/** People write an image's name, the API wants its ARN. @throws Failure when it is neither */
export function imageArn(connection: Connection, nameOrArn: string): string {
  if (parseImageArn(nameOrArn)) return nameOrArn;
  const arn = formatImageArn({ region: connection.region, account: connection.accountId, name: nameOrArn });
  if (!parseImageArn(arn)) throw usage(`neither the name nor the ARN of an image: ${nameOrArn}`);
  return arn;
}

/** The name in an image's ARN; anything else as it is. */
export function imageName(arn: string): string {
  return parseImageArn(arn)?.name ?? arn;
}

/** An image name made of a folder's: what is not allowed becomes a hyphen. */
export function nameOfFolder(folder: string): string {
  const name = folder
    .replace(/[^a-zA-Z0-9-_]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 64);
  if (name === "") throw usage(`no image name can be made of "${folder}"`, "--name NAME");
  return name;
}

/** `https://…` of a microvm, with the port where it is not HTTPS's own. */
export function endpointUrl(connection: Connection, endpoint: string): URL {
  const url = new URL(`https://${endpoint}/`);
  if (url.port === "" && connection.endpointPort !== 443) url.port = String(connection.endpointPort);
  return url;
}
