import type { OperationInput, OperationName, OperationOutput } from "@torpor/protocol";

/** Who asks, as the signature proved it. */
export interface RequestContext {
  readonly requestId: string;
  readonly accountId: string;
  /** ARN of the caller, for messages and the audit trail. */
  readonly principalArn: string;
  readonly accessKeyId: string;
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
  find(accessKeyId: string): Promise<AccessKey | undefined>;
}
export interface AccessKey {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly accountId: string;
  readonly principalArn: string;
}
