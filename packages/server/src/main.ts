import { isAbsolute, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type Config, describeConfig, loadConfig, type Origins, settingFlags } from "./config.ts";
import { messageOf, TorporError } from "./lib/errors.ts";
import { createLog } from "./lib/log.ts";

/** The server's program: `serve`, `doctor` or `config`, with every setting as a flag. */
const COMMANDS: Readonly<Record<string, { describe: string; run: (call: Call) => Promise<number> }>> = {
  serve: { describe: "run the server in the foreground", run: serve },
  doctor: { describe: "check what this machine has and lacks", run: doctor },
  config: { describe: "print every setting, its value and where it came from", run: printConfig },
};

interface Call {
  readonly config: Config;
  readonly origins: Origins;
  readonly json: boolean;
}

process.exitCode = await main(process.argv.slice(2)).catch((err: unknown) => {
  process.stderr.write(`torpor: ${messageOf(err)}\n`);
  if (err instanceof TorporError) return err.kind === "invalid_input" ? 2 : 1;
  if (err instanceof Error && err.stack) process.stderr.write(`${err.stack}\n`);
  return 1;
});

async function main([name = "", ...args]: string[]): Promise<number> {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    const list = Object.entries(COMMANDS).map(([n, c]) => `  ${n.padEnd(8)}${c.describe}`);
    process.stderr.write(`usage: torpor serve|doctor|config [flags]\n${list.join("\n")}\n`);
    return name === "--help" || name === "-h" ? 0 : 2;
  }
  const flags = parseFlags(args);
  if (flags.help) {
    process.stdout.write(helpText(name, command.describe));
    return 0;
  }
  const { config, origins } = loadConfig({
    flags: flags.settings,
    ...(flags.file === undefined ? {} : { file: isAbsolute(flags.file) ? flags.file : resolve(flags.file) }),
  });
  return command.run({ config, origins, json: flags.json });
}

async function serve({ config, origins }: Call): Promise<number> {
  const { serve } = await import("./serve.ts");
  await serve(config, origins, createLog(config.logLevel));
  return 0;
}

async function doctor({ config, json }: Call): Promise<number> {
  const { runDoctor } = await import("./doctor/doctor.ts");
  const { probeWithGuest } = await import("./doctor/probe.ts");
  const { reportText } = await import("./doctor/report.ts");
  const report = await runDoctor(config, { probeAccelerator: probeWithGuest(config) }, new AbortController().signal);
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : reportText(report, process.stdout.isTTY === true));
  return report.ok ? 0 : 1;
}

async function printConfig({ config, origins, json }: Call): Promise<number> {
  const rows = describeConfig(config, origins);
  if (json) {
    process.stdout.write(`${JSON.stringify(rows)}\n`);
    return 0;
  }
  const width = (key: "name" | "value"): number => Math.max(...rows.map((row) => row[key].length));
  for (const { name, value, origin, describe } of rows)
    process.stdout.write(
      `${name.padEnd(width("name"))}  ${value.padEnd(width("value"))}  ${origin}\n    ${describe}\n`,
    );
  return 0;
}

/** @throws TorporError `invalid_input` for a flag that is none */
function parseFlags(args: readonly string[]): {
  settings: Readonly<Record<string, unknown>>;
  file: string | undefined;
  json: boolean;
  help: boolean;
} {
  const known = settingFlags();
  const options = Object.fromEntries(known.map(({ flag }) => [flag, { type: "string" } as const]));
  try {
    const { values } = parseArgs({
      args: [...args],
      strict: true,
      allowPositionals: false,
      options: {
        ...options,
        "config-file": { type: "string" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
    const given = new Map<string, unknown>(Object.entries(values));
    const file = given.get("config-file");
    return {
      settings: Object.fromEntries(
        known.flatMap(({ flag, name }) => (given.has(flag) ? [[name, given.get(flag)]] : [])),
      ),
      file: typeof file === "string" ? file : undefined,
      json: given.get("json") === true,
      help: given.get("help") === true,
    };
  } catch (err) {
    throw new TorporError("invalid_input", `${messageOf(err)}; torpor serve --help lists the flags`, { cause: err });
  }
}

function helpText(name: string, describe: string): string {
  const rows = [
    ["config-file FILE", "TOML file with settings (TORPOR_CONFIG; default /etc/torpor/torpor.toml if it is there)."],
    ["json", "doctor and config: print JSON."],
    ...settingFlags().map((s) => [`${s.flag} VALUE`, s.describe] as const),
  ];
  const width = Math.max(...rows.map(([flag = ""]) => flag.length));
  const lines = rows.map(([flag = "", text]) => `  --${flag.padEnd(width)}  ${text}`);
  return `usage: torpor ${name} [flags]\n${describe}\n\n${lines.join("\n")}\n`;
}
