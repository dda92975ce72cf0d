import { parseConnectorArn } from "@torpor/protocol";
import type { EgressGrant, EgressPolicy } from "../../host/host-client.ts";
import { INTERNET } from "../../host/network/egress.ts";
import { conflict, invalidInput, type TorporError } from "../../lib/errors.ts";
import type { VpcEgress } from "../../store/network-connector.ts";
import type { Store } from "../../store/store.ts";
import { DEFAULT_GROUP, type Networks } from "./network-file.ts";

export interface ReachDeps {
  readonly networks: Networks;
  readonly region: string;
  readonly store: Pick<Store, "networkConnectors">;
}

/** Anything else is the account's, or nobody's. */
const MANAGED = /^arn:[a-z0-9-]+:lambda:[a-z0-9-]+:aws:network-connector:/;

/** What egress connectors let a guest reach, by what the operator says that their subnets and groups are. */
export class Reach {
  readonly #deps: ReachDeps;

  constructor(deps: ReachDeps) {
    this.#deps = deps;
  }

  /**
   * As it is now: whoever has it keeps it, whatever becomes of connector or file.
   * @param arns of egress connectors, whose form and account have been checked
   * @returns undefined: public addresses, as without any
   * @throws TorporError naming the connector, and the subnets and groups that nobody has said anything of
   */
  async of(arns: readonly string[], accountId: string): Promise<{ readonly egress?: EgressPolicy }> {
    const own = arns.filter((arn) => !MANAGED.test(arn));
    if (own.length === 0) return {};
    const grants = await Promise.all(own.map((arn) => this.#grant(arn, accountId)));
    return { egress: { grants: own.length < arns.length ? [INTERNET, ...grants] : grants } };
  }

  async #grant(arn: string, accountId: string): Promise<EgressGrant> {
    const { store, region, networks } = this.#deps;
    const named = parseConnectorArn(arn);
    const found = named?.region === region ? await store.networkConnectors.find(accountId, named.id) : undefined;
    if (!found) throw invalidInput(`The network connector ${arn} does not exist.`);
    if (found.state === "DELETING") throw conflict(`The network connector ${arn} is being deleted.`);
    return grantOf(arn, found.configuration, accountId, networks);
  }
}

function grantOf(
  arn: string,
  { subnetIds, securityGroupIds }: VpcEgress,
  accountId: string,
  networks: Networks,
): EgressGrant {
  const unknown: string[] = [];
  const entry = <T extends { readonly accounts?: readonly string[] | undefined }>(
    map: ReadonlyMap<string, T>,
    id: string,
  ): T | undefined => {
    const known = map.get(id);
    if (known && (!known.accounts || known.accounts.includes(accountId))) return known;
    unknown.push(id);
    return undefined;
  };
  const subnets = subnetIds.map((id) => entry(networks.subnets, id));
  const groupIds = securityGroupIds.length > 0 ? securityGroupIds : [DEFAULT_GROUP];
  const groups = groupIds.map((id) => entry(networks.groups, id));
  if (unknown.length > 0) throw unmapped(arn, unknown);
  return {
    routes: [...new Set(subnets.flatMap((subnet) => subnet?.routes ?? []))],
    rules: groups.flatMap((group) => group?.rules ?? []),
  };
}

const unmapped = (arn: string, ids: readonly string[]): TorporError =>
  invalidInput(
    `The network connector ${arn} cannot be used: the network-file of this server does not say what ${ids
      .map((id) => (id === DEFAULT_GROUP ? "the default security group" : id))
      .join(", ")} stands for. Have it say so, or use INTERNET_EGRESS.`,
  );
