import { type FSWatcher, watch } from "node:fs";
import { realpath } from "node:fs/promises";
import { dirname } from "node:path";
import type { Clock } from "../../lib/clock.ts";
import { messageOf } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.ts";

/** Key and certificate are two files: a moment of rest, so that mostly both are there. */
const REST_MS = 500;

/**
 * Calls back some time after files may have changed. Their folders are watched, since programs that renew certificates
 * put new files, or links, in the place of old ones.
 */
export async function watchFiles(
  files: readonly string[],
  clock: Clock,
  log: Log,
  onChange: () => void,
): Promise<Disposable> {
  const folders = new Set(files.map(dirname));
  for (const file of files) folders.add(dirname(await realpath(file).catch(() => file)));
  let cancel = (): void => {};
  const changed = (): void => {
    cancel();
    cancel = clock.after(REST_MS, onChange);
  };
  const watchers: FSWatcher[] = [];
  for (const folder of folders)
    try {
      const watcher = watch(folder, { persistent: false }, changed);
      watcher.on("error", (err) => log.warn({ folder, reason: messageOf(err) }, "folder is no longer watched"));
      watchers.push(watcher);
    } catch (err) {
      log.warn({ folder, reason: messageOf(err) }, "folder cannot be watched: SIGHUP says that its files have changed");
    }
  return {
    [Symbol.dispose]: () => {
      cancel();
      for (const watcher of watchers) watcher.close();
    },
  };
}
