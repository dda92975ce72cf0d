import { S3Error } from "../s3-error.ts";

export interface XmlElement {
  /** Without namespace prefix. */
  readonly name: string;
  readonly children: readonly XmlElement[];
  /** The text directly inside, references resolved. */
  readonly text: string;
}

const MAX_DEPTH = 16;
const NAME = /[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?/y;
const ATTRIBUTE = /\s+[A-Za-z_][\w.:-]*\s*=\s*(?:"[^<"]*"|'[^<']*')/y;
const NAMED: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

/**
 * Reads the small documents that clients send: elements, text, comments, the five named references and numeric ones.
 * A document type, processing instruction or CDATA is refused: nothing in it can name a file or grow.
 * @throws S3Error MalformedXML
 */
export function parseXml(bytes: Uint8Array): XmlElement {
  const reader = new Reader(decode(bytes));
  reader.skipProlog();
  const root = reader.element(0);
  reader.skipMisc();
  if (!reader.atEnd) throw malformed();
  return root;
}

/** The only child of that name; `undefined` when there is none. @throws S3Error when there are several */
export function child(parent: XmlElement, name: string): XmlElement | undefined {
  const found = children(parent, name);
  if (found.length > 1) throw malformed();
  return found[0];
}

export function children(parent: XmlElement, name: string): XmlElement[] {
  return parent.children.filter((c) => c.name === name);
}

export const malformed = (): S3Error => new S3Error("MalformedXML");

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get atEnd(): boolean {
    return this.#at === this.#text.length;
  }

  skipProlog(): void {
    this.#match(/\ufeff/y);
    this.#match(/<\?xml\s[^<>?]*\?>/y);
    this.skipMisc();
  }

  /** White space and comments. */
  skipMisc(): void {
    for (;;) {
      this.#match(/\s+/y);
      if (!this.#text.startsWith("<!--", this.#at)) return;
      this.#skipComment();
    }
  }

  element(depth: number): XmlElement {
    if (depth > MAX_DEPTH) throw malformed();
    this.#expect("<");
    const name = this.#match(NAME);
    if (name === undefined) throw malformed();
    while (this.#match(ATTRIBUTE) !== undefined);
    this.#match(/\s+/y);
    const local = name.slice(name.indexOf(":") + 1);
    if (this.#match(/\/>/y) !== undefined) return { name: local, children: [], text: "" };
    this.#expect(">");
    const content = this.#content(depth);
    this.#expect("</");
    this.#expect(name);
    this.#match(/\s+/y);
    this.#expect(">");
    return { name: local, ...content };
  }

  #content(depth: number): { children: XmlElement[]; text: string } {
    const children: XmlElement[] = [];
    let text = "";
    for (;;) {
      const end = this.#text.indexOf("<", this.#at);
      if (end < 0) throw malformed();
      text += resolveReferences(this.#text.slice(this.#at, end));
      this.#at = end;
      if (this.#text.startsWith("</", end)) return { children, text };
      if (this.#text.startsWith("<!--", end)) this.#skipComment();
      else children.push(this.element(depth + 1));
    }
  }

  #skipComment(): void {
    const end = this.#text.indexOf("-->", this.#at + 4);
    if (end < 0) throw malformed();
    this.#at = end + 3;
  }

  #match(sticky: RegExp): string | undefined {
    sticky.lastIndex = this.#at;
    const found = sticky.exec(this.#text)?.[0];
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #expect(text: string): void {
    if (!this.#text.startsWith(text, this.#at)) throw malformed();
    this.#at += text.length;
  }
}

function resolveReferences(text: string): string {
  if (!text.includes("&")) return text;
  return text.replace(/&([^;&]*;?)/g, (_, reference: string) => {
    const m = /^(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#x([0-9a-fA-F]{1,6}));$/.exec(reference);
    if (!m) throw malformed();
    if (m[1] !== undefined) return NAMED[m[1]]!;
    const code = m[2] === undefined ? Number.parseInt(m[3]!, 16) : Number(m[2]);
    if (code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) throw malformed();
    return String.fromCodePoint(code);
  });
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw malformed();
  }
}
