/**
 * A pattern of IAM: `*` stands for any characters, none included, `?` for exactly one. Takes time in proportion to
 * pattern × text at most, whatever the pattern: none can keep the server busy.
 */
export function matchesGlob(pattern: string, text: string): boolean {
  const p = Array.from(pattern);
  const t = Array.from(text);
  let at = 0;
  /** The last star, and where in the text what follows it was tried. */
  let star = -1;
  let tried = 0;
  for (let i = 0; i < t.length; ) {
    if (p[at] === "*") {
      star = at++;
      tried = i;
    } else if (at < p.length && (p[at] === "?" || p[at] === t[i])) {
      at++;
      i++;
    } else if (star >= 0) {
      at = star + 1; // the star takes one character more
      i = ++tried;
    } else return false;
  }
  while (p[at] === "*") at++;
  return at === p.length;
}
