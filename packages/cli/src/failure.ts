import { ApiError, UnreachableError } from "@torpor/sdk";

/** Something that the user can mend: what happened, and the command to try next. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly hint: string | undefined;
  /** 1: it failed. 2: the command line cannot be right. */
  readonly exitCode: 1 | 2;

  constructor(message: string, hint?: string, exitCode: 1 | 2 = 1) {
    super(message);
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

export const usage = (message: string, hint?: string): Failure => new Failure(message, hint, 2);

/** Any error, of a program whose exit codes are somebody else's. */
export class ExitWith extends Error {
  override readonly name = "ExitWith";
  readonly exitCode: number;

  constructor(exitCode: number, cause: unknown) {
    super("see the cause", { cause });
    this.exitCode = exitCode;
  }
}

export interface Explained {
  readonly type: string;
  readonly message: string;
  /** A command, or a sentence. */
  readonly hint: string | undefined;
  readonly exitCode: number;
}

/** Any error in the form that is shown: what happened and what to try next. */
export function explain(err: unknown): Explained {
  if (err instanceof ExitWith) return { ...explain(err.cause), exitCode: err.exitCode };
  if (err instanceof Failure) return { type: "Failure", message: err.message, hint: err.hint, exitCode: err.exitCode };
  if (err instanceof UnreachableError)
    return { type: "Unreachable", message: err.message, hint: "torpor serve", exitCode: 1 };
  if (err instanceof ApiError) {
    const id = err.requestId === undefined ? "" : ` (request ${err.requestId})`;
    return { type: err.type, message: `${err.type}: ${err.message}${id}`, hint: hintFor(err), exitCode: 1 };
  }
  return { type: "Error", message: err instanceof Error ? err.message : String(err), hint: undefined, exitCode: 1 };
}

function hintFor(err: ApiError): string | undefined {
  if (/^Shell access requires SHELL_INGRESS/.test(err.message))
    return "torpor run IMAGE --shell-ingress: what a microvm lets in is said when it is started";
  if (/^MicroVMImage not found|^No active version/.test(err.message)) return "torpor image build DIR";
  if (/^Cannot delete microvm image.* with running microvms/.test(err.message))
    return "torpor ls, and torpor rm ID of those that have it";
  if (/^This is the last version/.test(err.message)) return "torpor image rm IMAGE";
  if (/^MicroVM Image is already in state|image in its current state/i.test(err.message))
    return "torpor image show IMAGE, and the same command when it is settled";
  if (/^Network connector not found/.test(err.message)) return "torpor connector ls";
  if (err.type === "NetworkConnectorLimitExceededException") return "torpor connector ls, and torpor connector rm NAME";
  if (/^A network connector with the name .* already exists/.test(err.message)) return "torpor connector show NAME";
  if (/^Checkpoint not found/.test(err.message)) return "torpor checkpoint ls";
  const foreign = /^The checkpoint (checkpoint-\S+) is of the MicroVM (microvm-[0-9a-f-]+), not of/.exec(err.message);
  if (foreign) return `torpor rollback ${foreign[2]} ${foreign[1]}, or torpor fork ${foreign[1]}`;
  if (err.type === "ConflictException" && /^The checkpoint/.test(err.message)) return "torpor checkpoint ls";
  if (/^Access key not found|is the only root key|has another key already|a key named/.test(err.message))
    return "torpor key ls";
  if (/^Account not found|is the server's own account/.test(err.message)) return "torpor account ls";
  if (err.status === 404) return "torpor ls --all";
  if (/is not authorized to perform/.test(err.message))
    return "torpor key policy KEY, with a key that may do everything, shows what this one may do";
  if (err.status === 401 || err.status === 403)
    return 'eval "$(torpor env)", or unset AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL';
  if (err.status === 402) return "torpor quotas, and torpor rm ID of what is not needed";
  if (err.status === 429) return "the same command again in a moment";
  if (err.type === "BadResponse") return "torpor serve, or --endpoint-url with the API's address";
  if (err.type === "InsufficientCapacityException") return "torpor ls, and torpor suspend ID or torpor rm ID";
  if (err.status >= 500) return "torpor doctor";
  return undefined;
}
