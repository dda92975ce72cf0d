import {
  formatConnectorArn,
  formatImageArn,
  managedConnectorArn,
  type Permission,
  parseConnectorArn,
  type Resource,
} from "@torpor/protocol";
import type { Config } from "../../config.ts";
import type { Store } from "../../store/store.ts";
import { authorise, authoriseAsking, authoriseByPolicy, authorisePassing, notAllowed } from "../authorise.ts";
import { groupArn, groupNamed, streamArn } from "../logs/arn.ts";
import type { Fleet } from "../microvm/fleet.ts";
import type { RequestContext } from "../request-context.ts";
import { principalArn } from "./keys.ts";
import { isOperator, looksAfter } from "./operator.ts";

export interface AuthorityDeps {
  readonly config: Pick<Config, "region" | "accountId">;
  readonly store: Pick<Store, "microvms" | "checkpoints" | "networkConnectors" | "accessKeys">;
  readonly fleet: Pick<Fleet, "get">;
}

/** Members of an operation's input, validated or not. */
export type Members = Readonly<Record<string, unknown>>;

/** Whether a caller may do what it asks for: the operations' permissions, evaluated. */
export class Authority {
  readonly #deps: AuthorityDeps;

  constructor(deps: AuthorityDeps) {
    this.#deps = deps;
  }

  /**
   * Another account's ARN is refused before any look at what exists; another account's id is as good as none, and what
   * does not exist is left to the operation to say.
   * @returns what the permission was asked for
   * @throws TorporError `denied`
   */
  async admit(action: string, permission: Permission, input: Members, context: RequestContext): Promise<string> {
    const resource = await this.#authorise(action, permission.on, input, context);
    const { passesRole, passesConnectors = {} } = permission;
    const { region } = this.#deps.config;
    const connectors = Object.entries(passesConnectors).flatMap(([member, fallback]) => {
      const given = textsIn(input, member);
      if (given.length > 0) return given;
      return fallback === "inherited" ? [] : [managedConnectorArn(region, fallback)];
    });
    authorisePassing(
      {
        role: passesRole && textIn(input, passesRole),
        connectors: await Promise.all(connectors.map((arn) => this.#connectorById(arn, context))),
      },
      context,
    );
    return resource;
  }

  async #authorise(action: string, on: Resource, input: Members, context: RequestContext): Promise<string> {
    const { config } = this.#deps;
    switch (on.kind) {
      case "any":
        authorise(action, "*", context);
        return "*";
      case "server":
        if (!isOperator(context, config.accountId)) throw notAllowed(action, "*", context);
        authorise(action, "*", context);
        return "*";
      case "arn": {
        const arn = textIn(input, on.member) ?? "*";
        const resource = await this.#connectorById(arn, context);
        authorise(action, resource, context);
        return resource;
      }
      case "connector":
        return await this.#authoriseConnector(action, textIn(input, on.member) ?? "", context);
      case "newConnector": {
        const id = textIn(input, on.member) ?? "";
        const arn = formatConnectorArn({ region: config.region, account: context.accountId, id });
        authorise(action, arn, context);
        return arn;
      }
      case "newImage": {
        const name = textIn(input, on.member) ?? "";
        const arn = formatImageArn({ region: config.region, account: context.accountId, name });
        authorise(action, arn, context);
        return arn;
      }
      case "microvm":
        return this.#authoriseFound(action, await this.#imageOfMicrovm(textIn(input, on.member), context), context);
      case "checkpoint":
        return this.#authoriseFound(action, await this.#imageOfCheckpoint(textIn(input, on.member), context), context);
      case "accessKey": {
        const key = await this.#deps.store.accessKeys.find(textIn(input, on.member) ?? "");
        const known = key && looksAfter(context, key.accountId, config.accountId);
        return this.#authoriseFound(action, known ? key.principalArn : undefined, context);
      }
      case "newAccessKey":
        return this.#authoriseOwner(action, input, textIn(input, on.member) ?? "", context);
      case "logGroup": {
        const named = on.members.map((member) => textIn(input, member)).find((text) => text !== undefined);
        const stream = on.stream && textIn(input, on.stream);
        const arn = named === undefined ? "*" : logArn(named, stream, { region: config.region, ...context });
        authorise(action, arn, context);
        return arn;
      }
      case "account":
        return this.#authoriseOwner(action, input, "root", context);
      default:
        return on satisfies never;
    }
  }

  #authoriseFound(action: string, resource: string | undefined, context: RequestContext): string {
    if (resource === undefined) authoriseAsking(action, context);
    else authoriseByPolicy(action, resource, context);
    return resource ?? "*";
  }

  #authoriseOwner(action: string, input: Members, name: string, context: RequestContext): string {
    const accountId = textIn(input, "accountId") ?? context.accountId;
    const arn = principalArn(accountId, name);
    if (!looksAfter(context, accountId, this.#deps.config.accountId)) throw notAllowed(action, arn, context);
    authoriseByPolicy(action, arn, context);
    return arn;
  }

  async #authoriseConnector(action: string, identifier: string, context: RequestContext): Promise<string> {
    const { region } = this.#deps.config;
    const { accountId: account } = context;
    const named = identifier.startsWith("arn:") ? identifier : formatConnectorArn({ region, account, id: identifier });
    const arn = await this.#connectorById(named, context);
    authorise(action, arn, context);
    return arn;
  }

  /** One connector has one ARN for policies, also when it is named by its name; any other ARN is as it is. */
  async #connectorById(named: string, { accountId }: RequestContext): Promise<string> {
    const arn = parseConnectorArn(named);
    if (arn?.account !== accountId) return named;
    const known = await this.#deps.store.networkConnectors.find(accountId, arn.id);
    return known ? formatConnectorArn({ ...arn, id: known.id }) : named;
  }

  async #imageOfMicrovm(id: string | undefined, { accountId }: RequestContext): Promise<string | undefined> {
    if (id === undefined) return undefined;
    const vm = this.#deps.fleet.get(id)?.vm ?? (await this.#deps.store.microvms.find(id));
    return vm?.accountId === accountId ? vm.imageArn : undefined;
  }

  async #imageOfCheckpoint(id: string | undefined, { accountId }: RequestContext): Promise<string | undefined> {
    const checkpoint = id === undefined ? undefined : await this.#deps.store.checkpoints.find(id);
    return checkpoint?.accountId === accountId && !checkpoint.internal ? checkpoint.imageArn : undefined;
  }
}

function logArn(
  named: string,
  stream: string | undefined,
  own: { readonly region: string; readonly accountId: string },
): string {
  const { region, accountId, name } = groupNamed(named, own);
  return stream === undefined ? groupArn(region, accountId, name) : streamArn(region, accountId, name, stream);
}

function textIn(input: Members, member: string): string | undefined {
  const value = input[member];
  return typeof value === "string" ? value : undefined;
}

function textsIn(input: Members, member: string): string[] {
  const value = input[member];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
