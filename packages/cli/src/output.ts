import { styleText } from "node:util";
import Table from "cli-table3";

type Style = Parameters<typeof styleText>[0];

/** What the program says: results on stdout (one JSON document, or text for people), everything else on stderr. */
export class Output {
  readonly json: boolean;
  readonly #colour: boolean;

  constructor(options: { readonly json: boolean; readonly colour: boolean }) {
    this.json = options.json;
    this.#colour = options.colour && !options.json;
  }

  /** The command's result: `value` for machines, `text` for people. */
  result(value: unknown, text: () => string): void {
    process.stdout.write(this.json ? `${JSON.stringify(value)}\n` : endLine(text()));
  }

  /** One item of a stream: a JSON document a line, or text for people. */
  item(value: unknown, text: () => string): void {
    this.result(value, text);
  }

  /** How it goes; not part of the result. */
  progress(text: string): void {
    process.stderr.write(endLine(text));
  }

  style(style: Style, text: string): string {
    return this.#colour ? styleText(style, text, { validateStream: false }) : text;
  }

  /** Columns without lines around them, so that the text can be cut and searched. */
  table(head: readonly string[], rows: readonly (readonly string[])[]): string {
    const border = { top: "", "top-mid": "", "top-left": "", "top-right": "", bottom: "", "bottom-mid": "" };
    const more = { "bottom-left": "", "bottom-right": "", left: "", "left-mid": "", mid: "", "mid-mid": "" };
    const table = new Table({
      head: head.map((name) => this.style("bold", name)),
      chars: { ...border, ...more, right: "", "right-mid": "", middle: "  " },
      style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    });
    table.push(...rows.map((row) => row.map(printable)));
    return table
      .toString()
      .split("\n")
      .map((line) => line.trimEnd())
      .join("\n");
  }
}

const endLine = (text: string): string => (text === "" || text.endsWith("\n") ? text : `${text}\n`);

/** Text from elsewhere, safe on a terminal: control characters are spelled out, tabs and line ends kept. */
export function printable(text: string): string {
  return text.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is to be found
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** A size, as people read it. */
export function bytes(n: number): string {
  if (n < 10_240) return `${n} B`;
  if (n < 10 * 1024 ** 2) return `${Math.round(n / 1024)} KiB`;
  return `${Math.round(n / 1024 ** 2)} MiB`;
}

/** `3 s`, `4 min`, `5 h`, `6 d`: how long ago. */
export function age(since: Date, now: Date): string {
  const seconds = Math.max(0, Math.round((now.getTime() - since.getTime()) / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}
