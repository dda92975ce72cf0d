/** Calls back when the signal aborts, at once if it has; until the result is disposed of. */
export function onAbort(signal: AbortSignal, callback: (reason: unknown) => void): Disposable {
  const listener = (): void => callback(signal.reason);
  if (signal.aborted) listener();
  else signal.addEventListener("abort", listener, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", listener) };
}
