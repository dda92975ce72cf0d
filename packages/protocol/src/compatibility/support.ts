/**
 * What the server does with what the operation table lets in. docs/compatibility.md is made of it
 * (`npm run docs:compatibility`): whoever changes what a member does changes it here.
 */
export interface SupportNote {
  /**
   * `input.logging`: that member in every operation that has it; `RunMicrovm input.logging`: there only. What is said
   * holds for the members inside, unless they have a note of their own.
   */
  readonly at: string;
  readonly support: Support;
  readonly note: string;
}

/**
 * `honoured`: as AWS documents it. `partly`: some of its values, or less of an effect. `refused`: an error says so.
 * `ignored`: accepted, kept and shown, without any effect.
 */
export type Support = "honoured" | "partly" | "refused" | "ignored";

/** A member without a note is honoured, in the operations that somebody has gone through with the server's code. */
export const REVIEWED: readonly string[] = [
  "CreateMicrovmAuthToken",
  "CreateMicrovmImage",
  "CreateMicrovmShellAuthToken",
  "CreateNetworkConnector",
  "DeleteMicrovmImage",
  "DeleteMicrovmImageVersion",
  "DeleteNetworkConnector",
  "GetMicrovm",
  "GetMicrovmImage",
  "GetMicrovmImageBuild",
  "GetMicrovmImageVersion",
  "GetNetworkConnector",
  "ListManagedMicrovmImageVersions",
  "ListManagedMicrovmImages",
  "ListMicrovmImageBuilds",
  "ListMicrovmImageVersions",
  "ListMicrovmImages",
  "ListMicrovms",
  "ListNetworkConnectors",
  "ListTags",
  "ResumeMicrovm",
  "RunMicrovm",
  "SuspendMicrovm",
  "TagResource",
  "TerminateMicrovm",
  "UntagResource",
  "UpdateMicrovmImage",
  "UpdateMicrovmImageVersion",
  "UpdateNetworkConnector",
];

export const SUPPORT: readonly SupportNote[] = [
  // Images
  {
    at: "input.baseImageArn",
    support: "partly",
    note: "`al2023-1` of the region, the only one there is; its guest is this host's, a Debian kernel",
  },
  { at: "input.baseImageVersion", support: "partly", note: "`0` and `1` are there, and are the same guest" },
  {
    at: "input.buildRoleArn",
    support: "partly",
    note: "credentials from the `role-file` while the workload starts; without an entry there are none. The artifact is fetched without it",
  },
  { at: "input.codeArtifact", support: "honoured", note: "an object of the built-in S3, or of `s3-endpoint`" },
  {
    at: "input.cpuConfigurations",
    support: "partly",
    note: "only the host's own architecture; any other is refused",
  },
  {
    at: "input.resources",
    support: "honoured",
    note: "the ceiling is four times as much with KVM, and the minimum itself without, unless `burst` says otherwise",
  },
  {
    at: "input.egressNetworkConnectors",
    support: "partly",
    note: "`INTERNET_EGRESS`: public addresses. Connectors of one's own lead where the `network-file` says; one that it does not know is refused. No IPv6",
  },
  {
    at: "CreateMicrovmImage input.egressNetworkConnectors",
    support: "partly",
    note: "as of RunMicrovm, for the build too unless `build-network` says otherwise; inherited by microvms",
  },
  {
    at: "UpdateMicrovmImage input.egressNetworkConnectors",
    support: "partly",
    note: "as of CreateMicrovmImage",
  },
  {
    at: "input.logging",
    support: "honoured",
    note: "for the log of the build. Groups and streams are kept on this machine and read with `aws logs` or `torpor logs --group`; no role is asked for. One stream a build",
  },
  {
    at: "RunMicrovm input.logging",
    support: "honoured",
    note: "groups and streams are kept on this machine and read with `aws logs` or `torpor logs --group`; no execution role is asked for. `torpor logs ID` shows the microvm's own log whatever is chosen",
  },
  {
    at: "input.environmentVariables",
    support: "honoured",
    note: "`AWS_REGION` and `AWS_LAMBDA_MICROVM_*` are reserved; a name with `=` is refused",
  },
  {
    at: "input.chipset",
    support: "honoured",
    note: "builds here are `GENERIC`",
  },
  { at: "input.chipsetGeneration", support: "honoured", note: "builds here are of generation `1`" },
  // Microvms
  {
    at: "input.executionRoleArn",
    support: "partly",
    note: "the guest finds credentials when the `role-file` has the role; otherwise it runs without, and `stateReason` says so",
  },
  {
    at: "input.ingressNetworkConnectors",
    support: "partly",
    note: "`HTTP_INGRESS`, `ALL_INGRESS`, `SHELL_INGRESS` and `NO_INGRESS`; connectors of one's own are refused",
  },
  {
    at: "input.maximumDurationInSeconds",
    support: "honoured",
    note: "at most the quota `maximum-duration-seconds`, 28800 as there",
  },
  {
    at: "input.idlePolicy.maxIdleDurationSeconds",
    support: "honoured",
    note: "at most 28800, as the guide has it, or as long as the quota `maximum-duration-seconds`; the model has no upper bound",
  },
  {
    at: "input.expirationInMinutes",
    support: "honoured",
    note: "at most the quota `auth-token-minutes`, 60 as there; the model has no upper bound",
  },
  {
    at: "output.endpoint",
    support: "partly",
    note: "a name under `endpoint-domain`, followed by `:PORT` unless `endpoint-port` is 443",
  },
  { at: "RunMicrovm output.stateReason", support: "partly", note: "also says that a role has no credentials" },
  { at: "GetMicrovm output.stateReason", support: "partly", note: "also says that a role has no credentials" },
  // Network connectors
  {
    at: "CreateNetworkConnector input.Configuration",
    support: "partly",
    note: "subnets and security groups are what the `network-file` says; of `DualStack` there is IPv4",
  },
  {
    at: "UpdateNetworkConnector input.Configuration",
    support: "partly",
    note: "as of CreateNetworkConnector; microvms that run keep what they have",
  },
  { at: "CreateNetworkConnector input.OperatorRole", support: "ignored", note: "kept and shown, never assumed" },
  { at: "UpdateNetworkConnector input.OperatorRole", support: "ignored", note: "kept and shown, never assumed" },
  {
    at: "CreateNetworkConnector input.ClientToken",
    support: "honoured",
    note: "must be there, as the service says; the model calls it optional",
  },
  { at: "input.MaxItems", support: "partly", note: "pages have 50 at most" },
  {
    at: "output.StateReasonCode",
    support: "partly",
    note: "never there: nothing that it names can go wrong without a VPC",
  },
  { at: "output.LastUpdateStatusReasonCode", support: "partly", note: "never there, as `StateReasonCode`" },
];

/** Where the service behaves differently from AWS's although the table is the same. */
export interface Behaviour {
  readonly what: string;
  readonly aws: string;
  readonly ours: string;
  readonly reason: string;
}

export const BEHAVIOURS: readonly Behaviour[] = [
  {
    what: "quotas and request rates",
    aws: "narrow, raised on request",
    ours: "generous; `quota-preset = aws` has AWS's ([operating](operating.md))",
    reason: "a host of one's own has one's own limits",
  },
  {
    what: "members that the table does not have",
    aws: "ignored",
    ours: "ignored, too",
    reason: "newer clients must be able to talk to an older service; see below what that means for `kmsKeyIdentifier`",
  },
  {
    what: "builds of a version",
    aws: "two, one for each generation of Graviton",
    ours: "one",
    reason: "a host has one kind of processor",
  },
  {
    what: "IAM",
    aws: "users, groups, roles, policies with conditions",
    ours: "policies of access keys, without conditions; roles exist by their ARNs, and with `strict-roles` only those in the `role-file`",
    reason: "[keys and policies](operating.md#keys-and-policies) are the part that is needed to keep programs apart",
  },
  {
    what: "a network connector's way to ACTIVE",
    aws: "four to ten minutes",
    ours: "at once",
    reason: "nothing has to be made",
  },
  {
    what: "`maximumDurationInSeconds` above 28800",
    aws: "refused",
    ours: "refused, unless the quota `maximum-duration-seconds` was raised; who says nothing gets 28800",
    reason: "a machine of one's own may run what its owner wants for as long as they want",
  },
  {
    what: "how long a microvm that has ended is listed",
    aws: "hours at least; not documented",
    ours: "30 days, or `ended-retention-hours`, and as long as it has checkpoints; its client token is forgotten with it",
    reason: "the table must not grow for ever",
  },
  {
    what: "the id of a microvm that is none",
    aws: "a gateway's 502 was seen",
    ours: "404, as any other that is not there",
    reason: "clients can do something with it",
  },
  {
    what: "a value in a message about a constraint",
    aws: "in full, as far as is known",
    ours: "cut after 1024 characters, after ten violations no more are told",
    reason: "an answer must not be as large as the sender likes",
  },
  {
    what: "`ServiceUnavailableException`, `RequestEntityTooLargeException` and other errors of the door",
    aws: "in part unmodelled, in part unknown",
    ours: "see [errors](errors.md)",
    reason: "something has to be said when a part of the server is not there",
  },
];

/** What later models of AWS have beyond the ones that the table follows, and what happens to clients that use it. */
export const LATER: readonly { readonly what: string; readonly effect: string }[] = [
  {
    what: "`kmsKeyIdentifier` of images and microvms",
    effect:
      "**ignored without a word**: snapshots and disks are not encrypted with that key, and answers do not show one. Encrypt the disk of the data directory",
  },
  { what: "`X86_64` as architecture", effect: "works: here it was an extension" },
  { what: "`INTEL` as chipset", effect: "refused as a filter; builds here say `GENERIC`" },
  { what: "up to 100 environment variables", effect: "more than 50 are refused" },
  { what: "`supportedCpuConfigurations` and `RECALLED` of base images", effect: "not told" },
  {
    what: "versions of network connectors (`ListNetworkConnectorVersions`, `VersionArn`, …), `ElasticIpConfiguration`, `WebFunction`, 16 security groups",
    effect: "the operation is unknown, the members are ignored, other values are refused",
  },
  { what: "runtimes in Lambda Core", effect: "another service; unknown" },
];
/** The model whose additions these are. */
export const LATER_MODEL = "botocore 1.44.8";
