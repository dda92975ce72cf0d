import {
  Add,
  Arg,
  DockerfileParser,
  type Flag,
  From,
  type Instruction,
  ModifiableInstruction,
  Onbuild,
} from "dockerfile-ast";
import { messageOf } from "../../lib/errors.ts";
import { BuildError } from "../host-client.ts";
import { buildFailed } from "./build-error.ts";
import { isGitSource, isUrl, judgeFlag } from "./dockerfile-flags.ts";
import { type Heredoc, hideHeredocs } from "./dockerfile-heredocs.ts";
import { ExpansionError, expandVariables } from "./dockerfile-variables.ts";
import { familiarName, parseImageName } from "./image-name.ts";

/** A base image that this host has, and the full names that Dockerfiles know it by. */
export interface BaseImage {
  readonly name: string;
  /** For people: `Debian GNU/Linux 12 (bookworm)`. */
  readonly os: string;
  readonly references: readonly string[];
}

export interface DockerfileOptions {
  readonly bases: readonly BaseImage[];
  /** As in Docker: `amd64` or `arm64`. */
  readonly architecture: string;
  /** Whether steps, and ADD, can reach a network. */
  readonly network: boolean;
}

export interface Step {
  /** Counted from 1. */
  readonly line: number;
  readonly keyword: string;
}

export interface CheckedDockerfile {
  /** The same file, line for line, with bases by their full names and without flags that change nothing here. */
  readonly text: string;
  /** Per stage, in order, FROM first. */
  readonly stages: readonly (readonly Step[])[];
  /** What the build log has to say before the first step. */
  readonly notices: readonly string[];
}

const MAX_BYTES = 256 << 10;
const MAX_LINE = 16 << 10;
const MAX_INSTRUCTIONS = 500;
const MAX_STAGES = 32;
const MAX_HEREDOCS = 32;

const KEYWORDS = new Set(
  "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL STOPSIGNAL USER VOLUME WORKDIR".split(
    " ",
  ),
);

/**
 * Reads a Dockerfile before anything of it runs, and refuses what could not work here or must not.
 * @throws BuildError, and nothing else, whose message begins with the line
 */
export function checkDockerfile(source: Uint8Array, options: DockerfileOptions): CheckedDockerfile {
  const text = readText(source);
  try {
    return new Check(text, options).run();
  } catch (err) {
    if (err instanceof BuildError) throw err;
    throw buildFailed(`The Dockerfile cannot be read: ${messageOf(err)}`, err);
  }
}

function readText(source: Uint8Array): string {
  if (source.byteLength > MAX_BYTES) throw buildFailed(`The Dockerfile is larger than ${MAX_BYTES} bytes.`);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(source);
  } catch (err) {
    throw buildFailed("The Dockerfile is not valid UTF-8 text.", err);
  }
  if (text.includes("\0")) throw buildFailed("The Dockerfile contains a NUL byte.");
  text = text.replaceAll("\r\n", "\n");
  const long = text.split("\n").findIndex((line) => line.length > MAX_LINE);
  if (long !== -1) throw buildFailed(`Dockerfile:${long + 1}: the line is longer than ${MAX_LINE} characters`);
  return text;
}

interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

interface Stage {
  readonly name: string | undefined;
  readonly steps: Step[];
}

class Check {
  readonly #text: string;
  readonly #options: DockerfileOptions;
  readonly #lineStarts: number[] = [0];
  readonly #edits: Edit[] = [];
  readonly #notices: string[] = [];
  readonly #stages: Stage[] = [];
  readonly #globals: Map<string, string>;
  #escape = "\\";

  constructor(text: string, options: DockerfileOptions) {
    this.#text = text;
    this.#options = options;
    for (let i = text.indexOf("\n"); i !== -1; i = text.indexOf("\n", i + 1)) this.#lineStarts.push(i + 1);
    const platform = `linux/${options.architecture}`;
    this.#globals = new Map();
    for (const side of ["BUILD", "TARGET"])
      for (const [what, value] of [
        ["PLATFORM", platform],
        ["OS", "linux"],
        ["ARCH", options.architecture],
        ["VARIANT", ""],
      ] as const)
        this.#globals.set(side + what, value);
  }

  run(): CheckedDockerfile {
    this.#escape = DockerfileParser.parse(this.#text).getEscapeCharacter();
    const { text, heredocs } = hideHeredocs(this.#text, this.#escape);
    this.#checkHeredocs(heredocs);
    const file = DockerfileParser.parse(text);
    const instructions = file.getInstructions();
    if (instructions.length > MAX_INSTRUCTIONS)
      throw buildFailed(`The Dockerfile has more than ${MAX_INSTRUCTIONS} instructions.`);
    for (const directive of file.getDirectives())
      if (directive.getName().toLowerCase() === "syntax")
        this.#notices.push("The syntax directive is ignored: this host builds with buildah.");
    for (const instruction of instructions) this.#check(instruction);
    if (this.#stages.length === 0) throw buildFailed("The Dockerfile has no FROM.");
    return {
      text: this.#edited(),
      stages: this.#stages.map((stage) => stage.steps),
      notices: [...new Set(this.#notices)],
    };
  }

  #check(instruction: Instruction): void {
    const keyword = instruction.getKeyword();
    const line = instruction.getRange().start.line + 1;
    const stage = this.#stages.at(-1);
    if (!KEYWORDS.has(keyword)) throw this.#refuse(line, `unknown instruction ${JSON.stringify(shorten(keyword))}`);
    if (!stage && keyword !== "FROM" && keyword !== "ARG")
      throw this.#refuse(line, `${keyword} stands before the first FROM`);
    if (!instruction.getRawArgumentsContent()) throw this.#refuse(line, `${keyword} needs an argument`);
    if (instruction instanceof From) {
      this.#from(instruction, line);
      return;
    }
    if (instruction instanceof Arg && !stage) this.#globalArg(instruction, line);
    if (instruction instanceof Onbuild) this.#onbuild(instruction, line);
    if (instruction instanceof ModifiableInstruction) this.#flags(instruction, line);
    if (instruction instanceof Add) this.#add(instruction, line);
    stage?.steps.push({ line, keyword });
  }

  #from(from: From, line: number): void {
    if (this.#stages.length >= MAX_STAGES) throw this.#refuse(line, `more than ${MAX_STAGES} stages`);
    const asked = from.getImage();
    const range = from.getImageRange();
    if (!asked || !range) throw this.#refuse(line, "FROM needs an image");
    const image = this.#expand(asked, line);
    for (const flag of from.getFlags()) this.#platform(flag, line);
    const name = from.getBuildStage()?.toLowerCase();
    if (name !== undefined && !/^[a-z][a-z0-9._-]{0,127}$/.test(name))
      throw this.#refuse(line, `${JSON.stringify(shorten(name))} is not a valid name of a stage`);
    if (from.getArguments().length !== (name === undefined ? 1 : 3))
      throw this.#refuse(line, "FROM takes an image, and AS with a name");
    if (name !== undefined && this.#stageNamed(name)) throw this.#refuse(line, `there are two stages named ${name}`);
    const resolved = this.#resolve(image, line, "FROM");
    this.#edit(range, resolved);
    this.#stages.push({ name, steps: [{ line, keyword: "FROM" }] });
  }

  #platform(flag: Flag, line: number): void {
    const asked = flag.getValue() ?? "";
    if (flag.getName() !== "platform") throw this.#refuse(line, `FROM --${shorten(flag.getName())} is not supported`);
    const value = this.#expand(asked, line);
    const { architecture } = this.#options;
    if (![`linux/${architecture}`, architecture, "linux", ""].includes(value))
      throw this.#refuse(
        line,
        `platform ${JSON.stringify(shorten(value))}: this host builds linux/${architecture} only`,
      );
    this.#edit(flag.getRange(), "");
  }

  /** A stage's name, `scratch`, or the full name of a base image that this host has. */
  #resolve(image: string, line: number, where: string): string {
    const stage = this.#stageNamed(image.toLowerCase());
    if (stage !== undefined) return image.toLowerCase();
    if (image === "scratch" && where === "FROM") return image;
    const quoted = JSON.stringify(shorten(image));
    const name = parseImageName(image);
    if (name.kind === "transport")
      throw this.#refuse(line, `${where} ${quoted}: images can only be named, not read from ${name.transport}:`);
    if (name.kind === "invalid") throw this.#refuse(line, `${where} ${quoted} is not a valid name of an image`);
    const available = [...new Set(this.#options.bases.flatMap((base) => base.references))];
    const list = `Available: ${available.map(familiarName).join(", ") || "none"}.`;
    if (name.kind === "digest")
      throw this.#refuse(line, `base image ${quoted}: this host's base images have no digests of a registry. ${list}`);
    const base = this.#options.bases.find((candidate) => candidate.references.includes(name.full));
    if (!base) throw this.#refuse(line, `base image ${quoted} is not available on this host. ${list}`);
    this.#notices.push(noticeOf(base, name.full, line));
    return name.full;
  }

  #flags(instruction: ModifiableInstruction, line: number): void {
    const keyword = instruction.getKeyword();
    for (const flag of instruction.getFlags()) {
      const verdict = judgeFlag(keyword, flag.getName(), flag.getValue() ?? "");
      if (verdict.kind === "refuse") throw this.#refuse(line, `${keyword}: ${shorten(verdict.why)}`);
      if (verdict.kind === "drop") this.#edit(flag.getRange(), "");
      if (verdict.kind === "source") this.#source(flag, verdict.name, line);
    }
  }

  #source(flag: Flag, name: string, line: number): void {
    const where = `--${flag.getName()} from`;
    if (/^\d+$/.test(name)) {
      if (Number(name) < this.#stages.length - 1) return;
      throw this.#refuse(line, `${where} stage ${shorten(name)}: there is no such stage before this one`);
    }
    const current = this.#stages.at(-1)?.name;
    if (current !== undefined && name.toLowerCase() === current)
      throw this.#refuse(line, `${where} ${current}: a stage cannot copy from itself`);
    const resolved = this.#resolve(name, line, where);
    const value = flag.getValueRange();
    if (resolved === name || !value) return;
    const replaced = flag.getName() === "from" ? resolved : replaceFrom(flag.getValue() ?? "", resolved);
    this.#edit(value, replaced);
  }

  #add(add: Add, line: number): void {
    const strings = add.getJSONStrings().map((string) => string.getJSONValue());
    const words = strings.length > 0 ? strings : add.getArguments().map((argument) => argument.getValue());
    for (const word of words.slice(0, -1)) {
      const source = word.replace(/^["']/, "");
      if (isGitSource(source)) throw this.#refuse(line, "ADD of a git repository is not supported");
      if (isUrl(source) && !this.#options.network)
        throw this.#refuse(line, "ADD of a URL needs a network, and image builds on this host have none");
    }
  }

  #globalArg(arg: Arg, line: number): void {
    for (const property of arg.getProperties()) {
      const value = property.getValue();
      if (value !== null) this.#globals.set(property.getName(), this.#expand(value, line));
    }
  }

  /** Triggers only ever run in builds on top of the image, and images built here are nobody's base. */
  #onbuild(onbuild: Onbuild, line: number): void {
    const trigger = onbuild.getTriggerInstruction()?.getKeyword() ?? "";
    if (!KEYWORDS.has(trigger) || ["FROM", "ONBUILD", "MAINTAINER"].includes(trigger))
      throw this.#refuse(line, `ONBUILD cannot trigger ${JSON.stringify(shorten(trigger))}`);
  }

  #checkHeredocs(heredocs: readonly Heredoc[]): void {
    for (const { name, line, ended } of heredocs) {
      if (!ended) throw this.#refuse(line, `the heredoc ${JSON.stringify(shorten(name))} has no end`);
      if (heredocs.filter((other) => other.line === line).length > MAX_HEREDOCS)
        throw this.#refuse(line, `more than ${MAX_HEREDOCS} heredocs`);
    }
  }

  #expand(text: string, line: number): string {
    try {
      return expandVariables(text, this.#globals);
    } catch (err) {
      if (err instanceof ExpansionError) throw this.#refuse(line, `${JSON.stringify(shorten(text))}: ${err.message}`);
      throw err;
    }
  }

  #stageNamed(name: string): Stage | undefined {
    return this.#stages.find((stage) => stage.name === name);
  }

  #refuse(line: number, why: string): BuildError {
    return buildFailed(`Dockerfile:${line}: ${why}`);
  }

  #edit(range: ReturnType<Flag["getRange"]>, text: string): void {
    const offset = (at: { line: number; character: number }): number => (this.#lineStarts[at.line] ?? 0) + at.character;
    this.#edits.push({ start: offset(range.start), end: offset(range.end), text });
  }

  #edited(): string {
    let text = this.#text;
    for (const edit of this.#edits.sort((a, b) => b.start - a.start)) {
      // As many lines as before, so that line numbers stay true.
      const lines = text.slice(edit.start, edit.end).split("\n").length - 1;
      text = text.slice(0, edit.start) + edit.text + `${this.#escape}\n`.repeat(lines) + text.slice(edit.end);
    }
    return text;
  }
}

function noticeOf(base: BaseImage, full: string, line: number): string {
  const asked = familiarName(full);
  if (full.includes("/debian:")) return `Dockerfile:${line}: ${asked} is this host's own build of ${base.os}.`;
  return (
    `Dockerfile:${line}: ${asked} is not on this host. A stand-in is used: ${base.os}. ` +
    "Its packages, package manager and users differ from those of the image that was asked for."
  );
}

function replaceFrom(mount: string, image: string): string {
  return mount
    .split(",")
    .map((option) => (/^from=/i.test(option) ? `from=${image}` : option))
    .join(",");
}

/** What goes into a message: short, and without control characters. */
function shorten(text: string): string {
  const clean = text.replace(/\p{Cc}/gu, "?");
  return clean.length > 120 ? `${clean.slice(0, 117)}...` : clean;
}
