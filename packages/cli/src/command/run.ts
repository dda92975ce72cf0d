import type { OperationInput } from "@torpor/protocol";
import { Argument, type Command } from "commander";
import { Failure, usage } from "../failure.ts";
import { endpointUrl, imageArn } from "../names.ts";
import { type CommonFlags, clientCommand, openSession, type Session, whole } from "../session.ts";
import { until } from "../wait.ts";

interface RunFlags extends CommonFlags {
  readonly imageVersion?: string;
  readonly idle?: number;
  readonly suspendedFor?: number;
  readonly autoResume: boolean;
  readonly maxDuration?: number;
  readonly payload?: string;
  readonly wait: boolean;
}

/** How long a suspended microvm is kept when only --idle was given: the longest life that a microvm has. */
const LONGEST_SECONDS = 28_800;

export function runCommand(signal: AbortSignal): Command {
  return clientCommand("run", "start a microvm; prints its id and URL")
    .addArgument(new Argument("<image>", "name or ARN"))
    .option("--image-version <version>", "instead of the newest")
    .option("--idle <seconds>", "suspend after so long without traffic", whole(60, LONGEST_SECONDS))
    .option("--suspended-for <seconds>", "end it after so long in suspension", whole(0, LONGEST_SECONDS))
    .option("--no-auto-resume", "requests do not wake it")
    .option("--max-duration <seconds>", "end it after so long, whatever it does", whole(1, LONGEST_SECONDS))
    .option("--payload <text>", "for the run hook")
    .option("--no-wait", "do not wait until it runs")
    .action((image: string, flags: RunFlags) => run(image, flags, openSession(flags, signal)));
}

async function run(image: string, flags: RunFlags, session: Session): Promise<void> {
  const { client, connection, out, signal } = session;
  const started = await client.call("RunMicrovm", runRequest(imageArn(connection, image), flags), signal);
  const vm = flags.wait ? await untilRunning(started.microvmId, session) : started;
  const url = endpointUrl(connection, vm.endpoint).href;
  out.result({ microvmId: vm.microvmId, state: vm.state, endpoint: vm.endpoint, url }, () => `${vm.microvmId}\n${url}`);
  out.progress(`next: torpor call ${vm.microvmId} /`);
}

function runRequest(imageIdentifier: string, flags: RunFlags): OperationInput<"RunMicrovm"> {
  if (flags.idle === undefined && (flags.suspendedFor !== undefined || !flags.autoResume))
    throw usage("--suspended-for and --no-auto-resume say how an idle microvm is treated", "the same with --idle 300");
  const idlePolicy =
    flags.idle === undefined
      ? undefined
      : {
          maxIdleDurationSeconds: flags.idle,
          suspendedDurationSeconds: flags.suspendedFor ?? LONGEST_SECONDS,
          autoResumeEnabled: flags.autoResume,
        };
  return {
    imageIdentifier,
    ...(idlePolicy === undefined ? {} : { idlePolicy }),
    ...(flags.imageVersion === undefined ? {} : { imageVersion: flags.imageVersion }),
    ...(flags.maxDuration === undefined ? {} : { maximumDurationInSeconds: flags.maxDuration }),
    ...(flags.payload === undefined ? {} : { runHookPayload: flags.payload }),
  };
}

async function untilRunning(microvmIdentifier: string, { client, signal }: Session) {
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
