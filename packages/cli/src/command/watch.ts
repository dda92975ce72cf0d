import type { Receipt } from "@torpor/sdk";
import { Argument, type Command } from "commander";
import { bytes } from "../output.ts";
import { type CommonFlags, clientCommand, openSession } from "../session.ts";

/** Commands that show what a microvm did. */
export function watchCommands(signal: AbortSignal): Command[] {
  return [
    clientCommand("receipts", "what each operation on a microvm did and cost")
      .addArgument(new Argument("<id>"))
      .action(async (id: string, flags: CommonFlags) => {
        const { client, out } = openSession(flags, signal);
        const receipts = await client.receipts(id, signal);
        out.result(receipts, () =>
          receipts.length === 0
            ? "no receipts yet"
            : out.table(
                ["OPERATION", "STARTED", "MS", "PHASES", "READ", "WRITTEN", "REUSED"],
                receipts.map(receiptRow),
              ),
        );
      }),
  ];
}

/** One line of the receipts' table. */
export function receiptRow(receipt: Receipt): string[] {
  return [
    receipt.operation,
    receipt.startedAt,
    receipt.totalMs.toFixed(1),
    receipt.phases.map((phase) => `${phase.name} ${phase.ms.toFixed(1)}`).join(", "),
    bytes(receipt.bytesRead),
    bytes(receipt.bytesWritten),
    receipt.reused.join(", "),
  ];
}
