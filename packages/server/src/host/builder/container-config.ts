import { z } from "zod";
import { buildFailed } from "./build-error.ts";

/** How the image wants to be run. */
export interface ContainerConfig {
  /** ENTRYPOINT and CMD together; never empty. */
  readonly argv: readonly string[];
  /** `KEY=value`, the image's own first, then what the caller put on top. */
  readonly env: readonly string[];
  /** `""` is root; else `name`, `uid`, `name:group` or `uid:gid`, as the Dockerfile has it. */
  readonly user: string;
  readonly workdir: string;
  /** TCP ports. */
  readonly exposedPorts: readonly number[];
  /** `SIGTERM` unless the Dockerfile says otherwise. */
  readonly stopSignal: string;
}

const strings = z.array(z.string()).nullish();
const imageJson = z.object({
  Docker: z.object({
    config: z.object({
      Entrypoint: strings,
      Cmd: strings,
      Env: strings,
      User: z.string().nullish(),
      WorkingDir: z.string().nullish(),
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
      StopSignal: z.string().nullish(),
    }),
  }),
});

/** All of argv and env go to the guest in one message. */
const MAX_BYTES = 128 << 10;
const MAX_PORTS = 64;

/** Text of the files that name users, as the finished file system has them; empty where it has none. */
export interface UserFiles {
  readonly passwd: string;
  readonly group: string;
}

/**
 * Reads what `buildah inspect` says of the image. It comes out of a jail whose steps may have tampered with it: all of
 * it is checked.
 * @throws BuildError where the image cannot be run
 */
export function readContainerConfig(
  inspected: string,
  users: UserFiles,
  environment: Readonly<Record<string, string>>,
): ContainerConfig {
  let config: z.infer<typeof imageJson>["Docker"]["config"];
  try {
    config = imageJson.parse(JSON.parse(inspected)).Docker.config;
  } catch (err) {
    throw buildFailed("The image's configuration cannot be read.", err);
  }
  const argv = [...(config.Entrypoint ?? []), ...(config.Cmd ?? [])];
  if (argv.length === 0 || argv[0] === "")
    throw buildFailed("The Dockerfile has neither ENTRYPOINT nor CMD: there is nothing to run.");
  const env = new Map<string, string>();
  for (const line of config.Env ?? []) {
    const at = line.indexOf("=");
    if (at > 0) env.set(line.slice(0, at), line.slice(at + 1));
  }
  for (const [key, value] of Object.entries(environment)) env.set(key, value);
  const variables = [...env].map(([key, value]) => `${key}=${value}`);
  const all = [...argv, ...variables, config.WorkingDir ?? "", config.User ?? "", config.StopSignal ?? ""];
  if (all.some((text) => text.includes("\0"))) throw buildFailed("The image's configuration contains a NUL byte.");
  if (all.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0) > MAX_BYTES)
    throw buildFailed(`The image's command and environment are larger than ${MAX_BYTES} bytes.`);
  const workdir = config.WorkingDir || "/";
  if (!workdir.startsWith("/")) throw buildFailed(`WORKDIR ${JSON.stringify(workdir)} is not an absolute path.`);
  const user = config.User ?? "";
  checkUser(user, users);
  return {
    argv,
    env: variables,
    user,
    workdir,
    exposedPorts: tcpPorts(Object.keys(config.ExposedPorts ?? {})),
    stopSignal: config.StopSignal || "SIGTERM",
  };
}

/** `8080`, `8080/tcp`, `8000-8010/tcp`; others are left out: they say something about another protocol. */
function tcpPorts(exposed: readonly string[]): number[] {
  const ports = new Set<number>();
  for (const text of exposed) {
    const match = /^(\d{1,5})(?:-(\d{1,5}))?(?:\/tcp)?$/.exec(text);
    if (!match) continue;
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    for (let port = Math.max(first, 1); port <= Math.min(last, 65535) && ports.size < MAX_PORTS; port++)
      ports.add(port);
  }
  return [...ports].sort((a, b) => a - b);
}

/** buildah notices an unknown user only when another step runs as one. */
function checkUser(user: string, files: UserFiles): void {
  const [name = "", group = ""] = user.split(":", 2);
  const unknown = (what: string, which: string, file: string): Error =>
    buildFailed(
      `USER ${JSON.stringify(user.slice(0, 100))}: the image has no ${what} ${JSON.stringify(which.slice(0, 100))} in ${file}.`,
    );
  if (isName(name) && files.passwd !== "" && !namesIn(files.passwd).has(name))
    throw unknown("user", name, "/etc/passwd");
  if (isName(group) && files.group !== "" && !namesIn(files.group).has(group))
    throw unknown("group", group, "/etc/group");
}

const isName = (text: string): boolean => text !== "" && !/^\d+$/.test(text);
const namesIn = (file: string): Set<string> => new Set(file.split("\n").map((line) => line.split(":", 1)[0] ?? ""));
