/**
 * The order in which the service reports the members of a structure: neither the model's nor the request's, but that
 * of a Java HashMap of their names. It reproduces every recorded message with several violations, e.g. baseImageArn,
 * codeArtifact, buildRoleArn for an empty CreateMicrovmImage.
 */
export function memberOrder(names: readonly string[]): readonly string[] {
  const buckets = bucketCount(names.length);
  return names.toSorted((a, b) => bucketOf(a, buckets) - bucketOf(b, buckets));
}

/** A HashMap begins with 16 buckets and doubles them when they are more than three quarters full. */
function bucketCount(size: number): number {
  let buckets = 16;
  while (size > buckets * 0.75) buckets *= 2;
  return buckets;
}

function bucketOf(name: string, buckets: number): number {
  let hash = 0;
  for (let i = 0; i < name.length; i++) hash = (Math.imul(hash, 31) + name.charCodeAt(i)) | 0;
  return (hash ^ (hash >>> 16)) & (buckets - 1);
}
