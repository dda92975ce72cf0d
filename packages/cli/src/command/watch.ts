import type { LogLine, Receipt } from "@torpor/sdk";
import { Argument, type Command } from "commander";
import { bytes, type Output, printable } from "../output.ts";
import { type CommonFlags, clientCommand, openSession } from "../session.ts";

interface LogFlags extends CommonFlags {
  readonly follow?: boolean;
  readonly timestamps?: boolean;
}

/** Commands that show what a microvm did. */
export function watchCommands(signal: AbortSignal): Command[] {
  return [
    clientCommand("logs", "what the workload wrote")
      .addArgument(new Argument("<id>"))
      .option("-f, --follow", "go on until the microvm ends")
      .option("-t, --timestamps", "with the time of each line")
      .action(async (id: string, flags: LogFlags) => {
        const { client, out } = openSession(flags, signal);
        for await (const line of client.logs(id, { follow: flags.follow === true }, signal))
          out.item(line, () => logText(line, flags.timestamps === true, out));
      }),
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

function logText(line: LogLine, timestamps: boolean, out: Output): string {
  const time = timestamps ? `${out.style("dim", new Date(line.time).toISOString())} ` : "";
  const text = printable(line.text);
  return `${time}${line.stream === "stderr" ? out.style("yellow", text) : text}\n`;
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
