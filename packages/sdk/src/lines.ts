import { UnreachableError } from "./api-error.ts";

/** Text as it arrives, characters never cut in two. @throws UnreachableError when the connection breaks */
export async function* textOf(response: Response, signal: AbortSignal): AsyncGenerator<string> {
  if (response.body === null) return;
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body) {
      const text = decoder.decode(chunk, { stream: true });
      if (text !== "") yield text;
    }
  } catch (err) {
    signal.throwIfAborted();
    throw new UnreachableError(response.url, err);
  }
  const rest = decoder.decode();
  if (rest !== "") yield rest;
}

/** Whole lines without their end; a last line without one counts too. */
export async function* linesOf(text: AsyncIterable<string>): AsyncGenerator<string> {
  let pending = "";
  for await (const piece of text) {
    const lines = (pending + piece).split("\n");
    pending = lines.pop() ?? "";
    yield* lines;
  }
  if (pending !== "") yield pending;
}
