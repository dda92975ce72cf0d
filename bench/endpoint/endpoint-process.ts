/**
 * The real endpoint, over a gate that lets everybody in and agents that are stand-ins. Arguments: a folder for its
 * certificates and keys, the domain, the agents' address, how many microvms. Prints one line of JSON: EndpointFacts.
 */
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { EndpointGate } from "../../packages/server/src/control/endpoint-gate.ts";
import { openTokenService } from "../../packages/server/src/control/token/token-service.ts";
import { openAuthority } from "../../packages/server/src/endpoint/authority.ts";
import { createEndpointServer } from "../../packages/server/src/endpoint/server.ts";
import { Agent } from "../../packages/server/src/host/agent/agent.ts";
import { systemClock } from "../../packages/server/src/lib/clock.ts";
import { createLog } from "../../packages/server/src/lib/log.ts";

export interface EndpointFacts {
  readonly port: number;
  readonly caFile: string;
  readonly microvms: readonly { readonly host: string; readonly token: string }[];
}

const [folder = "", domain = "", agentAddress = "", count = ""] = process.argv.slice(2);
const log = createLog("warn");
const clock = systemClock;
const tokens = await openTokenService(join(folder, "tokens.json"), clock, log);
const certificates = await openAuthority({ dataDir: folder, domain, clock, log });
const microvms = new Map(
  Array.from({ length: Number(count) }, () => {
    const id = `microvm-${randomUUID()}`;
    return [
      id,
      {
        label: randomUUID() as string,
        agent: new Agent(agentAddress),
        closing: new AbortController().signal,
        lastUsed: 0,
      },
    ];
  }),
);
const gate: EndpointGate = {
  find: async (id) => {
    const microvm = microvms.get(id);
    return microvm && { label: microvm.label, http: true, shell: false };
  },
  enter: async (id) => {
    const microvm = microvms.get(id);
    if (microvm === undefined) throw new Error(`nobody admits to ${id}`);
    return {
      microvmId: id,
      closing: microvm.closing,
      touch: () => {
        microvm.lastUsed = clock.monotonic();
      },
      connect: (port, signal) => microvm.agent.forward(port, AbortSignal.any([signal, microvm.closing])),
      openShell: () => Promise.reject(new Error("stand-ins for agents have no shells")),
      leave: () => {},
    };
  },
};
const server = createEndpointServer({
  host: "127.0.0.1",
  port: 0,
  domain,
  tls: certificates,
  gate,
  tokens,
  log,
  clock,
  limits: { maxConnectionsPerAddress: 10_000 }, // as endpoint-max-per-address: all of the load comes from one
});
await server.listen();
const facts: EndpointFacts = {
  port: server.address.port,
  caFile: certificates.caFile ?? "",
  microvms: await Promise.all(
    [...microvms].map(async ([microvmId, { label }]) => ({
      host: `${label}.${domain}`,
      token: await tokens.mint({
        microvmId,
        kind: "http",
        ports: [{ from: 8080, to: 8080 }],
        expiresAt: new Date(clock.now() + 3_600_000),
      }),
    })),
  ),
};
console.log(JSON.stringify(facts));
process.once("SIGTERM", () => {
  void server.close().finally(() => process.exit(0)); // by exit, so that a profile is written
});
