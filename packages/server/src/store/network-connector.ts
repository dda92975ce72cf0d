/** What a customer's connector says of a VPC. */
export interface VpcEgress {
  readonly subnetIds: readonly string[];
  readonly securityGroupIds: readonly string[];
  readonly networkProtocol: "IPv4" | "DualStack";
}

export interface NetworkConnector {
  /** `nc-` and a UUID. */
  readonly id: string;
  readonly accountId: string;
  /** The account's only one of this name. */
  readonly name: string;
  readonly generation: number;
  readonly state: "PENDING" | "ACTIVE" | "DELETING";
  readonly configuration: VpcEgress;
  readonly operatorRole: string;
  /** Of the last update; null before the first. */
  readonly update: { readonly status: "Successful" | "InProgress"; readonly reason: string } | null;
  readonly tags: Readonly<Record<string, string>>;
  readonly createdAt: Date;
  readonly modifiedAt: Date;
}
