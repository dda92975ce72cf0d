import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { loadConfig, settingFlags } from "../../src/config.ts";

const MAIN = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

/** The server's program with an empty environment, but for what is given. */
async function torpor(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { env }, (err, stdout, stderr) => {
      resolve({ code: typeof err?.code === "number" ? err.code : 0, stdout, stderr });
    });
  });
}

test("config shows where each value came from, and hides secrets", async () => {
  const dir = await mkdtemp(join(tmpdir(), "torpor-config-"));
  const file = join(dir, "torpor.toml");
  await writeFile(file, 'region = "eu-west-1"\napi_port = 1\ns3_secret_access_key = "hush"\n');
  try {
    const { code, stdout } = await torpor(["config", "--json", "--config-file", file, "--api-port", "4800"], {
      TORPOR_MAX_MICROVMS: "7",
      TORPOR_API_PORT: "2",
    });
    expect(code).toBe(0);
    const rows: { name: string; value: string; origin: string }[] = JSON.parse(stdout);
    const found = new Map(rows.map((row) => [row.name, `${row.value} ${row.origin}`]));
    expect(found.get("api-port")).toBe("4800 flag --api-port");
    expect(found.get("max-microvms")).toBe("7 environment TORPOR_MAX_MICROVMS");
    expect(found.get("region")).toBe(`eu-west-1 file ${file}`);
    expect(found.get("endpoint-port")).toBe("4743 default");
    expect(found.get("s3-secret-access-key")).toBe(`******** file ${file}`);
    expect(stdout).not.toContain("hush");
  } finally {
    await rm(dir, { recursive: true });
  }
});

test("what cannot be right is said on stderr and ends with 2", async () => {
  const cases: [args: string[], message: RegExp][] = [
    [[], /usage: torpor serve\|doctor\|config/],
    [["toString"], /usage: torpor serve/],
    [["config", "--no-such-flag", "1"], /--no-such-flag/],
    [["config", "--api-port", "many"], /api-port \(flag --api-port\): expected a whole number .* got "many"/],
    [["serve", "extra"], /extra/],
    [["config", "--config-file", "/nowhere.toml"], /cannot read the configuration file \/nowhere.toml/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await torpor(args);
    expect([code, stdout], args.join(" ")).toEqual([2, ""]);
    expect(stderr).toMatch(message);
  }
});

test("help lists every setting", async () => {
  const { code, stdout } = await torpor(["serve", "--help"]);
  expect(code).toBe(0);
  for (const { flag } of settingFlags()) expect(stdout).toContain(`--${flag} VALUE`);
});

test("every setting can be given as a flag", () => {
  const { config } = loadConfig({ env: {} });
  expect(
    settingFlags()
      .map(({ name }) => name)
      .sort(),
  ).toEqual(Object.keys(config).sort());
});
