/** An access key as its owner sees it, under /torpor/v1. Nobody ever sees its secret again. */
export interface AccessKey {
  readonly accessKeyId: string;
  readonly accountId: string;
  /** Whom it is for: `root`, or the name that it was made with. */
  readonly name: string;
  readonly principalArn: string;
  readonly status: AccessKeyStatus;
  /** Everything in its account, or what its policy says. */
  readonly access: "full" | "policy";
  readonly createdAt: string;
  readonly expiresAt: string | null;
  /** To the minute. */
  readonly lastUsedAt: string | null;
}
export const ACCESS_KEY_STATUSES = ["ACTIVE", "DISABLED", "EXPIRED"] as const;
export type AccessKeyStatus = (typeof ACCESS_KEY_STATUSES)[number];

/** The only answer that has the secret. */
export interface NewAccessKey extends AccessKey {
  readonly secretAccessKey: string;
}

/** What a key is named, besides `root`: as IAM names users. */
export const ACCESS_KEY_NAME = /^[a-zA-Z0-9+=,.@_-]{1,64}$/;
export const ACCESS_KEY_ID = /^[A-Z0-9]{16,128}$/;

export interface Account {
  readonly accountId: string;
  readonly name: string | null;
  /** The keys of one that is not are refused. */
  readonly enabled: boolean;
  /** Its keys may look after the other accounts. */
  readonly server: boolean;
  readonly createdAt: string;
}
export interface NewAccount extends Account {
  readonly rootKey: NewAccessKey;
}
export const ACCOUNT_ID = /^\d{12}$/;
