/** Layers that a disk consists of; more are merged. */
export const MAX_LAYERS = 8;
/** A microvm with so many does not wake before they are fewer: else one that never sleeps long enough has ever more. */
export const TOO_MANY_LAYERS = 3 * MAX_LAYERS;
/** Left by a merge at most, so that the next one is some sleeps away. */
const LEFT = MAX_LAYERS / 2;

/**
 * Which layers become one: all from this index on (sizes in bytes, oldest first). Always the newest ones, because what
 * is above cannot be put below; an older one only if it is no more than twice as large as all above it, so that a large
 * layer is not copied again and again for the sake of small ones. Undefined: none.
 */
export function mergeFrom(sizes: readonly number[]): number | undefined {
  if (sizes.length <= MAX_LAYERS) return undefined;
  let from = sizes.length - 1;
  let above = sizes[from]!;
  while (from > 0 && (from >= LEFT || sizes[from - 1]! <= 2 * above)) above += sizes[--from]!;
  return from;
}
