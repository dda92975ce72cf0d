const WITH_HEREDOCS = /^\s*(?:onbuild\s+)?(?:add|copy|run)\s/i;

export interface Heredoc {
  readonly name: string;
  /** Where its instruction begins, counted from 1. */
  readonly line: number;
  readonly ended: boolean;
}

/**
 * Finds the heredocs as Docker and buildah do, and makes of the text one that has none: every `<<` hidden, their
 * content as comments, and each character where it was. The parser of the syntax tree sees heredocs where there are
 * none, in quotes and in arithmetic, and overlooks others.
 * Source: moby/buildkit frontend/dockerfile/parser, `heredocsFromLine`.
 */
export function hideHeredocs(text: string, escapeChar: string): { text: string; heredocs: readonly Heredoc[] } {
  const lines = text.split("\n");
  const out: string[] = [];
  const heredocs: Heredoc[] = [];
  for (let at = 0; at < lines.length; ) {
    const first = at;
    while (at < lines.length && isContinued(lines[at] ?? "", escapeChar, at > first)) at += 1;
    const instruction = lines.slice(first, at + 1).join("\n");
    at += 1;
    out.push(instruction.replaceAll(/<{2,}/g, (run) => "_".repeat(run.length)));
    for (const { name, stripTabs } of WITH_HEREDOCS.test(instruction) ? findHeredocs(instruction, escapeChar) : []) {
      const isEnd = (line: string): boolean => (stripTabs ? line.replace(/^\t+/, "") : line) === name;
      let end = at;
      while (end < lines.length && !isEnd(lines[end] ?? "")) end += 1;
      heredocs.push({ name, line: first + 1, ended: end < lines.length });
      out.push(...lines.slice(at, end + 1).map((line) => "#".repeat(line.length)));
      at = end + 1;
    }
  }
  return { text: out.join("\n"), heredocs };
}

function isContinued(line: string, escapeChar: string, inside: boolean): boolean {
  const bare = line.trim();
  // Comments and empty lines within an instruction do not end it.
  return bare.startsWith("#") || bare === "" ? inside : bare.endsWith(escapeChar);
}

function findHeredocs(instruction: string, escapeChar: string): { name: string; stripTabs: boolean }[] {
  const found: { name: string; stripTabs: boolean }[] = [];
  for (const word of words(instruction, escapeChar)) {
    const match = /^\d*<<(-?)([^<]+)$/.exec(word);
    const name = match?.[2]?.replace(/^(["'])(.*)\1$/s, "$2");
    if (match && name !== undefined && name !== "" && !/\s/.test(name))
      found.push({ name, stripTabs: match[1] === "-" });
  }
  return found;
}

/** Words as a shell splits them, quotes and escapes left in. */
function* words(text: string, escapeChar: string): Generator<string> {
  let word = "";
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    if (char === escapeChar && quote !== "'") {
      const continued = /^[ \t]*\n/.exec(text.slice(i + 1, i + 200));
      if (!continued) word += char + text.charAt(i + 1);
      i += continued ? continued[0].length : 1;
    } else if (quote === "" && /\s/.test(char)) {
      if (word !== "") yield word;
      word = "";
    } else {
      word += char;
      if (quote !== "") quote = char === quote ? "" : quote;
      else if (char === '"' || char === "'") quote = char;
    }
  }
  if (word !== "") yield word;
}
