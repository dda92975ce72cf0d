import { TorporError } from "../../lib/errors.ts";

export const groupArn = (region: string, accountId: string, group: string): string =>
  `arn:aws:logs:${region}:${accountId}:log-group:${group}`;
export const streamArn = (region: string, accountId: string, group: string, stream: string): string =>
  `${groupArn(region, accountId, group)}:log-stream:${stream}`;

/** What a caller calls a group: its name, or its ARN with or without `:*`. */
export function groupNamed(
  text: string,
  own: { readonly region: string; readonly accountId: string },
): { readonly region: string; readonly accountId: string; readonly name: string } {
  const match = /^arn:aws:logs:([a-z0-9-]+):(\d{12}):log-group:([^:*]+)(:\*)?$/.exec(text);
  const { region, accountId } = own;
  return match ? { region: match[1]!, accountId: match[2]!, name: match[3]! } : { region, accountId, name: text };
}

/** In the service's words. */
export const noSuchGroup = (): TorporError => new TorporError("not_found", "The specified log group does not exist.");
export const noSuchStream = (): TorporError => new TorporError("not_found", "The specified log stream does not exist.");
