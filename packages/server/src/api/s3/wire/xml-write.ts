/** Markup that is ready to be sent. Only this file makes it, so that every text in it has been escaped. */
class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type { Markup };

export type XmlContent = string | number | boolean | undefined | Markup | readonly XmlContent[];

export const XML_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n';
const S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/";

/** An element; `undefined` as its only content leaves it out. */
export function element(name: string, content: XmlContent): Markup {
  return new Markup(content === undefined ? "" : `<${name}>${render(content)}</${name}>`);
}

/** The outermost element of an answer. */
export function rootElement(name: string, content: XmlContent, namespace = S3_NAMESPACE): Markup {
  return new Markup(`<${name} xmlns="${namespace}">${render(content)}</${name}>`);
}

function render(content: XmlContent): string {
  if (content === undefined) return "";
  if (content instanceof Markup) return content.text;
  if (typeof content === "object") return content.map(render).join("");
  return escapeText(String(content));
}

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/**
 * Control characters become character references, as S3 sends them: XML 1.0 forbids most of them, so a client that lists
 * such keys asks for `encoding-type=url`.
 */
function escapeText(text: string): string {
  return text.replace(/[&<>"\p{Cc}\ufffe\uffff]/gu, (c) => ESCAPES[c] ?? `&#x${c.charCodeAt(0).toString(16)};`);
}
