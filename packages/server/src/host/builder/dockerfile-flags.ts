import { posix } from "node:path";

/** What a flag of an instruction leads to. */
export type FlagVerdict =
  | { readonly kind: "keep" }
  /** Makes no difference to the result here, and buildah does not know it. */
  | { readonly kind: "drop" }
  /** Its value names a stage, or an image, to be resolved. */
  | { readonly kind: "source"; readonly name: string }
  | { readonly kind: "refuse"; readonly why: string };

const keep: FlagVerdict = { kind: "keep" };
const drop: FlagVerdict = { kind: "drop" };
const refuse = (why: string): FlagVerdict => ({ kind: "refuse", why });

const KNOWN: Readonly<Record<string, Readonly<Record<string, (value: string) => FlagVerdict>>>> = {
  FROM: { platform: () => keep },
  COPY: {
    from: (name) => ({ kind: "source", name }),
    chown: () => keep,
    chmod: () => keep,
    exclude: () => keep,
    link: () => drop,
  },
  ADD: { chown: () => keep, chmod: () => keep, exclude: () => keep, checksum: () => keep, link: () => drop },
  RUN: {
    mount: judgeMount,
    network: (value) =>
      value === "none" || value === "default"
        ? keep
        : refuse(`--network=${value} is not supported: use default or none`),
  },
  HEALTHCHECK: {
    interval: () => keep,
    timeout: () => keep,
    retries: () => keep,
    "start-period": () => keep,
    "start-interval": () => drop,
  },
};

/** Whether buildah can do what a flag asks for, and whether it may. */
export function judgeFlag(keyword: string, name: string, value: string): FlagVerdict {
  const known = Object.hasOwn(KNOWN, keyword) ? KNOWN[keyword] : undefined;
  const judge = known && Object.hasOwn(known, name) ? known[name] : undefined;
  return judge ? judge(value) : refuse(`--${name} is not supported`);
}

function judgeMount(value: string): FlagVerdict {
  const options = new Map<string, string>();
  for (const option of value.split(",")) {
    const [key = "", ...rest] = option.split("=");
    options.set(key.toLowerCase(), rest.join("="));
  }
  const type = options.get("type") ?? "bind";
  if (!["bind", "cache", "tmpfs", "secret"].includes(type)) return refuse(`--mount=type=${type} is not supported`);
  if (value.includes("$") || value.includes('"')) return refuse("--mount with variables or quotes is not supported");
  for (const key of ["source", "src", "from", "target", "dst", "destination"])
    if (options.get(key)?.split("/").includes("..")) return refuse(`--mount with .. in its ${key} is not supported`);
  const writable = ["rw", "readwrite"].some((key) => options.has(key) && options.get(key) !== "false");
  if (type === "bind" && writable)
    return refuse("--mount=type=bind,rw is not supported: copy what you want to change, or use type=cache");
  if (type === "secret" && options.get("required") === "true")
    return refuse("--mount=type=secret,required: image builds on this host have no secrets");
  const from = options.get("from");
  return from === undefined ? keep : { kind: "source", name: from };
}

/** Whether an ADD source is a git repository, which buildah reports as added although nothing was. */
export function isGitSource(source: string): boolean {
  if (/^(git|ssh):\/\//i.test(source) || /^[\w.-]+@[\w.-]+:/.test(source)) return true;
  if (/^github\.com\//i.test(source)) return true;
  return isUrl(source) && /\.git$/i.test(posix.normalize(source.replace(/[#?].*$/, "").replace(/\/+$/, "")));
}

export function isUrl(source: string): boolean {
  return /^https?:\/\//i.test(source);
}
