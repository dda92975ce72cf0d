import { OPERATIONS, OWN_OPERATIONS, type OwnOperation, type Permission } from "@torpor/protocol";

/** Every operation of both tables, with a request that is right but for what it names. */

export interface Named {
  readonly imageArn: string;
  readonly buildId: string;
  readonly microvmId: string;
  readonly checkpointId: string;
  readonly accessKeyId: string;
  readonly connectorId: string;
  readonly accountId: string;
}
export interface EveryOperation {
  /** `lambda:RunMicrovm` */
  readonly action: string;
  readonly method: string;
  readonly permission: Permission;
  request(named: Named): {
    readonly method: string;
    readonly path: string;
    readonly headers?: Record<string, string>;
    readonly body?: string;
    readonly query?: Record<string, string>;
  };
}

const ALLOW_ALL = { Version: "2012-10-17", Statement: { Effect: "Allow", Action: "*", Resource: "*" } };
const role = ({ accountId }: Named): string => `arn:aws:iam::${accountId}:role/some`;
const configuration = (named: Named) => ({
  baseImageArn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1",
  buildRoleArn: role(named),
  codeArtifact: { uri: "s3://bucket/app.zip" },
});

/** What the body has to have; an operation that is not here gets an empty one. */
const BODIES: Readonly<Record<string, (named: Named) => object>> = {
  CreateMicrovmImage: (named) => ({ ...configuration(named), name: "made" }),
  UpdateMicrovmImage: configuration,
  UpdateMicrovmImageVersion: () => ({ status: "INACTIVE" }),
  RunMicrovm: (named) => ({ imageIdentifier: named.imageArn, executionRoleArn: role(named) }),
  CreateMicrovmShellAuthToken: () => ({ expirationInMinutes: 5 }),
  TagResource: () => ({ Tags: { a: "b" } }),
  CreateNetworkConnector: (named) => ({
    Name: "made",
    ClientToken: "token",
    OperatorRole: role(named),
    Configuration: {
      VpcEgressConfiguration: {
        SubnetIds: ["subnet-1"],
        NetworkProtocol: "IPv4",
        AssociatedComputeResourceTypes: ["MicroVm"],
      },
    },
  }),
  UpdateNetworkConnector: (named) => ({ OperatorRole: role(named) }),
  CreateMicrovmAuthToken: () => ({ expirationInMinutes: 5, allowedPorts: [{ port: 80 }] }),
  ForkCheckpoint: (named) => ({ executionRoleArn: role(named) }),
  ForkMicrovm: (named) => ({ executionRoleArn: role(named) }),
  RollbackMicrovm: ({ checkpointId }) => ({ checkpointId }),
  CreateAccessKey: ({ accountId }) => ({ name: "made", accountId }),
  UpdateAccessKey: () => ({ enabled: false }),
  PutAccessKeyPolicy: () => ALLOW_ALL,
  CreateAccount: () => ({ name: "made" }),
  SetQuota: () => ({ value: 5 }),
  UpdateAccount: () => ({ enabled: false }),
};
/** Parameters of lists that name something. */
const QUERIES: Readonly<Record<string, (named: Named) => Record<string, string>>> = {
  UntagResource: () => ({ tagKeys: "a" }),
  ListMicrovms: ({ imageArn }) => ({ imageIdentifier: imageArn }),
  ListQuotas: ({ accountId }) => ({ accountId }),
  ListAccessKeys: ({ accountId }) => ({ accountId }),
  ListLogStreams: () => ({ group: "/some" }),
  ReadLogEvents: () => ({ group: "/some" }),
  ListAuditEvents: ({ accountId }) => ({ accountId }),
};

function labelOf(label: string, named: Named): string {
  const labels: Readonly<Record<string, string>> = {
    imageIdentifier: named.imageArn,
    imageArn: named.imageArn,
    imageVersion: "1.0",
    version: "1.0",
    buildId: named.buildId,
    microvmIdentifier: named.microvmId,
    microvmId: named.microvmId,
    checkpointId: named.checkpointId,
    accessKeyId: named.accessKeyId,
    accountId: named.accountId,
    name: "images",
    Resource: named.imageArn,
    Identifier: named.connectorId,
  };
  const value = labels[label];
  if (value === undefined) throw new Error(`say what the label ${label} stands for`);
  return encodeURIComponent(value);
}

const family = (service: string, operations: Readonly<Record<string, OwnOperation>>): EveryOperation[] =>
  Object.entries(operations).map(([name, { method, uri, permission }]) => ({
    action: `${service}:${name}`,
    method,
    permission,
    request: (named) => ({
      method,
      path: uri.replace(/\{(\w+)\}/g, (_, label: string) => labelOf(label, named)),
      ...(QUERIES[name] && { query: QUERIES[name](named) }),
      ...(method !== "GET" && {
        headers: { "content-type": "application/json" },
        body: JSON.stringify(BODIES[name]?.(named) ?? {}),
      }),
    }),
  }));

export const EVERY_OPERATION: readonly EveryOperation[] = [
  ...family("lambda", OPERATIONS),
  ...family("torpor", OWN_OPERATIONS),
];
