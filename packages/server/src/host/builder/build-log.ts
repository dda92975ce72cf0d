const MAX_LINE = 8192;
const KEPT_LINES = 40;

export interface BuildLogOptions {
  /** Of the whole build; what is more is counted, not kept. */
  readonly maxBytes: number;
  /** Gets whole lines with their newline. */
  readonly write: (text: string) => void;
  /** Gets every line, also those that the log has no room for. */
  readonly onLine?: (line: string) => void;
}

/**
 * Makes a log out of what programs print: whole lines, valid text, control characters escaped, bounded. A build step
 * can print anything, and as much as it likes.
 */
export class BuildLog {
  readonly #options: BuildLogOptions;
  readonly #decoder = new TextDecoder();
  #room: number;
  #partial = "";
  #tail: string[] = [];

  constructor(options: BuildLogOptions) {
    this.#options = options;
    this.#room = options.maxBytes;
  }

  /** A line of our own. */
  line(text: string): void {
    this.#flush();
    this.#emit(text);
  }

  output(chunk: Uint8Array): void {
    const lines = (this.#partial + this.#decoder.decode(chunk, { stream: true })).split(/\r\n|[\n\r]/);
    this.#partial = lines.pop() ?? "";
    for (const line of lines) this.#emit(line);
    while (this.#partial.length > MAX_LINE) {
      this.#emit(this.#partial.slice(0, MAX_LINE));
      this.#partial = this.#partial.slice(MAX_LINE);
    }
  }

  /** The program has ended: what it left without a newline is a line too. */
  end(): void {
    this.#partial += this.#decoder.decode();
    this.#flush();
  }

  /** The last lines since `mark()`, escaped. */
  tail(): readonly string[] {
    return this.#tail;
  }

  mark(): void {
    this.#tail = [];
  }

  #flush(): void {
    if (this.#partial !== "") this.#emit(this.#partial);
    this.#partial = "";
  }

  #emit(raw: string): void {
    const line = escapeControl(raw);
    this.#options.onLine?.(line);
    this.#tail.push(line);
    if (this.#tail.length > KEPT_LINES) this.#tail.shift();
    if (this.#room < 0) return;
    this.#room -= Buffer.byteLength(line) + 1;
    if (this.#room >= 0) this.#options.write(`${line}\n`);
    else this.#options.write(`[the build log ends here: it is larger than ${this.#options.maxBytes} bytes]\n`);
  }
}

/** Control characters as `\x1b`, so that no terminal acts on them; tabs stay. */
export function escapeControl(text: string): string {
  return text.replace(/(?!\t)[\p{Cc}\u2028\u2029]/gu, (char) => {
    const code = char.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
