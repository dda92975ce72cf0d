import type { Readable } from "node:stream";

/** Hands over a stream's chunks one by one, each when the one before is done with, until it ends or is disposed of. */
export function takeInput(from: Readable, onChunk: (chunk: Buffer) => Promise<void>, onEnd: () => void): Disposable {
  let over = false;
  const data = (chunk: Buffer): void => {
    from.pause();
    void onChunk(chunk).then(() => {
      if (!over) from.resume();
    });
  };
  from.on("data", data).once("end", onEnd);
  return {
    [Symbol.dispose]: () => {
      over = true;
      from.off("data", data).off("end", onEnd);
      from.pause();
      if ("unref" in from && typeof from.unref === "function") from.unref(); // it is not what the process waits for
    },
  };
}
