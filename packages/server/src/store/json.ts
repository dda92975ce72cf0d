/**
 * A JSON column's value. The cast is sound because only this folder writes the columns, with the same type; a change
 * of such a type needs a migration.
 */
export function fromJson<T>(text: string): T {
  return JSON.parse(text) as T;
}
