import { managedConnectorArn, type OperationInput } from "@torpor/protocol";
import { Argument, type Command } from "commander";
import { Failure, usage } from "../failure.ts";
import { endpointUrl, imageArn } from "../names.ts";
import { type CommonFlags, clientCommand, openSession, type Session, whole } from "../session.ts";
import { until } from "../wait.ts";

/** How a new microvm is to live, whatever it starts from. */
export interface LifeFlags extends CommonFlags {
  readonly idle?: number;
  readonly suspendedFor?: number;
  readonly autoResume: boolean;
  readonly maxDuration?: number;
  readonly payload?: string;
  readonly logGroup?: string | true;
  readonly logStream?: string;
  readonly wait: boolean;
}
interface RunFlags extends LifeFlags {
  readonly imageVersion?: string;
  readonly shellIngress?: boolean;
}

/** How long a suspended microvm is kept when only --idle was given: a microvm's life when nothing is said about it. */
const DEFAULT_SECONDS = 28_800;
/** The server has its own limit, which its operator sets. */
const MOST_SECONDS = 366 * 86_400;

const INGRESS_WITH_SHELLS = ["HTTP_INGRESS", "SHELL_INGRESS"] as const;

export function runCommand(signal: AbortSignal): Command {
  const command = clientCommand("run", "start a microvm; prints its id and URL")
    .addArgument(new Argument("<image>", "name or ARN"))
    .option("--image-version <version>", "instead of the newest")
    .option("--shell-ingress", "let shells in, besides requests");
  return lifeOptions(command).action((image: string, flags: RunFlags) => run(image, flags, openSession(flags, signal)));
}

export function lifeOptions(command: Command): Command {
  return command
    .option("--idle <seconds>", "suspend after so long without traffic", whole(60, MOST_SECONDS))
    .option("--suspended-for <seconds>", "end it after so long in suspension", whole(0, MOST_SECONDS))
    .option("--no-auto-resume", "requests do not wake it")
    .option("--max-duration <seconds>", "end it after so long, whatever it does", whole(1, MOST_SECONDS))
    .option("--payload <text>", "for the run hook")
    .option("--log-group [name]", "keep what it prints in a log group; without a name, its image's")
    .option("--log-stream <name>", "with --log-group: in this stream of it")
    .option("--no-wait", "do not wait until it runs");
}

async function run(image: string, flags: RunFlags, session: Session): Promise<void> {
  const { client, connection, out, signal } = session;
  const imageIdentifier = imageArn(connection, image);
  const { imageVersion, shellIngress = false } = flags;
  const request = {
    imageIdentifier,
    ...lifeOf(flags),
    ...(imageVersion === undefined ? {} : { imageVersion }),
    // Naming one replaces the default.
    ...(shellIngress && {
      ingressNetworkConnectors: INGRESS_WITH_SHELLS.map((name) => managedConnectorArn(connection.region, name)),
    }),
  };
  const started = await client.call("RunMicrovm", request, signal);
  const vm = flags.wait ? await untilRunning(started.microvmId, session) : started;
  const url = endpointUrl(connection, vm.endpoint).href;
  out.result({ microvmId: vm.microvmId, state: vm.state, endpoint: vm.endpoint, url }, () => `${vm.microvmId}\n${url}`);
  out.progress(`next: torpor ${shellIngress ? `shell ${vm.microvmId}` : `call ${vm.microvmId} /`}`);
}

/** As the API takes it; nothing is said about what no flag says. @throws Failure */
export function lifeOf(
  flags: LifeFlags,
): Pick<OperationInput<"RunMicrovm">, "idlePolicy" | "maximumDurationInSeconds" | "runHookPayload" | "logging"> {
  if (flags.idle === undefined && (flags.suspendedFor !== undefined || !flags.autoResume))
    throw usage("--suspended-for and --no-auto-resume say how an idle microvm is treated", "the same with --idle 300");
  const idlePolicy =
    flags.idle === undefined
      ? undefined
      : {
          maxIdleDurationSeconds: flags.idle,
          suspendedDurationSeconds: flags.suspendedFor ?? DEFAULT_SECONDS,
          autoResumeEnabled: flags.autoResume,
        };
  if (flags.logStream !== undefined && flags.logGroup === undefined)
    throw usage("--log-stream says which stream of a log group", "the same with --log-group");
  const cloudWatch = {
    ...(typeof flags.logGroup === "string" && { logGroup: flags.logGroup }),
    ...(flags.logStream !== undefined && { logStream: flags.logStream }),
  };
  return {
    ...(flags.logGroup === undefined ? {} : { logging: { cloudWatch } }),
    ...(idlePolicy === undefined ? {} : { idlePolicy }),
    ...(flags.maxDuration === undefined ? {} : { maximumDurationInSeconds: flags.maxDuration }),
    ...(flags.payload === undefined ? {} : { runHookPayload: flags.payload }),
  };
}

/** @throws Failure when it ends first */
export async function untilRunning(microvmIdentifier: string, { client, signal }: Session) {
  return until(async () => {
    const vm = await client.call("GetMicrovm", { microvmIdentifier }, signal);
    if (vm.state === "TERMINATING" || vm.state === "TERMINATED")
      throw new Failure(
        `${microvmIdentifier} ended before it ran: ${vm.stateReason ?? vm.state}`,
        `torpor logs ${microvmIdentifier}`,
      );
    return vm.state === "PENDING" ? undefined : vm;
  }, signal);
}
