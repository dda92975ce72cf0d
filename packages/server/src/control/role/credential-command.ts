import { z } from "zod";
import { run } from "../../lib/run.ts";

/** Short-lived credentials of a role. */
export interface RoleCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly updatedAt: Date;
  readonly expiresAt: Date;
}

const COMMAND_MS = 30_000;
const MAX_OUTPUT = 64 << 10;
/** Longer than any role session that AWS gives. */
const MAX_LIFETIME_MS = 12 * 3_600_000 + 60_000;

/** As `credential_process` of the AWS SDKs has it; a session token and an end are what makes them short-lived. */
const output = z.object({
  Version: z.literal(1),
  AccessKeyId: z.string().min(1),
  SecretAccessKey: z.string().min(1),
  SessionToken: z.string().min(1),
  Expiration: z.iso.datetime({ offset: true }),
});

/**
 * Asks a program for credentials. It gets no environment of ours but a PATH.
 * @throws Error that says what is wrong with its answer, and never what it was
 */
export async function askCommand(
  [program, ...args]: readonly string[],
  now: number,
  signal: AbortSignal,
): Promise<RoleCredentials> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(COMMAND_MS)]);
  const text = await run(program!, args, { signal: limited, maxOutput: MAX_OUTPUT });
  const parsed = output.safeParse(asJson(text));
  if (!parsed.success) {
    const members = [...new Set(parsed.error.issues.map(({ path }) => path.join(".") || "the whole"))];
    throw new Error(
      `${program} did not print credentials in the format of credential_process, version 1: see ${members.join(", ")}`,
    );
  }
  const { AccessKeyId, SecretAccessKey, SessionToken, Expiration } = parsed.data;
  const expiresAt = new Date(Expiration);
  const left = expiresAt.getTime() - now;
  if (left <= 0) throw new Error(`${program} printed credentials that have expired at ${Expiration}`);
  if (left > MAX_LIFETIME_MS)
    throw new Error(`${program} printed credentials that are valid until ${Expiration}: 12 hours are the most`);
  return {
    accessKeyId: AccessKeyId,
    secretAccessKey: SecretAccessKey,
    sessionToken: SessionToken,
    updatedAt: new Date(now),
    expiresAt,
  };
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
