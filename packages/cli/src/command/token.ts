import { Argument, type Command } from "commander";
import { Failure } from "../failure.ts";
import { type CommonFlags, clientCommand, openSession, type Session, several, whole } from "../session.ts";

interface TokenFlags extends CommonFlags {
  readonly port?: readonly string[];
  readonly allPorts?: boolean;
  readonly minutes: number;
}

export const TOKEN_HEADER = "X-aws-proxy-auth";

export function tokenCommand(signal: AbortSignal): Command {
  return clientCommand("token", `mint a token for a microvm's endpoint: the value of its header ${TOKEN_HEADER}`)
    .addArgument(new Argument("<id>"))
    .option("--port <port>", "a port that it opens (several; default 8080)", several)
    .option("--all-ports", "it opens every port")
    .option("--minutes <n>", "how long it lives", whole(1, 60), 30)
    .action(async (id: string, flags: TokenFlags) => {
      const session = openSession(flags, signal);
      const ports = (flags.port ?? ["8080"]).map(whole(1, 65535));
      const token = await mintToken(id, flags.allPorts ? "all" : ports, flags.minutes, session);
      session.out.result({ authToken: { [TOKEN_HEADER]: token } }, () => token);
    });
}

/** @throws ApiError; Failure when the answer has no token */
export async function mintToken(
  microvmIdentifier: string,
  ports: "all" | readonly number[],
  expirationInMinutes: number,
  { client, signal }: Session,
): Promise<string> {
  const allowedPorts = ports === "all" ? [{ allPorts: {} }] : ports.map((port) => ({ port }));
  const answer = await client.call(
    "CreateMicrovmAuthToken",
    { microvmIdentifier, expirationInMinutes, allowedPorts },
    signal,
  );
  const token = answer.authToken[TOKEN_HEADER];
  if (token === undefined) throw new Failure(`the server's answer has no ${TOKEN_HEADER}`, "torpor doctor");
  return token;
}
