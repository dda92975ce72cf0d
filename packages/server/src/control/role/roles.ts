import { abortable } from "../../lib/abortable.ts";
import type { Clock } from "../../lib/clock.ts";
import { invalidInput } from "../../lib/errors.ts";
import { askCommand, type RoleCredentials } from "./credential-command.ts";
import type { RoleCommands } from "./role-file.ts";

/** Renewed when so much of their life is left, or a third of it if that is less. */
const RENEW_BEFORE_MS = 10 * 60_000;

export interface RolesDeps {
  readonly commands: RoleCommands;
  /** A role that is not configured is refused. */
  readonly strict: boolean;
  readonly clock: Clock;
  /** Ends a command that still runs when the server closes. */
  readonly shutdown: AbortSignal;
}

/** The roles that this server has credentials for. All microvms of a role share its credentials of the moment. */
export class Roles {
  readonly #deps: RolesDeps;
  readonly #current = new Map<string, RoleCredentials>();
  readonly #asking = new Map<string, Promise<RoleCredentials>>();

  constructor(deps: RolesDeps) {
    this.#deps = deps;
  }

  configured(arn: string): boolean {
    return this.#deps.commands.has(arn);
  }

  /** @throws TorporError when roles are strict and this one is not configured */
  check(arn: string): void {
    if (this.#deps.strict && !this.configured(arn))
      throw invalidInput(`The role ${arn} is not in the role-file of this server, and strict-roles refuses such.`);
  }

  /** What a user is told of a role without credentials; undefined when there are some, or there is no role. */
  lack(arn: string | null): string | undefined {
    if (arn === null || this.configured(arn)) return undefined;
    return `The role ${arn} is not in the role-file of this server: the MicroVM gets no credentials.`;
  }

  /**
   * Credentials with some life left: those of the moment, or new ones.
   * @throws Error when the role is not configured or its command fails and there are none that are still valid
   */
  async credentials(arn: string, signal: AbortSignal): Promise<RoleCredentials> {
    const current = this.#current.get(arn);
    const now = this.#deps.clock.now();
    if (current && now < renewAt(current)) return current;
    try {
      return await abortable(this.#ask(arn), signal);
    } catch (err) {
      if (current && now < current.expiresAt.getTime()) return current;
      throw err;
    }
  }

  /** Once, however many want them. */
  async #ask(arn: string): Promise<RoleCredentials> {
    const { commands, clock, shutdown } = this.#deps;
    const command = commands.get(arn);
    if (!command) throw new Error(`the role ${arn} is not configured`);
    let asking = this.#asking.get(arn);
    if (!asking) {
      asking = askCommand(command, clock.now(), shutdown)
        .then((credentials) => {
          this.#current.set(arn, credentials);
          return credentials;
        })
        .finally(() => this.#asking.delete(arn));
      this.#asking.set(arn, asking);
    }
    return await asking;
  }
}

function renewAt({ updatedAt, expiresAt }: RoleCredentials): number {
  const life = expiresAt.getTime() - updatedAt.getTime();
  return expiresAt.getTime() - Math.min(RENEW_BEFORE_MS, life / 3);
}
