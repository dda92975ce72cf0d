/** ARNs and ids of the service. Source of the formats: AWS documentation and recorded responses. */

export interface ImageArn {
  readonly partition: string;
  readonly region: string;
  /** Twelve digits, or the literal `aws` for managed images. */
  readonly account: string;
  readonly name: string;
}

const IMAGE_ARN = /^arn:([a-z0-9-]+):lambda:([a-z0-9-]+):([0-9]{12}|aws):microvm-image:([a-zA-Z0-9_-]{1,64})$/;

/** `undefined` when the text is not the ARN of a microvm image. */
export function parseImageArn(text: string): ImageArn | undefined {
  const m = IMAGE_ARN.exec(text);
  if (!m) return undefined;
  return { partition: m[1]!, region: m[2]!, account: m[3]!, name: m[4]! };
}

export function formatImageArn(arn: Omit<ImageArn, "partition"> & { readonly partition?: string }): string {
  return `arn:${arn.partition ?? "aws"}:lambda:${arn.region}:${arn.account}:microvm-image:${arn.name}`;
}

/** A customer's connector. */
export interface ConnectorArn {
  readonly partition: string;
  readonly region: string;
  readonly account: string;
  readonly id: string;
}

const CONNECTOR_ARN = /^arn:([a-z0-9-]+):lambda:([a-z0-9-]+):([0-9]{12}):network-connector:([a-zA-Z0-9_-]{1,64})$/;

/** `undefined` when the text is not the ARN of a customer's connector. */
export function parseConnectorArn(text: string): ConnectorArn | undefined {
  const m = CONNECTOR_ARN.exec(text);
  if (!m) return undefined;
  return { partition: m[1]!, region: m[2]!, account: m[3]!, id: m[4]! };
}

/** A connector's id: `nc-` and a UUID in lower case. */
export const CONNECTOR_ID = /^nc-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export function formatConnectorArn(arn: Omit<ConnectorArn, "partition">): string {
  return `arn:aws:lambda:${arn.region}:${arn.account}:network-connector:${arn.id}`;
}

/** ARN of a connector that the service itself manages. */
export function managedConnectorArn(region: string, name: ManagedConnector): string {
  return `arn:aws:lambda:${region}:aws:network-connector:aws-network-connector:${name}`;
}

export const MANAGED_CONNECTORS = [
  "HTTP_INGRESS",
  "ALL_INGRESS",
  "NO_INGRESS",
  "SHELL_INGRESS",
  "INTERNET_EGRESS",
] as const;
export type ManagedConnector = (typeof MANAGED_CONNECTORS)[number];

/** A checkpoint's id: `checkpoint-` and a UUID in lower case. */
export const CHECKPOINT_ID = /^checkpoint-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** A checkpoint's name has the characters of an image's. */
export const CHECKPOINT_NAME = /^[a-zA-Z0-9-_]{1,64}$/;

/** A microvm's id: `microvm-` and a UUID in lower case. */
export const MICROVM_ID = /^microvm-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
