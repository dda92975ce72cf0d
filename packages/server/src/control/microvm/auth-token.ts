import type { OperationInput } from "@torpor/protocol";
import { invalidInput } from "../../lib/errors.ts";
import type { TokenClaims } from "../token/token.ts";

type AllowedPorts = OperationInput<"CreateMicrovmAuthToken">["allowedPorts"];

/** The ports that a token is asked for, as ranges. @throws TorporError when a range is upside down */
export function portRanges(allowed: AllowedPorts): TokenClaims["ports"] {
  return allowed.map(({ port, range, allPorts }) => {
    if (allPorts) return { from: 1, to: 65_535 };
    if (port !== undefined && port !== null) return { from: port, to: port };
    if (!range) throw invalidInput("Each of the allowedPorts must be a port, a range, or allPorts.");
    if (range.startPort > range.endPort)
      throw invalidInput(`The port range ${range.startPort}-${range.endPort} ends before it starts.`);
    return { from: range.startPort, to: range.endPort };
  });
}
