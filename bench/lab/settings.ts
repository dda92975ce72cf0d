/** How the server is to be set up for what is measured: flags of `torpor serve`, in this one place. */
export type Mode = keyof typeof MODES;

export const MODES = {
  /** As users start it. */
  usual: { "pool-size": "4", "standby-seconds": "120" },
  /** Launches are restored when they are asked for. */
  unprimed: { "pool-size": "0", "standby-seconds": "120" },
  /** What sleeps has no process. */
  stored: { "pool-size": "4", "standby-seconds": "0" },
  /** No process but those of running microvms. */
  bare: { "pool-size": "0", "standby-seconds": "0" },
} as const satisfies Record<string, Readonly<Record<string, string>>>;
