/** What a listing says of an object. */
export interface ListedObject {
  readonly key: string;
  readonly size: number;
  readonly etag: string;
  /** Milliseconds since the epoch. */
  readonly lastModified: number;
}

export interface ListQuery {
  readonly prefix?: string;
  /** Keys that share the text up to its next occurrence after the prefix are listed as one common prefix. */
  readonly delimiter?: string;
  /** List what sorts after this key. A common prefix that an earlier page ended with is not listed again. */
  readonly after?: string;
  readonly max: number;
}

export interface ListPage {
  readonly objects: readonly ListedObject[];
  readonly commonPrefixes: readonly string[];
  readonly truncated: boolean;
  /** The last key or common prefix of the page: the next one's `after`. */
  readonly last: string | undefined;
}

/**
 * Keys as strings of their UTF-8 bytes, one char a byte: JavaScript compares these as S3 sorts keys, which it does
 * not do with the keys themselves (UTF-16 order differs beyond the BMP).
 */
const toBytes = (text: string): string => Buffer.from(text, "utf8").toString("latin1");
const fromBytes = (bytes: string): string => Buffer.from(bytes, "latin1").toString("utf8");

/** No byte of UTF-8 is 0xff, so that the last byte can always be raised. */
const successor = (bytes: string): string =>
  bytes.slice(0, -1) + String.fromCharCode(bytes.charCodeAt(bytes.length - 1) + 1);

/**
 * The keys of a bucket in a sorted array: finding a page is a binary search, a common prefix is one more, however many
 * keys are under it, and an insertion into 10^5 keys moves 800 KB, some tens of microseconds.
 */
export class KeyIndex {
  readonly #names: string[] = [];
  readonly #objects: ListedObject[] = [];

  constructor(objects: Iterable<ListedObject> = []) {
    const sorted = [...objects].map((object) => ({ name: toBytes(object.key), object }));
    sorted.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    for (const { name, object } of sorted) {
      this.#names.push(name);
      this.#objects.push(object);
    }
  }

  get size(): number {
    return this.#names.length;
  }

  put(object: ListedObject): void {
    const name = toBytes(object.key);
    const at = this.#lowerBound(name);
    const replaced = this.#names[at] === name ? 1 : 0;
    this.#names.splice(at, replaced, name);
    this.#objects.splice(at, replaced, object);
  }

  delete(key: string): void {
    const name = toBytes(key);
    const at = this.#lowerBound(name);
    if (this.#names[at] !== name) return;
    this.#names.splice(at, 1);
    this.#objects.splice(at, 1);
  }

  list(query: ListQuery): ListPage {
    const prefix = toBytes(query.prefix ?? "");
    const delimiter = toBytes(query.delimiter ?? "");
    const after = toBytes(query.after ?? "");
    const objects: ListedObject[] = [];
    const commonPrefixes: string[] = [];
    let last: string | undefined;
    let truncated = false;

    let at = Math.max(this.#lowerBound(prefix), after === "" ? 0 : this.#upperBound(after));
    while (at < this.#names.length) {
      const name = this.#names[at]!;
      if (!name.startsWith(prefix)) break;
      const cut = delimiter === "" ? -1 : name.indexOf(delimiter, prefix.length);
      const common = cut < 0 ? undefined : name.slice(0, cut + delimiter.length);
      if (common !== undefined && common === after) {
        at = this.#lowerBound(successor(common));
        continue;
      }
      if (objects.length + commonPrefixes.length >= query.max) {
        truncated = query.max > 0;
        break;
      }
      if (common === undefined) {
        const object = this.#objects[at]!;
        objects.push(object);
        last = object.key;
        at++;
      } else {
        last = fromBytes(common);
        commonPrefixes.push(last);
        at = this.#lowerBound(successor(common));
      }
    }
    return { objects, commonPrefixes, truncated, last };
  }

  /** Index of the first name that is not less. */
  #lowerBound(name: string): number {
    let low = 0;
    let high = this.#names.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#names[middle]! < name) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #upperBound(name: string): number {
    const at = this.#lowerBound(name);
    return this.#names[at] === name ? at + 1 : at;
  }
}
