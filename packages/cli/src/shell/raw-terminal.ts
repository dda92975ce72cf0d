import type { ReadStream } from "node:tty";

/**
 * Keys come through as they are pressed, Ctrl-C too. Disposing of it gives the terminal back as it was, and so does the
 * end of the process, however it comes about, but for SIGKILL.
 */
export function rawTerminal(stdin: ReadStream): Disposable {
  const before = stdin.isRaw;
  const restore = (): void => {
    process.off("exit", restore);
    stdin.setRawMode(before);
  };
  stdin.setRawMode(true);
  process.on("exit", restore);
  return { [Symbol.dispose]: restore };
}
