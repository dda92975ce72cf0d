import type { OperationInput, OperationName, OperationOutput } from "@torpor/protocol";
import type { Access } from "./identity/policy.ts";

/** Who asks, as the signature proved it. */
export interface RequestContext {
  readonly requestId: string;
  readonly accountId: string;
  /** ARN of the caller, for messages and the audit trail. */
  readonly principalArn: string;
  readonly accessKeyId: string;
  /** Whom the key is for: `root`, or the name that it was made with. */
  readonly keyName: string;
  readonly access: Access;
  readonly sourceIp: string;
  /** Aborted when the client goes away. Operations that have begun to change something go on regardless. */
  readonly signal: AbortSignal;
}

/**
 * The AWS operations. Inputs have passed validation against the operation table; failures are TorporErrors whose
 * messages are the service's.
 */
export type Operations = {
  readonly [N in OperationName]: (input: OperationInput<N>, context: RequestContext) => Promise<OperationOutput<N>>;
};

/** How often a caller may ask: `burst` requests at once after a rest, `perSecond` in the long run. */
export interface Rate {
  /** Infinity: as often as they like. */
  readonly perSecond: number;
  readonly burst: number;
}

/** What the API needs to slow callers down. */
export interface Rates {
  /** Operations of one `bucket` are counted together. */
  operation(accountId: string, operation: string): Rate & { readonly bucket: string };
  /** Of a source address, for requests that are not signed by a known key. */
  stranger(): Rate;
}

/** What the API needs to check a signature. */
export interface AccessKeys {
  /** Undefined when there is none, or it is not to be used. Whether it has expired is for the caller to see. */
  find(accessKeyId: string): Promise<AccessKey | undefined>;
  /** A request that it signed was found to be genuine. Costs nothing. */
  used(accessKeyId: string): void;
}
export interface AccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly accountId: string;
  readonly principalArn: string;
  readonly name: string;
  readonly access: Access;
  readonly expiresAt: Date | null;
}
