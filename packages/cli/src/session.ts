import { ObjectStore, TorporClient } from "@torpor/sdk";
import { Command, InvalidArgumentError } from "commander";
import { type Connection, type ConnectionFlags, resolveConnection } from "./connection.ts";
import { readEnvironment } from "./environment.ts";
import { Output } from "./output.ts";

/** What a command works with. */
export interface Session {
  readonly out: Output;
  readonly connection: Connection;
  readonly client: TorporClient;
  readonly store: ObjectStore;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
}

export interface CommonFlags extends ConnectionFlags {
  readonly json?: boolean;
}

/** A command that talks to a server, with the flags that all of them have. */
export function clientCommand(name: string, summary: string): Command {
  return new Command(name)
    .description(summary)
    .option("--json", "print JSON for programs")
    .optionsGroup("Connection:")
    .option("--endpoint-url <url>", "the API's address (AWS_ENDPOINT_URL)")
    .option("--region <region>", "AWS_REGION")
    .option("--access-key-id <id>", "AWS_ACCESS_KEY_ID")
    .option("--secret-access-key <secret>", "AWS_SECRET_ACCESS_KEY")
    .option("--ca-file <file>", "PEM of the authority behind the microvms' endpoints")
    .option("--data-dir <dir>", "where the server keeps its data (TORPOR_DATA_DIR)")
    .optionsGroup("Options:");
}

/** @throws Failure when no server is known */
export function openSession(flags: CommonFlags, signal: AbortSignal): Session {
  const environment = readEnvironment();
  const connection = resolveConnection(flags, environment, process.getuid?.() === 0);
  const { region, credentials } = connection;
  return {
    out: outputFor(flags.json === true),
    connection,
    client: new TorporClient({ endpointUrl: connection.endpointUrl, region, credentials }),
    store: new ObjectStore({ endpointUrl: connection.s3EndpointUrl, region, credentials }),
    signal,
  };
}

export function outputFor(json: boolean): Output {
  return new Output({ json, colour: process.stdout.isTTY === true && !readEnvironment().noColor });
}

/** Parses a flag's value: a whole number in a range. */
export const whole =
  (min: number, max: number) =>
  (text: string): number => {
    const n = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (Number.isNaN(n) || n < min || n > max) throw new InvalidArgumentError(`expected ${min} to ${max}`);
    return n;
  };

/** A flag that can be given several times. */
export const several = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];
