const MAX_PATH_BYTES = 4095;
const MAX_SEGMENT_BYTES = 255;

/**
 * Why an entry's name cannot be a path below the folder that the archive is unpacked to; undefined when it can.
 * One trailing slash, which marks a folder, is allowed.
 */
export function nameProblem(name: string): string | undefined {
  if (name === "" || name === "/") return "has no name";
  if (name.includes("\0")) return "has a NUL byte in its name";
  if (/\p{Cc}/u.test(name)) return "has a control character in its name";
  if (name.includes("\ufffd")) return "has a name that is not valid text";
  if (name.includes("\\")) return "has a backslash in its name; names in a zip are separated by /";
  if (name.startsWith("/") || /^[A-Za-z]:/.test(name)) return "has an absolute path";
  if (Buffer.byteLength(name) > MAX_PATH_BYTES) return `has a path longer than ${MAX_PATH_BYTES} bytes`;
  for (const segment of (name.endsWith("/") ? name.slice(0, -1) : name).split("/")) {
    if (segment === "..") return "leads out of the archive with ..";
    if (segment === "." || segment === "") return "has an empty or . part in its path";
    if (Buffer.byteLength(segment) > MAX_SEGMENT_BYTES) return `has a name longer than ${MAX_SEGMENT_BYTES} bytes`;
  }
  return undefined;
}

/**
 * Why a symbolic link at `path` may not point to `target`; undefined when it stays inside. Only leading `..` are
 * allowed: behind a name they could climb out through another link.
 */
export function linkProblem(path: string, target: string): string | undefined {
  if (target === "") return "is a link to nothing";
  if (/\p{Cc}/u.test(target) || target.includes("\ufffd")) return "is a link with a control character in its target";
  if (target.startsWith("/")) return `is a link to an absolute path, ${JSON.stringify(target)}`;
  if (Buffer.byteLength(target) > MAX_PATH_BYTES) return `is a link to a path longer than ${MAX_PATH_BYTES} bytes`;
  let depth = path.split("/").length - 1;
  let named = false;
  for (const segment of target.split("/")) {
    if (segment === "" || segment === ".") continue;
    if (segment !== "..") {
      named = true;
      continue;
    }
    if (named) return `is a link with .. behind a name, ${JSON.stringify(target)}`;
    depth -= 1;
    if (depth < 0) return `is a link that leads out of the archive, ${JSON.stringify(target)}`;
  }
  return undefined;
}
