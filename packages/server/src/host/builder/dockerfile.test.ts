import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BuildError } from "../host-client.ts";
import { checkDockerfile, type DockerfileOptions } from "./dockerfile.ts";

const OPTIONS: DockerfileOptions = {
  bases: [
    {
      name: "debian-12",
      os: "Debian GNU/Linux 12 (bookworm)",
      references: ["docker.io/library/debian:bookworm", "public.ecr.aws/lambda/microvms:al2023-minimal"],
    },
  ],
  architecture: "amd64",
  network: false,
};
const check = (text: string, options = OPTIONS) => checkDockerfile(Buffer.from(text), options);

function refusal(text: string): string {
  try {
    check(text);
  } catch (err) {
    if (err instanceof BuildError) return err.message;
    throw err;
  }
  return expect.unreachable("the Dockerfile was accepted");
}

test("bases get their full names, stages keep theirs, and every line stays where it was", () => {
  const { text, stages } = check(
    [
      "ARG TAG=bookworm",
      `FROM --platform=$BUILDPLATFORM debian:\${TAG} AS Build`,
      "RUN <<EOF",
      "FROM nothing",
      "EOF",
      "COPY --link a \\",
      "  b",
      "FROM build AS second",
      "FROM public.ecr.aws/lambda/microvms:al2023-minimal",
      "COPY --from=build --chown=1:1 /x /x",
      "COPY --from=0 /x /y",
      "COPY --from=debian:bookworm /bin/true /z",
      "RUN --mount=type=bind,from=debian:bookworm,target=/m ls /m",
      "FROM scratch",
      'CMD ["/x"]',
    ].join("\n"),
  );
  expect(text.split("\n")).toEqual([
    "ARG TAG=bookworm",
    "FROM  docker.io/library/debian:bookworm AS Build",
    "RUN <<EOF",
    "FROM nothing",
    "EOF",
    "COPY  a \\",
    "  b",
    "FROM build AS second",
    "FROM public.ecr.aws/lambda/microvms:al2023-minimal",
    "COPY --from=build --chown=1:1 /x /x",
    "COPY --from=0 /x /y",
    "COPY --from=docker.io/library/debian:bookworm /bin/true /z",
    "RUN --mount=type=bind,from=docker.io/library/debian:bookworm,target=/m ls /m",
    "FROM scratch",
    'CMD ["/x"]',
  ]);
  expect(stages.map((stage) => stage.map((step) => `${step.line} ${step.keyword}`))).toEqual([
    ["2 FROM", "3 RUN", "6 COPY"],
    ["8 FROM"],
    ["9 FROM", "10 COPY", "11 COPY", "12 COPY", "13 RUN"],
    ["14 FROM", "15 CMD"],
  ]);
});

test("an image name that spans lines is replaced without moving the lines after it", () => {
  const { text } = check("# escape=`\nFROM deb`\nian:bookworm`\n AS x\nRUN true");
  expect(text.split("\n")).toHaveLength(5);
  expect(text).toContain("FROM docker.io/library/debian:bookworm");
});

test("what only looks like a heredoc is none, what is one hides what it holds", () => {
  const text = [
    "FROM debian:bookworm",
    "RUN python3 -c 'x = 3 << 30'",
    'RUN echo $((1<<2)) "a <<EOF b" \\<<EOF',
    "ENV X=<<EOF",
    "RUN cat <<'EOF' >/a && cat 3<<-END <<<word",
    "FROM nosuch",
    "EOF",
    "\tRUNN",
    "\tEND",
    "RUN echo a \\",
    "# a comment within",
    "",
    "  b <<LAST",
    "UNKNOWN",
    "LAST",
    "CMD true",
  ].join("\n");
  const checked = check(text);
  expect(checked.stages[0]?.map((step) => `${step.line} ${step.keyword}`)).toEqual([
    "1 FROM",
    "2 RUN",
    "3 RUN",
    "4 ENV",
    "5 RUN",
    "10 RUN",
    "16 CMD",
  ]);
  expect(checked.text).toBe(text.replace("FROM debian:", "FROM docker.io/library/debian:"));
});

test("a base that stands in for another says so", () => {
  expect(check("FROM public.ecr.aws/lambda/microvms:al2023-minimal").notices.join()).toMatch(
    /Dockerfile:1: public\.ecr\.aws\/lambda\/microvms:al2023-minimal is not on this host\. A stand-in is used: Debian/,
  );
  expect(check("FROM debian:bookworm").notices.join()).toMatch(/debian:bookworm is this host's own build of Debian/);
});

describe("refused, with the line and the reason:", () => {
  const cases: [text: string, reason: string | RegExp][] = [
    [
      "\n\nFROM x:1",
      'Dockerfile:3: base image "x:1" is not available on this host. Available: debian:bookworm, public.ecr.aws/lambda/microvms:al2023-minimal.',
    ],
    ["FROM debian", /Dockerfile:1: base image "debian" is not available/],
    [`FROM debian@sha256:${"0".repeat(64)}`, /have no digests/],
    ["FROM oci:/etc:x", /Dockerfile:1: FROM "oci:\/etc:x": images can only be named, not read from oci:/],
    ["FROM docker-archive:/etc/passwd", /not read from docker-archive:/],
    ["FROM containers-storage:[/x]y", /not read from containers-storage:/],
    ["FROM dir:latest", /not read from dir:/],
    ["FROM docker://debian:bookworm", /not read from docker:/],
    ["FROM ../../etc", /not a valid name of an image/],
    ["FROM Debian:bookworm", /not a valid name of an image/],
    ["FROM $NOPE", /the variable NOPE has no value/],
    [`FROM \${A:-\${B}}`, /the variable B has no value/],
    [`FROM \${A`, /no closing brace/],
    ["FROM debian:bookworm extra", /FROM takes an image/],
    ["FROM debian:bookworm AS 1x", /not a valid name of a stage/],
    ["FROM debian:bookworm AS a\nFROM debian:bookworm AS A", /Dockerfile:2: there are two stages named a/],
    ["FROM --platform=linux/s390x debian:bookworm", /builds linux\/amd64 only/],
    ["FROM", /FROM needs an argument/],
    ["", /has no FROM/],
    ["# nothing\n", /has no FROM/],
    ["RUN true\nFROM debian:bookworm", /Dockerfile:1: RUN stands before the first FROM/],
    ["FROM debian:bookworm\n\nRUNN true", /Dockerfile:3: unknown instruction "RUNN"/],
    ["FROM debian:bookworm\nCOPY --from=oci:/etc / /", /not read from oci:/],
    ["FROM debian:bookworm\nCOPY --from=nope / /", /base image "nope" is not available/],
    ["FROM debian:bookworm\nCOPY --from=0 / /", /no such stage before this one/],
    ["FROM debian:bookworm AS me\nCOPY --from=me / /", /cannot copy from itself/],
    ["FROM debian:bookworm\nCOPY --parents a /", /COPY: --parents is not supported/],
    ["FROM debian:bookworm\nRUN --security=insecure true", /RUN: --security is not supported/],
    ["FROM debian:bookworm\nRUN --network=host true", /--network=host is not supported/],
    ["FROM debian:bookworm\nRUN --mount=type=ssh true", /--mount=type=ssh is not supported/],
    ["FROM debian:bookworm\nRUN --mount=type=bind,source=../..,target=/m true", /with \.\. in its source/],
    ["FROM debian:bookworm\nRUN --mount=type=bind,rw,target=/m true", /bind,rw is not supported/],
    ["FROM debian:bookworm\nRUN --mount=from=oci:/x,target=/m true", /not read from oci:/],
    ["FROM debian:bookworm\nADD https://example.org/x /x", /ADD of a URL needs a network/],
    ["FROM debian:bookworm\nADD https://example.org/x.git /x", /ADD of a git repository/],
    ["FROM debian:bookworm\nADD git@example.org:x/y /x", /ADD of a git repository/],
    ['FROM debian:bookworm\nADD ["https://example.org/x","/x"]', /ADD of a URL needs a network/],
    ["FROM debian:bookworm\nRUN <<EOF\ntrue", /the heredoc "EOF" has no end/],
    [`FROM debian:bookworm\nRUN ${"<<A ".repeat(33)}\n${"A\n".repeat(33)}`, /more than 32 heredocs/],
    ["FROM debian:bookworm\nONBUILD FROM x", /ONBUILD cannot trigger/],
    [`FROM debian:bookworm\nRUN ${"x".repeat(20_000)}`, /Dockerfile:2: the line is longer than/],
    [`FROM debian:bookworm\n${"RUN true\n".repeat(500)}`, /more than 500 instructions/],
    ["FROM debian:bookworm\n".repeat(33), /more than 32 stages/],
    [`${"#\n".repeat(140_000)}`, /larger than 262144 bytes/],
    ["FROM debian:bookworm\0", /NUL byte/],
    [
      `${Array.from({ length: 60 }, (_, i) => `ARG A${i + 1}=$A${i}$A${i}`)
        .join("\n")
        .replace("$A0$A0", "xx")}`,
      /expands to more than/,
    ],
  ];
  test.each(cases.map(([text, reason]) => [text.slice(0, 80), text, reason] as const))("%j", (_, text, reason) => {
    const message = refusal(text);
    expect(message).toMatch(/^The container image build failed\. /);
    if (typeof reason === "string") expect(message).toContain(reason);
    else expect(message).toMatch(reason);
  });

  test("text that is not UTF-8", () => {
    expect(() => checkDockerfile(Buffer.from([0x46, 0xff]), OPTIONS)).toThrow(/not valid UTF-8/);
  });
});

test("with a network, ADD may fetch", () => {
  const text = "FROM debian:bookworm\nADD https://example.org/x.tar /x";
  expect(check(text, { ...OPTIONS, network: true }).text).toContain("https://example.org/x.tar");
});

const word = fc.constantFrom(
  "FROM",
  "ARG",
  "RUN",
  "COPY",
  "ADD",
  "ONBUILD",
  "# escape=`",
  "debian:bookworm",
  "--from=",
  "--mount=type=bind,from=",
  "--link",
  "AS",
  "a",
  "0",
  "$A",
  "${",
  "}",
  `\${A:-`,
  "<<EOF",
  "EOF",
  '["',
  '"]',
  "\\",
  "`",
  "\n",
  "\n",
  "\r\n",
  " ",
  "\t",
  "=",
  "'",
  '"',
  "\u2028",
  "\u001b[2J",
);

test("whatever the file says, it is accepted or refused with a BuildError that is fit to print", () => {
  const source = fc.oneof(
    fc.array(word, { maxLength: 40 }).map((words) => Buffer.from(words.join(""))),
    fc.array(word, { maxLength: 40 }).map((words) => Buffer.from(`FROM debian:bookworm\n${words.join(" ")}`)),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  );
  fc.assert(
    fc.property(source, (bytes) => {
      let text: string;
      try {
        text = checkDockerfile(bytes, OPTIONS).text;
      } catch (err) {
        expect(err).toBeInstanceOf(BuildError);
        expect(err instanceof Error && err.message).not.toMatch(/(?!\n)\p{Cc}/u);
        return;
      }
      expect(text.split("\n").length).toBe(
        bytes
          .toString("utf8")
          .replace(/^\ufeff/, "")
          .split("\n").length,
      );
    }),
    { numRuns: 3000 },
  );
});

test("what was accepted is accepted again, unchanged", () => {
  fc.assert(
    fc.property(fc.array(word, { maxLength: 30 }), (words) => {
      const first = attempt(`FROM debian:bookworm AS a\n${words.join(" ")}`);
      if (first === undefined) return;
      expect(attempt(first)).toBe(first);
    }),
    { numRuns: 1000 },
  );
});

function attempt(text: string): string | undefined {
  try {
    return check(text).text;
  } catch {
    return undefined;
  }
}
