import { invalidInput } from "../../lib/errors.ts";
import type { Image } from "../../store/image.ts";
import { formatVersion } from "../authorise.ts";

const RESERVED = /^AWS_REGION$|^AWS_LAMBDA_MICROVM_/;

/** @throws TorporError for names that the service sets itself, and for what no process environment can hold */
export function checkEnvironment(environment: Readonly<Record<string, string>> | null | undefined): void {
  for (const [name, value] of Object.entries(environment ?? {})) {
    if (RESERVED.test(name)) throw invalidInput(`Environment variable key '${name}' is reserved`);
    if (name.includes("=") || name.includes("\0"))
      throw invalidInput(`Environment variable key ${JSON.stringify(name)} must not contain '=' or a NUL character`);
    if (value.includes("\0"))
      throw invalidInput(`The value of the environment variable '${name}' must not contain a NUL character`);
  }
}

/** What every process of the image finds in its environment, the same in all microvms of a version. */
export function injectedEnvironment(image: Image, version: number, region: string): Record<string, string> {
  return {
    AWS_REGION: region,
    AWS_LAMBDA_MICROVM_IMAGE_NAME: image.name,
    AWS_LAMBDA_MICROVM_IMAGE_ARN: image.arn,
    AWS_LAMBDA_MICROVM_IMAGE_VERSION: formatVersion(version),
  };
}
