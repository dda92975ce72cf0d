/** How buildah reads from places other than its image store: with these, a Dockerfile could name files of the host. */
const TRANSPORTS = [
  "atomic",
  "containers-storage",
  "dir",
  "docker",
  "docker-archive",
  "docker-daemon",
  "oci",
  "oci-archive",
  "ostree",
  "sif",
  "tarball",
];

const DOMAIN = String.raw`(?:localhost|[a-z0-9]+(?:[.-][a-z0-9]+)*)(?::\d{1,5})?`;
const PATH = String.raw`[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*`;
const REFERENCE = new RegExp(
  `^(?<name>(?:${DOMAIN}/)?${PATH}(?:/${PATH})*)(?::(?<tag>\\w[\\w.-]{0,127}))?(?:@(?<digest>[a-z0-9]+:[0-9a-f]{32,128}))?$`,
);

export type ImageName =
  | { readonly kind: "name"; readonly full: string }
  | { readonly kind: "transport"; readonly transport: string }
  | { readonly kind: "digest" }
  | { readonly kind: "invalid" };

/** Reads an image name as Docker does: `debian` is `docker.io/library/debian:latest`. */
export function parseImageName(text: string): ImageName {
  if (text.length > 512) return { kind: "invalid" };
  const transport = TRANSPORTS.find((name) => text.startsWith(`${name}:`));
  if (transport) return { kind: "transport", transport };
  const match = REFERENCE.exec(text)?.groups;
  if (!match?.name) return { kind: "invalid" };
  if (match.digest) return { kind: "digest" };
  const slash = match.name.indexOf("/");
  const first = slash === -1 ? "" : match.name.slice(0, slash);
  const hasDomain = /[.:]/.test(first) || first === "localhost";
  let domain = hasDomain ? first : "docker.io";
  let path = hasDomain ? match.name.slice(slash + 1) : match.name;
  if (domain === "index.docker.io") domain = "docker.io";
  if (domain === "docker.io" && !path.includes("/")) path = `library/${path}`;
  return { kind: "name", full: `${domain}/${path}:${match.tag ?? "latest"}` };
}

/** The short form that people write. */
export function familiarName(full: string): string {
  return full.replace(/^docker\.io\/(library\/)?/, "");
}
