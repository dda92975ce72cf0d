import type { ManagedConnector } from "./arn.ts";

/**
 * What a caller needs permission for, as data: policies are evaluated by it, and documents and tests follow it. The
 * action is the operation's own name (`lambda:RunMicrovm`, `torpor:CreateCheckpoint`). `member` is one of the input.
 */
export interface Permission {
  readonly on: Resource;
  /** The member with the ARN of a role that is handed over: needs `iam:PassRole` on it. */
  readonly passesRole?: string;
  /**
   * The members with connectors, each of which needs `lambda:PassNetworkConnector`, and the connector that stands for
   * none. `inherited` is only known when what it is inherited from has been looked up: who does that checks it.
   */
  readonly passesConnectors?: Readonly<Record<string, ManagedConnector | "inherited">>;
}

/** What an operation is authorised on. */
export type Resource =
  /** Nothing in particular: `*`. */
  | { readonly kind: "any" }
  /** The server and its accounts: `*`, and for keys of the server's own account only. */
  | { readonly kind: "server" }
  /** The ARN in a member, by id where it is a connector's; `*` when there is none. */
  | { readonly kind: "arn"; readonly member: string }
  /** The image that is to have the name in a member. */
  | { readonly kind: "newImage"; readonly member: string }
  /** The network connector whose ARN, id or name is in a member. */
  | { readonly kind: "connector"; readonly member: string }
  /** The network connector that is to have the name in a member. */
  | { readonly kind: "newConnector"; readonly member: string }
  /** The image of the microvm with the id in a member: who may use an image may use its microvms. */
  | { readonly kind: "microvm"; readonly member: string }
  /** The image of the checkpoint with the id in a member. */
  | { readonly kind: "checkpoint"; readonly member: string }
  /** The owner of the access key with the id in a member. */
  | { readonly kind: "accessKey"; readonly member: string }
  /** The owner that is to have the name in a member. */
  | { readonly kind: "newAccessKey"; readonly member: string }
  /** The log group whose name or ARN is in the first of the members that is given; a stream of it, if one is named. */
  | { readonly kind: "logGroup"; readonly members: readonly string[]; readonly stream?: string }
  /** The account in `accountId`, or the caller's own, as the ARN of its root. */
  | { readonly kind: "account" };

export const anything: Resource = { kind: "any" };
export const theServer: Resource = { kind: "server" };
export const theAccount: Resource = { kind: "account" };
export const arnIn = (member: string): Resource => ({ kind: "arn", member });
export const newImageNamed = (member: string): Resource => ({ kind: "newImage", member });
export const connectorIn = (member: string): Resource => ({ kind: "connector", member });
export const newConnectorNamed = (member: string): Resource => ({ kind: "newConnector", member });
export const imageOfMicrovm = (member: string): Resource => ({ kind: "microvm", member });
export const imageOfCheckpoint = (member: string): Resource => ({ kind: "checkpoint", member });
export const logGroupIn = (...members: readonly string[]): Resource => ({ kind: "logGroup", members });
export const logStreamIn = (stream: string, ...members: readonly string[]): Resource => ({
  kind: "logGroup",
  members,
  stream,
});
export const ownerOfKey = (member: string): Resource => ({ kind: "accessKey", member });
export const newOwnerNamed = (member: string): Resource => ({ kind: "newAccessKey", member });
