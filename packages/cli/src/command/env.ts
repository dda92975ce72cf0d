import { resolve } from "node:path";
import type { Command } from "commander";
import { type CommonFlags, clientCommand, openSession } from "../session.ts";

/** `eval "$(torpor env)"` points every AWS SDK and the AWS CLI of that shell at the server. */
export function envCommand(signal: AbortSignal): Command {
  return clientCommand("env", 'print the environment for AWS SDKs and CLI: eval "$(torpor env)"').action(
    (flags: CommonFlags) => {
      const { out, connection } = openSession(flags, signal);
      const { accessKeyId, secretAccessKey, sessionToken } = connection.credentials;
      const variables: Record<string, string> = {
        AWS_ENDPOINT_URL: connection.endpointUrl,
        AWS_ACCESS_KEY_ID: accessKeyId,
        AWS_SECRET_ACCESS_KEY: secretAccessKey,
        ...(sessionToken === undefined ? {} : { AWS_SESSION_TOKEN: sessionToken }),
        AWS_ACCOUNT_ID: connection.accountId,
        AWS_REGION: connection.region,
        AWS_DEFAULT_REGION: connection.region, // what boto3 and the AWS CLI read
        ...(connection.caFile === undefined ? {} : { NODE_EXTRA_CA_CERTS: resolve(connection.caFile) }),
      };
      out.result(variables, () =>
        Object.entries(variables)
          .map(([name, value]) => `export ${name}=${quote(value)}`)
          .join("\n"),
      );
    },
  );
}

/** As one word of a POSIX shell. */
export function quote(text: string): string {
  return /^[A-Za-z0-9_./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
