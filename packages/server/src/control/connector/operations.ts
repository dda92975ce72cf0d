import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { CONNECTOR_ID, formatConnectorArn, type OperationInput, type OperationOutput } from "@torpor/protocol";
import type { Config } from "../../config.ts";
import type { Clock } from "../../lib/clock.ts";
import { conflict, TorporError } from "../../lib/errors.ts";
import { StaleWriteError } from "../../store/errors.ts";
import type { NetworkConnector, VpcEgress } from "../../store/network-connector.ts";
import type { Store } from "../../store/store.ts";
import type { Idempotency } from "../idempotency.ts";
import { newestFirst, readPage } from "../page.ts";
import { refuseBeyond } from "../quota/exceeded.ts";
import type { Quotas } from "../quota/quotas.ts";
import type { Operations, RequestContext } from "../request-context.ts";
import { checkTags } from "../tag/tags.ts";
import type { ConnectorChanges } from "./changes.ts";
import { idOrName, unknownConnector } from "./identifier.ts";

export interface ConnectorOperationDeps {
  readonly config: Pick<Config, "region">;
  readonly store: Pick<Store, "networkConnectors" | "transaction">;
  readonly changes: ConnectorChanges;
  readonly quotas: Pick<Quotas, "limit">;
  readonly idempotency: Idempotency;
  readonly clock: Clock;
}

type ConnectorOperations = Pick<
  Operations,
  | "CreateNetworkConnector"
  | "GetNetworkConnector"
  | "ListNetworkConnectors"
  | "UpdateNetworkConnector"
  | "DeleteNetworkConnector"
>;

const PAGE_MAX = 50;

/**
 * Customers' connectors as records: what they say of subnets and security groups is kept and shown; what that lets a
 * microvm reach, or that nobody has said what it is, turns out when one is to use it (reach.ts).
 */
export function connectorOperations(deps: ConnectorOperationDeps): ConnectorOperations {
  const { region } = deps.config;
  return {
    CreateNetworkConnector: (input, context) => createConnector(input, context, deps),
    async GetNetworkConnector({ Identifier }, context) {
      const found = await existing("GetNetworkConnector", Identifier, context, deps);
      return {
        ...view(found, region),
        Version: found.generation,
        StateReason: found.update ? undefined : "Initial creation",
        ...updateView(found),
        LastModified: found.modifiedAt,
      };
    },
    ListNetworkConnectors: (input, context) => listConnectors(input, context, deps),
    UpdateNetworkConnector: (input, context) => updateConnector(input, context, deps),
    async DeleteNetworkConnector({ Identifier }, context) {
      const deleted = await onCurrent("DeleteNetworkConnector", Identifier, context, deps, async (found) =>
        found.state === "DELETING" ? found : deps.store.networkConnectors.update({ ...found, state: "DELETING" }),
      );
      deps.changes.finish(deleted.id);
      return view(deleted, region);
    },
  };
}

async function createConnector(
  input: OperationInput<"CreateNetworkConnector">,
  context: RequestContext,
  deps: ConnectorOperationDeps,
): Promise<OperationOutput<"CreateNetworkConnector">> {
  const clientToken = requiredToken(input.ClientToken);
  type Answer = OperationOutput<"CreateNetworkConnector">;
  return await deps.idempotency.once<typeof input & { clientToken: string }, Answer>(
    "CreateNetworkConnector",
    context.accountId,
    { ...input, ClientToken: null, clientToken },
    async (recorder) => {
      if (input.Name.startsWith("arn:")) throw invalid(`Name must be a name, not an ARN: ${input.Name}`);
      if (CONNECTOR_ID.test(input.Name)) throw invalid(`Name must not look like a connector's id: ${input.Name}`);
      const at = new Date(deps.clock.now());
      const connector: NetworkConnector = {
        id: `nc-${randomUUID()}`,
        accountId: context.accountId,
        name: input.Name,
        generation: 1,
        state: "PENDING",
        configuration: egressOf(input.Configuration),
        operatorRole: requiredRole(input.OperatorRole),
        update: null,
        tags: checkTags(input.Tags ?? {}, deps.quotas.limit(context.accountId, "tags-per-resource")),
        createdAt: at,
        modifiedAt: at,
      };
      const answer = view(connector, deps.config.region);
      await deps.store.transaction(async (write) => {
        if (!(await write.networkConnectors.insert(connector)))
          throw conflict(`A network connector with the name ${connector.name} already exists.`);
        const limit = deps.quotas.limit(context.accountId, "network-connectors");
        refuseBeyond("network-connectors", limit, await write.networkConnectors.count(context.accountId));
        await recorder(answer, connector.id)(write);
      });
      deps.changes.finish(connector.id);
      return answer;
    },
  );
}

async function updateConnector(
  input: OperationInput<"UpdateNetworkConnector">,
  context: RequestContext,
  deps: ConnectorOperationDeps,
): Promise<OperationOutput<"UpdateNetworkConnector">> {
  const { ClientToken: clientToken, ...request } = input;
  type Answer = OperationOutput<"UpdateNetworkConnector">;
  return await deps.idempotency.once<typeof request & { clientToken: typeof clientToken }, Answer>(
    "UpdateNetworkConnector",
    context.accountId,
    { ...request, clientToken },
    async (recorder) => {
      const { id, answer } = await onCurrent("UpdateNetworkConnector", input.Identifier, context, deps, (found) => {
        const next = updated(found, input, new Date(deps.clock.now()));
        const told = { ...view(next, deps.config.region), ...updateView(next), LastModified: next.modifiedAt };
        return deps.store.transaction(async (write) => {
          await write.networkConnectors.update(next);
          await recorder(told, found.id)(write);
          return { id: found.id, answer: told };
        });
      });
      deps.changes.finish(id);
      return answer;
    },
  );
}

/** What is left out stays as it is. @throws TorporError */
function updated(found: NetworkConnector, input: OperationInput<"UpdateNetworkConnector">, at: Date): NetworkConnector {
  if (found.state === "DELETING") throw conflict(`The network connector ${found.id} is being deleted.`);
  const configuration = input.Configuration ? egressOf(input.Configuration) : found.configuration;
  const operatorRole = input.OperatorRole ?? found.operatorRole;
  if (isDeepStrictEqual(configuration, found.configuration) && operatorRole === found.operatorRole)
    return { ...found, update: { status: "Successful", reason: "No configuration changes detected" } };
  return { ...found, configuration, operatorRole, update: { status: "InProgress", reason: "" }, modifiedAt: at };
}

const NEWEST_FIRST = newestFirst<NetworkConnector>(({ createdAt, id }) => ({ time: createdAt.getTime(), key: id }));

async function listConnectors(
  { State, Marker, MaxItems }: OperationInput<"ListNetworkConnectors">,
  { accountId }: RequestContext,
  { store, config }: ConnectorOperationDeps,
): Promise<OperationOutput<"ListNetworkConnectors">> {
  const request = { maxResults: Math.min(MaxItems ?? PAGE_MAX, PAGE_MAX), nextToken: Marker, tokenName: "Marker" };
  const page = await readPage(["ListNetworkConnectors", accountId, State], request, NEWEST_FIRST, (after, limit) =>
    store.networkConnectors.page({ accountId, ...(State && { state: State }) }, after, limit),
  );
  return {
    NetworkConnectors: page.items.map((c) => ({
      Arn: arnOf(c, config.region),
      Name: c.name,
      Id: c.id,
      Type: "VPC_EGRESS",
      State: c.state,
      LastModified: c.modifiedAt,
    })),
    NextMarker: page.nextToken ?? undefined,
  };
}

async function existing(
  operation: string,
  identifier: string,
  context: RequestContext,
  { config, store }: ConnectorOperationDeps,
): Promise<NetworkConnector> {
  const { accountId } = context;
  const wanted = idOrName(operation, identifier, config.region, context);
  const found = await store.networkConnectors.find(accountId, wanted);
  if (!found) throw unknownConnector(identifier, config.region, accountId);
  return found;
}

/** Work on the connector as it is; as it is then, when somebody else has changed it meanwhile. */
async function onCurrent<T>(
  operation: string,
  identifier: string,
  context: RequestContext,
  deps: ConnectorOperationDeps,
  work: (found: NetworkConnector) => Promise<T>,
): Promise<T> {
  for (;;) {
    const found = await existing(operation, identifier, context, deps);
    try {
      return await work(found);
    } catch (err) {
      if (!(err instanceof StaleWriteError)) throw err;
    }
  }
}

/** What the model calls optional and the service does not. @throws TorporError */
function egressOf({
  VpcEgressConfiguration: given,
}: OperationInput<"CreateNetworkConnector">["Configuration"]): VpcEgress {
  const subnetIds = given?.SubnetIds ?? [];
  if (subnetIds.length === 0) throw invalid("SubnetIds cannot be null or empty");
  if (!given?.NetworkProtocol) throw invalid("NetworkProtocol cannot be null or empty");
  if (!given.AssociatedComputeResourceTypes?.length)
    throw invalid("AssociatedComputeResourceTypes cannot be null or empty");
  return { subnetIds, securityGroupIds: given.SecurityGroupIds ?? [], networkProtocol: given.NetworkProtocol };
}

function requiredToken(token: string | null | undefined): string {
  if (!token) throw invalid("ClientToken is a required field");
  return token;
}

function requiredRole(role: string | null | undefined): string {
  if (!role) throw invalid("NetworkConnectorOperatorRole is required for VPC_EGRESS connector type");
  return role;
}

const invalid = (message: string): TorporError => new TorporError("invalid_parameter", message);
const arnOf = ({ accountId, id }: NetworkConnector, region: string): string =>
  formatConnectorArn({ region, account: accountId, id });

function view(c: NetworkConnector, region: string): OperationOutput<"CreateNetworkConnector"> {
  const { subnetIds, securityGroupIds, networkProtocol } = c.configuration;
  return {
    Arn: arnOf(c, region),
    Name: c.name,
    Id: c.id,
    Configuration: {
      VpcEgressConfiguration: {
        SubnetIds: subnetIds,
        SecurityGroupIds: securityGroupIds,
        NetworkProtocol: networkProtocol,
        AssociatedComputeResourceTypes: ["MicroVm"],
      },
    },
    OperatorRole: c.operatorRole,
    State: c.state,
  };
}

const updateView = ({ update }: NetworkConnector) =>
  update ? { LastUpdateStatus: update.status, ...(update.reason && { LastUpdateStatusReason: update.reason }) } : {};
