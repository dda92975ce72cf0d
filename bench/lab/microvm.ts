import { setTimeout as sleep } from "node:timers/promises";
import type { Receipt } from "@torpor/sdk";
import { type Answer, get } from "./http.ts";
import type { BenchServer } from "./server.ts";

const IDLE = { maxIdleDurationSeconds: 3600, suspendedDurationSeconds: 7200, autoResumeEnabled: true };
const ANSWER_MS = 60_000;
/** Often enough to be exact, seldom enough not to be what the server is busy with. */
const POLL_MS = 5;

/** A microvm of the bench's image as its user has it: two calls of the API, then requests to the endpoint. */
export class BenchMicrovm {
  readonly id: string;
  readonly #endpoint: string;
  readonly #server: BenchServer;
  #headers: Readonly<Record<string, string>> = {};

  private constructor(server: BenchServer, id: string, endpoint: string) {
    this.#server = server;
    this.id = id;
    this.#endpoint = endpoint;
  }

  static async run(server: BenchServer, mark: (phase: string) => void = () => {}): Promise<BenchMicrovm> {
    const { microvmId, endpoint } = await server.torpor.call("RunMicrovm", {
      imageIdentifier: server.image,
      idlePolicy: IDLE,
    });
    mark("RunMicrovm");
    return await BenchMicrovm.existing(server, microvmId, endpoint, mark);
  }

  static async existing(
    server: BenchServer,
    microvmId: string,
    endpoint: string,
    mark: (phase: string) => void = () => {},
  ): Promise<BenchMicrovm> {
    const vm = new BenchMicrovm(server, microvmId, endpoint);
    const { authToken } = await server.torpor.call("CreateMicrovmAuthToken", {
      microvmIdentifier: microvmId,
      expirationInMinutes: 60,
      allowedPorts: [{ port: 8080 }],
    });
    vm.#headers = { ...authToken };
    mark("token");
    return vm;
  }

  /** @throws Error when the answer is not 200 */
  async get(path = "/"): Promise<Answer> {
    const { ca, endpointPort } = this.#server;
    const url = new URL(`https://${this.#endpoint}`);
    if (url.port === "") url.port = String(endpointPort);
    const answer = await get({ url, address: "127.0.0.1", headers: this.#headers, ca }, path, ANSWER_MS);
    if (answer.status !== 200)
      throw new Error(`${path} of ${this.id}: ${answer.status} ${answer.headers["x-aws-proxy-error"]} ${answer.body}`);
    return answer;
  }

  /** Resolves when it is durable. */
  async suspend(): Promise<void> {
    await this.#server.torpor.call("SuspendMicrovm", { microvmIdentifier: this.id });
    await this.until("SUSPENDED");
  }

  async terminate(): Promise<void> {
    await this.#server.torpor.call("TerminateMicrovm", { microvmIdentifier: this.id });
    await this.until("TERMINATED");
  }

  async receipt(operation: string): Promise<Receipt> {
    return await this.#server.receipt(this.id, operation);
  }

  async until(wanted: string): Promise<void> {
    const deadline = Date.now() + 120_000;
    for (;;) {
      const { state, stateReason } = await this.#server.torpor.call("GetMicrovm", { microvmIdentifier: this.id });
      if (state === wanted) return;
      if (state === "TERMINATED" || Date.now() > deadline)
        throw new Error(`${this.id} is ${state} (${stateReason}), not ${wanted}`);
      await sleep(POLL_MS);
    }
  }
}

/** The phases of a receipt, for a figure. */
export function phasesOf(receipt: Receipt): Record<string, number> {
  const phases: Record<string, number> = {};
  for (const { name, ms } of receipt.phases) phases[`host: ${name}`] = (phases[`host: ${name}`] ?? 0) + ms;
  return { ...phases, "host: all": receipt.totalMs };
}
