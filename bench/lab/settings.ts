/** How the server is to be set up for what is measured: the one place that names its settings. */
export type Mode = keyof typeof MODES;

const NO_POOL = { TORPOR_POOL_SIZE: "0" };
const NO_STANDBY = { TORPOR_STANDBY_SECONDS: "0" };

export const MODES = {
  /** As users start it. */
  usual: {},
  /** Launches are restored when they are asked for. */
  unprimed: NO_POOL,
  /** What sleeps has no process. */
  stored: NO_STANDBY,
  /** No process but those of running microvms. */
  bare: { ...NO_POOL, ...NO_STANDBY },
} as const satisfies Record<string, Readonly<Record<string, string>>>;

const NAMES = Object.values(MODES).flatMap((mode) => Object.keys(mode));

/** For the servers that are started from here on. */
export function enter(mode: Mode): void {
  for (const name of NAMES) delete process.env[name];
  Object.assign(process.env, MODES[mode]);
}
