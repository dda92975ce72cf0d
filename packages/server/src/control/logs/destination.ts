import { parseImageArn } from "@torpor/protocol";
import type { LogTarget } from "../../logs/names.ts";
import type { Build, Image, ImageVersion } from "../../store/image.ts";
import type { Logging, Microvm } from "../../store/microvm.ts";
import { formatVersion } from "../authorise.ts";

/**
 * Where a microvm's lines go. Only a RunMicrovm that names `cloudWatch` has its lines kept in a group; the image's logging
 * is for its builds. An execution role is not asked for.
 */
export function microvmDestination(vm: Microvm): LogTarget | undefined {
  if (!vm.spec.logging?.cloudWatch) return undefined;
  const name = parseImageArn(vm.imageArn)?.name ?? vm.imageArn;
  return targetOf(vm.spec.logging, vm.accountId, name, {
    day: vm.startedAt,
    version: vm.imageVersion,
    id: vm.id,
  });
}

/** Where a build's log goes: also without a word about logging. */
export function buildDestination(
  image: Image,
  { version, configuration }: ImageVersion,
  build: Build,
  day: Date,
): LogTarget | undefined {
  if (configuration.logging?.disabled) return undefined;
  return targetOf(configuration.logging, image.accountId, image.name, { day, version, id: build.id });
}

function targetOf(
  logging: Logging | null,
  accountId: string,
  imageName: string,
  { day, version, id }: { readonly day: Date; readonly version: number; readonly id: string },
): LogTarget {
  const date = day.toISOString().slice(0, 10).replaceAll("-", "/");
  return {
    accountId,
    group: logging?.cloudWatch?.logGroup ?? `/aws/lambda-microvms/${imageName}`,
    stream: logging?.cloudWatch?.logStream ?? `${date}[${formatVersion(version)}]${id}`,
  };
}
