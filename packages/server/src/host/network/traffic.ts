import { z } from "zod";
import { run } from "../../lib/run.ts";
import { hostTable, RECEIVED, SENT } from "./host-rules.ts";

/** Bytes of whole packets, without what the guest's agent says, which the endpoint's answers are part of. */
export interface Traffic {
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

const listing = z.object({
  nftables: z.array(
    z.object({
      set: z
        .object({
          elem: z
            .array(z.object({ elem: z.object({ val: z.string(), counter: z.object({ bytes: z.number() }) }) }))
            .default([]),
        })
        .optional(),
    }),
  ),
});
/** A line of each of 16,000 slots, twice, and more. */
const MAX_OUTPUT = 16 << 20;

/** One look for all slots of the range. @param numberOf the slot's, by the name of its interface */
export async function readTraffic(
  cidr: string,
  numberOf: (interfaceName: string) => number,
): Promise<ReadonlyMap<number, Traffic>> {
  const [sent, received] = await Promise.all([SENT, RECEIVED].map((set) => bytesIn(hostTable(cidr), set)));
  return new Map(
    [...sent!].map(([name, sentBytes]) => [numberOf(name), { sentBytes, receivedBytes: received!.get(name) ?? 0 }]),
  );
}

async function bytesIn(table: string, set: string): Promise<Map<string, number>> {
  const text = await run("nft", ["-j", "list", "set", "ip", table, set], { maxOutput: MAX_OUTPUT });
  const { nftables } = listing.parse(JSON.parse(text));
  return new Map(
    nftables.flatMap(({ set: found }) => found?.elem.map(({ elem }) => [elem.val, elem.counter.bytes] as const) ?? []),
  );
}
