import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { formatQuotaValue, OPERATIONS, QUOTA_NAMES, QUOTAS } from "@torpor/protocol";
import { expect, test } from "vitest";
import { describeConfig, loadConfig } from "../../src/config.ts";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

test("docs/operating.md has every setting as it is", () => {
  const root = { dataDir: "/var/lib/torpor", artifactsDir: "/var/cache/torpor/artifacts" };
  const { config, origins } = loadConfig({ env: {}, flags: root, file: "/dev/null" });
  const rows = describeConfig(config, origins).map(
    ({ name, value, describe }) => `| \`${name}\` | ${value === "" ? "" : `\`${value}\``} | ${describe} |`,
  );
  const section = read("docs/operating.md").split("\n## ")[1] ?? "";
  const documented = section.split("\n").filter((line) => line.startsWith("| `"));
  expect(documented.map((line) => line.replace(/ +/g, " "))).toEqual(rows.map((row) => row.replace(/ +/g, " ")));
});

test("docs/operating.md has every quota as it is", () => {
  const rows = QUOTA_NAMES.map((name) => {
    const { describe, presets, code = "" } = QUOTAS[name];
    const { selfHosted, aws, awsLarge = aws } = presets;
    const theirs = [...new Set([aws, awsLarge])].map(formatQuotaValue).join(" / ");
    const cells = [`\`${name}\``, describe, formatQuotaValue(selfHosted), theirs, code && `\`${code}\``];
    return `| ${cells.join(" | ")} |`;
  });
  const section = read("docs/operating.md").split("\n## Quotas\n")[1]?.split("\n## ")[0] ?? "";
  const documented = section.split("\n").filter((line) => line.startsWith("| `"));
  expect(documented.map((line) => line.replace(/ +/g, " "))).toEqual(rows.map((row) => row.replace(/ +/g, " ")));
});

test("docs/errors.md knows every error of the API, and no other", () => {
  const files = ["packages/server/src/api/wire-errors.ts", "packages/server/src/api/aws/logs/logs-error.ts"];
  const inCode = files.flatMap((file) => read(file).match(/\b[A-Z]\w+Exception\b/g) ?? []);
  const declared = Object.values(OPERATIONS).flatMap((operation) => operation.errors);
  const documented = read("docs/errors.md").match(/\b[A-Z]\w+Exception\b/g) ?? [];
  expect([...new Set(documented)].sort()).toEqual([...new Set([...inCode, ...declared])].sort());
});

test("docs/errors.md knows every reason of a failed build", () => {
  const source = read("packages/server/src/host/host-client.ts");
  const codes = /type BuildFailureCode =([^;]+);/.exec(source)?.[1]?.match(/[A-Z0-9_]{5,}/g) ?? [];
  expect(codes.length).toBeGreaterThan(5);
  const docs = read("docs/errors.md");
  expect(codes.filter((code) => !docs.includes(`\`${code}\``))).toEqual([]);
});

test("links between the documents lead somewhere", () => {
  const files = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    ...globSync("{docs,examples}/**/*.md", { cwd: ROOT }),
  ];
  const broken = files.flatMap((file) => {
    const links = [...read(file).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map((m) => m[1] ?? "");
    return links
      .filter((link) => globSync(join(dirname(file), link), { cwd: ROOT }).length === 0)
      .map((link) => `${file}: ${link}`);
  });
  expect(broken).toEqual([]);
});
