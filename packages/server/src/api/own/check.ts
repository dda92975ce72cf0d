import { MICROVM_ID } from "@torpor/protocol";
import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { invalidInput } from "../../lib/errors.ts";
import { readQuery } from "../aws/query.ts";
import { jsonBodyOf, plain } from "../json-body.ts";

/** The value in the schema's terms. @throws TorporError `invalid_input` that names each member which is wrong */
export function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.join(".")}: ${message}`,
  );
  throw invalidInput(problems.join("; "));
}

/** The body of JSON in the schema's terms. @throws as `check`, and RequestError when it is none */
export const bodyOf = <T>(schema: z.ZodType<T>, request: FastifyRequest): T =>
  check(schema, plain(jsonBodyOf(request)));

/** Parameters that come once; what comes more often is no value at all. */
export function queryOf(request: FastifyRequest): Record<string, string | undefined> {
  const query = readQuery(request.raw.url ?? "");
  return Object.fromEntries([...query].map(([name, values]) => [name, values.length === 1 ? values[0] : ""]));
}

export const microvm = z.object({
  microvmId: z.string().regex(MICROVM_ID, "expected microvm- and a UUID in lower case"),
});

/** A whole number. */
export const whole = (min: number, max: number) =>
  z.custom<number>((value) => Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max, {
    error: ({ input }) => `expected a whole number from ${min} to ${max}, got ${shown(input)}`,
  });

/** Of a value that is no secret. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length <= 64 ? text : `${text.slice(0, 64).toWellFormed()}…`;
}
