import { setTimeout as sleep } from "node:timers/promises";
import {
  CHECKPOINT_ID,
  type Checkpoint,
  type ForkOptions,
  type Forks,
  type Lineage,
  OPERATIONS,
  type Operation,
  type OperationInput,
  type OperationName,
  type OperationOutput,
  type QuotaName,
  type Quotas,
  type QuotaValue,
  type Rollback,
  type Usage,
} from "@torpor/protocol";
import { Administration } from "./administration.ts";
import { ApiError } from "./api-error.ts";
import { parseCheckpoint, parseCheckpointPage, parseForks, parseLineage, parseRollback } from "./checkpoints.ts";
import {
  type Health,
  type HostFacts,
  type LogLine,
  parseHealth,
  parseHostFacts,
  parseLogLine,
  parseReceipt,
  parseReceipts,
  type Receipt,
} from "./extensions.ts";
import { linesOf, textOf } from "./lines.ts";
import { LogGroups } from "./log-groups.ts";
import { parseQuotas } from "./quotas.ts";
import { openShell, type ShellOptions, type ShellSession } from "./shell.ts";
import { type ConnectionOptions, Transport } from "./transport.ts";
import { parseUsage } from "./usage.ts";
import { decodeMembers, encodeLabel, encodeRequest } from "./wire.ts";

const ASK_AGAIN_MS = 200;
const LARGEST_PAGE = 50;
const TOKEN_HEADER = "X-aws-proxy-auth";
const NEVER = new AbortController().signal;

/**
 * A Torpor server, spoken to over its API: AWS's operations by name, and Torpor's own under `/torpor/v1`. Every method
 * takes a signal, last, and throws ApiError (the server refused), UnreachableError (no answer) or the signal's reason.
 */
export class TorporClient {
  readonly admin: Administration;
  /** What is kept in the account's log groups. */
  readonly logGroups: LogGroups;
  readonly #transport: Transport;

  /** @throws TypeError when `endpointUrl` is not a URL */
  constructor(options: ConnectionOptions) {
    this.#transport = new Transport("lambda", options);
    this.admin = new Administration(this.#transport);
    this.logGroups = new LogGroups(this.#transport);
  }

  /** One AWS operation: `call("RunMicrovm", { imageIdentifier })`. */
  async call<N extends OperationName>(
    name: N,
    input: OperationInput<N>,
    signal: AbortSignal = NEVER,
  ): Promise<OperationOutput<N>> {
    return (await this.#call(name, Object(input), signal)) as OperationOutput<N>;
  }

  /** The items of one of AWS's lists, page after page: `list("ListMicrovmImages", {})`. */
  async *list<N extends ListOperation>(
    name: N,
    input: Omit<OperationInput<N>, "maxResults" | "nextToken">,
    signal: AbortSignal = NEVER,
  ): AsyncGenerator<OperationOutput<N>["items"][number], void> {
    for (let nextToken: string | null | undefined; ; ) {
      const answer = await this.#call(name, { ...input, maxResults: LARGEST_PAGE, nextToken }, signal);
      const page = answer as Page<OperationOutput<N>["items"][number]>; // as every list has them
      yield* page.items;
      if (!page.nextToken) return;
      nextToken = page.nextToken;
    }
  }

  /** The answer is decoded and checked by the table that the operations' types are derived from. */
  async #call(name: OperationName, input: object, signal: AbortSignal): Promise<unknown> {
    const operation: Operation = OPERATIONS[name];
    const { method, target, body } = encodeRequest(operation, Object(input));
    const answer = await this.#transport.json(
      { method, target, ...(body === undefined ? {} : { body, headers: { "content-type": "application/json" } }) },
      signal,
    );
    const output = decodeMembers(operation.output, answer);
    for (const [member, { required }] of Object.entries(operation.output))
      if (required && output[member] === undefined)
        throw new ApiError(200, "BadResponse", `${name}: the answer has no ${member}: is it Torpor?`, undefined);
    return output;
  }

  /** What each operation on the microvm did and cost, oldest first. */
  async receipts(microvmId: string, signal: AbortSignal = NEVER): Promise<readonly Receipt[]> {
    const target = `${microvmPath(microvmId)}/receipts`;
    return parseReceipts(await this.#transport.json({ method: "GET", target }, signal));
  }

  /** Lines that the workload wrote, oldest first; with `follow` the stream ends when the microvm does. */
  async *logs(
    microvmId: string,
    options: { readonly follow: boolean },
    signal: AbortSignal = NEVER,
  ): AsyncGenerator<LogLine, void> {
    const query = options.follow ? "?follow=true" : "";
    const target = `${microvmPath(microvmId)}/logs${query}`;
    const response = await this.#transport.send({ method: "GET", target }, signal);
    for await (const line of linesOf(textOf(response, signal))) if (line !== "") yield parseLogLine(line);
  }

  /** The log of the version's build as it is written; with `follow` the stream ends when the build does. */
  async *buildLog(
    image: ImageVersion,
    options: { readonly follow: boolean },
    signal: AbortSignal = NEVER,
  ): AsyncGenerator<string, void> {
    const target = `${versionPath(image)}/log${options.follow ? "?follow=true" : ""}`;
    yield* textOf(await this.#transport.send({ method: "GET", target }, signal), signal);
  }

  /**
   * The build's log from its first line until the version is built or has failed. A log that is asked for before its
   * build has begun is empty: it is asked for again.
   */
  async *watchBuild(image: ImageVersion, signal: AbortSignal = NEVER): AsyncGenerator<string, void> {
    for (let seen = 0; ; ) {
      const { state } = await this.call("GetMicrovmImageVersion", image, signal);
      let at = 0;
      for await (const text of this.buildLog(image, { follow: true }, signal)) {
        const fresh = text.slice(Math.max(0, seen - at));
        if (fresh !== "") yield fresh;
        at += text.length;
      }
      seen = Math.max(seen, at);
      if (state !== "PENDING" && state !== "IN_PROGRESS") return;
      await sleep(ASK_AGAIN_MS, undefined, { signal });
    }
  }

  /** What the version's build did and cost. @throws ApiError 404 as long as none has succeeded */
  async buildReceipt(image: ImageVersion, signal: AbortSignal = NEVER): Promise<Receipt> {
    const target = `${versionPath(image)}/receipt`;
    return parseReceipt(await this.#transport.json({ method: "GET", target }, signal));
  }

  /**
   * A restore point of a running or suspended microvm, which goes on; CREATING when it takes long. `previous`: not of
   * what it is now, but of the restore point before its newest, while that is there.
   */
  async createCheckpoint(
    microvmId: string,
    options: { readonly name?: string | undefined; readonly previous?: boolean | undefined } = {},
    signal: AbortSignal = NEVER,
  ): Promise<Checkpoint> {
    return parseCheckpoint(await this.#post(`${microvmPath(microvmId)}/checkpoints`, options, signal));
  }

  /** @throws ApiError 404 when there is none */
  async checkpoint(checkpointId: string, signal: AbortSignal = NEVER): Promise<Checkpoint> {
    return parseCheckpoint(await this.#transport.json({ method: "GET", target: checkpointPath(checkpointId) }, signal));
  }

  /** All of them, or those of one microvm, newest first, page after page. */
  async *checkpoints(
    filter: { readonly microvmId?: string | undefined } = {},
    signal: AbortSignal = NEVER,
  ): AsyncGenerator<Checkpoint, void> {
    const path = filter.microvmId === undefined ? "/torpor/v1" : microvmPath(filter.microvmId);
    for (let query = ""; ; ) {
      const target = `${path}/checkpoints${query}`;
      const page = parseCheckpointPage(await this.#transport.json({ method: "GET", target }, signal));
      yield* page.items;
      if (page.nextToken === null) return;
      query = `?nextToken=${encodeLabel(page.nextToken)}`;
    }
  }

  /** Forks that were made from it live on. @throws ApiError 409 while it is in use */
  async deleteCheckpoint(checkpointId: string, signal: AbortSignal = NEVER): Promise<void> {
    await this.#transport.json({ method: "DELETE", target: checkpointPath(checkpointId) }, signal);
  }

  /** New microvms that continue from a checkpoint, or from what a microvm is now; PENDING when they take long. */
  async fork(from: string, options: ForkOptions = {}, signal: AbortSignal = NEVER): Promise<Forks> {
    const path = CHECKPOINT_ID.test(from) ? checkpointPath(from) : microvmPath(from);
    const clientToken = options.clientToken ?? crypto.randomUUID();
    return parseForks(await this.#post(`${path}/fork`, { ...options, clientToken }, signal));
  }

  /** The microvm is as it was at its checkpoint, RUNNING if it ran; SUSPENDED for now when that takes long. */
  async rollback(microvmId: string, checkpointId: string, signal: AbortSignal = NEVER): Promise<Rollback> {
    return parseRollback(await this.#post(`${microvmPath(microvmId)}/rollback`, { checkpointId }, signal));
  }

  /**
   * A shell, or a command, in a running microvm that lets shells in; a suspended one is woken where its policy says so.
   * @throws ShellError too
   */
  async shell(microvmId: string, options: ShellOptions = {}, signal: AbortSignal = NEVER): Promise<ShellSession> {
    const microvm = { microvmIdentifier: microvmId };
    const { endpoint } = await this.call("GetMicrovm", microvm, signal);
    const minted = await this.call("CreateMicrovmShellAuthToken", { ...microvm, expirationInMinutes: 1 }, signal);
    const token = minted.authToken[TOKEN_HEADER];
    if (token === undefined)
      throw new ApiError(200, "BadResponse", `the answer has no ${TOKEN_HEADER}: is it Torpor?`, undefined);
    const url = new URL(`wss://${endpoint}/shell`);
    if (url.port === "" && options.endpointPort !== undefined) url.port = String(options.endpointPort);
    return await openShell({ url, token }, options, signal);
  }

  /** What the microvm takes of its host now. @throws ApiError 404 when nothing of it is on one */
  async usage(microvmId: string, signal: AbortSignal = NEVER): Promise<Usage> {
    return parseUsage(await this.#transport.json({ method: "GET", target: `${microvmPath(microvmId)}/usage` }, signal));
  }

  /** Which checkpoints the microvm continues from. */
  async lineage(microvmId: string, signal: AbortSignal = NEVER): Promise<Lineage> {
    const target = `${microvmPath(microvmId)}/lineage`;
    return parseLineage(await this.#transport.json({ method: "GET", target }, signal));
  }

  /** What the account may have: the caller's own, unless the operator names another one. */
  async quotas(
    { accountId }: { readonly accountId?: string | undefined } = {},
    signal: AbortSignal = NEVER,
  ): Promise<Quotas> {
    const target = `/torpor/v1/quotas${accountId === undefined ? "" : `?accountId=${encodeURIComponent(accountId)}`}`;
    return parseQuotas(await this.#transport.json({ method: "GET", target }, signal));
  }

  /** For one account, by the server's operator; null is unlimited. */
  async setQuota(accountId: string, name: QuotaName, value: QuotaValue, signal: AbortSignal = NEVER): Promise<void> {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ value });
    await this.#transport.json({ method: "PUT", target: quotaPath(accountId, name), headers, body }, signal);
  }

  /** The account has again what the server's settings say. */
  async resetQuota(accountId: string, name: QuotaName, signal: AbortSignal = NEVER): Promise<void> {
    await this.#transport.json({ method: "DELETE", target: quotaPath(accountId, name) }, signal);
  }

  /** The machine that runs the microvms, and whether its isolation is a security boundary. */
  async host(signal: AbortSignal = NEVER): Promise<HostFacts> {
    return parseHostFacts(await this.#transport.json({ method: "GET", target: "/torpor/v1/host" }, signal));
  }

  /** @throws UnreachableError as long as the server does not answer */
  async health(signal: AbortSignal = NEVER): Promise<Health> {
    return parseHealth(await this.#transport.json({ method: "GET", target: "/torpor/v1/health" }, signal));
  }

  #post(target: string, body: object, signal: AbortSignal): Promise<unknown> {
    const headers = { "content-type": "application/json" };
    return this.#transport.json({ method: "POST", target, body: JSON.stringify(body), headers }, signal);
  }
}

/** The operations that answer page by page. */
export type ListOperation = {
  [N in OperationName]: OperationOutput<N> extends { readonly items: readonly unknown[] } ? N : never;
}[OperationName];

interface Page<T> {
  readonly items: readonly T[];
  readonly nextToken?: string | null;
}

/** As GetMicrovmImageVersion names it. */
export interface ImageVersion {
  readonly imageIdentifier: string;
  readonly imageVersion: string;
}

const quotaPath = (accountId: string, name: QuotaName): string =>
  `/torpor/v1/accounts/${encodeURIComponent(accountId)}/quotas/${name}`;
const microvmPath = (id: string): string => `/torpor/v1/microvms/${encodeLabel(id)}`;
const checkpointPath = (id: string): string => `/torpor/v1/checkpoints/${encodeLabel(id)}`;
const versionPath = ({ imageIdentifier, imageVersion }: ImageVersion): string =>
  `/torpor/v1/images/${encodeLabel(imageIdentifier)}/versions/${encodeLabel(imageVersion)}`;
