import type { HostClient } from "../../host/host-client.ts";
import type { Clock } from "../../lib/clock.ts";
import type { Log } from "../../lib/log.ts";
import { repeat } from "../../lib/repeat.ts";
import type { Fleet } from "../microvm/fleet.ts";
import type { LiveMicrovm } from "../microvm/live.ts";
import type { RoleCredentials } from "./credential-command.ts";
import type { Roles } from "./roles.ts";

const SWEEP_MS = 10_000;

export interface GuestCredentialsDeps {
  readonly roles: Roles;
  readonly fleet: Pick<Fleet, "all">;
  readonly host: Pick<HostClient, "setCredentials">;
  readonly clock: Clock;
  readonly log: Log;
}

/** Sees to it that running microvms with an execution role have valid credentials. */
export class GuestCredentials {
  readonly #deps: GuestCredentialsDeps;
  /** What each has; after a restart of the server nobody knows, and all are given some. */
  readonly #given = new WeakMap<LiveMicrovm, RoleCredentials>();

  constructor(deps: GuestCredentialsDeps) {
    this.#deps = deps;
  }

  /**
   * What a microvm starts or wakes with. Without a role nothing; with one that has no credentials, none, whatever its
   * memory still holds: they may be those of the microvm that it was forked from.
   */
  async at(live: LiveMicrovm, signal: AbortSignal): Promise<{ readonly credentials?: string }> {
    const arn = live.vm.spec.executionRoleArn;
    if (arn === null) return {};
    const { roles, log } = this.#deps;
    if (!roles.configured(arn)) return live.vm.fork ? { credentials: "" } : {};
    try {
      const credentials = await roles.credentials(arn, signal);
      this.#given.set(live, credentials);
      return { credentials: documentOf(credentials) };
    } catch (err) {
      signal.throwIfAborted();
      log.warn({ err, microvmId: live.vm.id, role: arn }, "no credentials for a microvm; tried again later");
      this.#given.delete(live);
      return { credentials: "" };
    }
  }

  /** Renews until the signal. Resolves when it has stopped. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    const failed = (err: unknown): void => log.error({ err }, "renewal of credentials failed");
    await repeat(clock, SWEEP_MS, () => this.sweep(signal), failed, signal);
  }

  /** One look at all microvms. Never throws. */
  async sweep(signal: AbortSignal): Promise<void> {
    const { roles, fleet } = this.#deps;
    const inUse = [...fleet.all()].filter(({ vm }) => vm.state === "RUNNING" && vm.spec.executionRoleArn !== null);
    const arns = new Set(inUse.map(({ vm }) => vm.spec.executionRoleArn!).filter((arn) => roles.configured(arn)));
    await Promise.all([...arns].map((arn) => this.#renew(arn, inUse, signal)));
  }

  async #renew(arn: string, inUse: readonly LiveMicrovm[], signal: AbortSignal): Promise<void> {
    const { roles, host, log } = this.#deps;
    let credentials: RoleCredentials;
    try {
      credentials = await roles.credentials(arn, signal);
    } catch (err) {
      if (!signal.aborted) log.warn({ err, role: arn }, "credentials not renewed");
      return;
    }
    for (const live of inUse) {
      if (live.vm.spec.executionRoleArn !== arn || this.#given.get(live) === credentials) continue;
      try {
        await host.setCredentials(live.vm.id, documentOf(credentials), AbortSignal.any([signal, live.closing]));
        this.#given.set(live, credentials);
      } catch (err) {
        // One that leaves RUNNING meanwhile gets them when it comes back.
        if (!signal.aborted && !live.closing.aborted)
          log.warn({ err, microvmId: live.vm.id }, "credentials not given to a microvm");
      }
    }
  }
}

/** As EC2's metadata service has it, which the SDKs know how to read. */
export function documentOf(c: RoleCredentials): string {
  return JSON.stringify({
    Code: "Success",
    LastUpdated: seconds(c.updatedAt),
    Type: "AWS-HMAC",
    AccessKeyId: c.accessKeyId,
    SecretAccessKey: c.secretAccessKey,
    Token: c.sessionToken,
    Expiration: seconds(c.expiresAt),
  });
}

const seconds = (date: Date): string => date.toISOString().replace(/\.\d+Z$/, "Z");
