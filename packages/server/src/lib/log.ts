import { type Logger, pino } from "pino";

export type Log = Logger;

/** JSON lines on stderr. Values that may hold secrets are cut out wherever they stand. */
export function createLog(level: string): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: [
          "token",
          "*.token",
          "authorization",
          "*.authorization",
          "secretAccessKey",
          "*.secretAccessKey",
          "runHookPayload",
          "*.runHookPayload",
          '*["x-aws-proxy-auth"]',
          '*["X-aws-proxy-auth"]',
        ],
        censor: "[redacted]",
      },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}
