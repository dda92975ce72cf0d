import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

/**
 * The arrows between packages and rooms, as ARCHITECTURE.md draws them: `api, endpoint → control → host → driver → lib`.
 * A file that points the other way fails here with the reason.
 */
const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));

interface Source {
  /** From the repository's root. */
  readonly path: string;
  readonly text: string;
}

/** What each room of the server may import, besides itself and packages from elsewhere. */
const ROOMS: Readonly<Record<string, { readonly may: readonly string[]; readonly because: string }>> = {
  lib: { may: [], because: "lib has no domain word inside: everybody may use it, so it uses nobody" },
  config: { may: ["lib"], because: "settings are read before anything is built" },
  version: { may: [], because: "the version is a fact, not a module" },
  blobs: { may: ["lib", "config"], because: "blobs stores bytes and knows nothing of who asks" },
  logs: { may: ["lib", "config"], because: "logs keeps lines under names, and knows nothing of who writes them" },
  driver: { may: ["lib"], because: "a driver knows one VMM, and nothing of microvms" },
  host: { may: ["lib", "config", "driver"], because: "a host may run on another machine than control" },
  store: {
    may: ["lib", "config", "host"],
    because: "the store keeps what control says; host-client.ts lends it types",
  },
  control: { may: ["lib", "config", "host", "store", "blobs", "logs"], because: "control does not know who asks it" },
  api: { may: ["lib", "config", "host", "control", "blobs"], because: "the API reaches rows and VMs through control" },
  endpoint: { may: ["lib", "config", "host", "control"], because: "user traffic meets control through EndpointGate" },
  doctor: {
    may: ["lib", "config", "host", "driver", "endpoint"],
    because: "doctor looks at a machine, and at the endpoint's certificates, server or not",
  },
};
/** These put the rooms together. */
const COMPOSITION = ["main", "serve"];

/** Packages from elsewhere that only one room may use. */
const ONLY_IN: readonly { readonly module: RegExp; readonly room: string; readonly because: string }[] = [
  { module: /^(kysely|node:sqlite|pg)$/, room: "store", because: "only the store contains SQL" },
  { module: /^fastify$/, room: "api", because: "only the API knows the wire" },
];

const PACKAGES: Readonly<Record<string, { readonly may: readonly string[]; readonly because: string }>> = {
  protocol: { may: [], because: "protocol is types and tables: whoever shares a wire shares it, and nothing with it" },
  sdk: { may: ["protocol"], because: "the SDK runs where no server is" },
  cli: {
    may: ["protocol", "sdk"],
    because: "the CLI is a client like any other; it only becomes the server's program",
  },
  server: { may: ["protocol"], because: "the server does not need its clients" },
};

/** A folder of host/driver: one VMM's, or the fake one's. */
const ONE_DRIVER = /\/driver\/(?!testing\/)[^/]+\//;

const IMPORT =
  /^(?:import|export)\b[^;"']*?\bfrom\s*["']([^"']+)["']|^import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/gm;

function importsOf(text: string): string[] {
  return [...text.matchAll(IMPORT)].map((m) => m[1] ?? m[2] ?? m[3] ?? "");
}

const packageOf = (path: string): string | undefined => /^packages\/([^/]+)\//.exec(path)?.[1];

function roomOf(path: string): string | undefined {
  const inside = /^packages\/server\/src\/(.+)$/.exec(path)?.[1];
  if (inside === undefined) return undefined;
  if (inside.startsWith("host/driver/")) return "driver";
  return inside.split("/")[0]?.replace(/\.ts$/, "");
}

function breachesOf({ path, text }: Source): string[] {
  const breaches: string[] = [];
  const own = packageOf(path) ?? "";
  const room = roomOf(path);
  const known = room === undefined || COMPOSITION.includes(room) || ROOMS[room] !== undefined;
  if (!known) breaches.push(`${path}: the room ${room} is not in this test: say what it may import`);
  for (const module of importsOf(text)) {
    const target = module.startsWith(".") ? normalize(join(dirname(path), module)) : undefined;
    const other = target === undefined ? /^@torpor\/([^/]+)/.exec(module)?.[1] : packageOf(target);
    if (other !== undefined && other !== own && !(PACKAGES[own]?.may ?? []).includes(other))
      breaches.push(`${path} imports ${module}: ${PACKAGES[own]?.because}`);
    if (own === "protocol" && target === undefined)
      breaches.push(`${path} imports ${module}: ${PACKAGES.protocol?.because}`);
    const into = target === undefined ? undefined : roomOf(target);
    if (room !== undefined && into !== undefined && into !== room && !COMPOSITION.includes(room))
      if (!(ROOMS[room]?.may ?? []).includes(into)) breaches.push(`${path} imports ${module}: ${ROOMS[room]?.because}`);
    for (const rule of ONLY_IN)
      if (own === "server" && rule.module.test(module) && room !== rule.room)
        breaches.push(`${path} imports ${module}: ${rule.because}`);
  }
  const code = withoutComments(text);
  if (own === "server" && room !== "driver" && /\bqmp/i.test(code))
    breaches.push(`${path} mentions QMP: only the driver knows QEMU`);
  // In comments too: what is promised there must hold for every VMM.
  const anyVmm = room === "host" || path.endsWith("/host/driver/driver.ts");
  const vmm = anyVmm ? /qemu|firecracker/i.exec(`${path}\n${text}`)?.[0] : undefined;
  if (vmm !== undefined)
    breaches.push(
      `${path} says ${vmm}: above host/driver a VMM is any VMM, so that another one can take its place; what is true of one is for its driver to know, and its name for people is DriverFacts.vmm`,
    );
  if (room === "host" && importsOf(text).some((module) => ONE_DRIVER.test(module)))
    breaches.push(
      `${path} imports one of the drivers: open-driver.ts chooses, and everybody else knows only driver.ts`,
    );
  if (own === "server" && room !== "api" && /x-amzn-errortype/i.test(code))
    breaches.push(`${path} mentions x-amzn-errortype: only the API knows the AWS wire`);
  const reader = { server: "packages/server/src/config.ts", cli: "packages/cli/src/environment.ts" }[own];
  if (path !== reader && /\bprocess\.env\b/.test(code))
    breaches.push(`${path} reads process.env: only ${reader ?? "a program's own configuration"} does`);
  return breaches;
}

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, "");

const isTest = (path: string): boolean => /\.(test|fixture)\.ts$|\/testing\//.test(path);

function sources(): Source[] {
  const paths = globSync("packages/*/src/**/*.ts", { cwd: ROOT }).filter((path) => !isTest(path));
  return paths.sort().map((path) => ({ path, text: readFileSync(join(ROOT, path), "utf8") }));
}

test("every import follows the arrows", () => {
  const all = sources();
  expect(all.length).toBeGreaterThan(20);
  expect(all.flatMap(breachesOf)).toEqual([]);
});

describe("the rules notice", () => {
  const cases: readonly [what: string, path: string, text: string, reason: RegExp][] = [
    [
      "host that asks control",
      "packages/server/src/host/pool.ts",
      'import { x } from "../control/x.ts";',
      /another machine/,
    ],
    [
      "a driver that asks its host",
      "packages/server/src/host/driver/qemu/a.ts",
      'import type { X } from "../../slot.ts";',
      /one VMM/,
    ],
    ["lib with a domain word", "packages/server/src/lib/a.ts", 'export * from "../config.ts";', /uses nobody/],
    ["SQL outside the store", "packages/server/src/control/a.ts", 'import { sql } from "kysely";', /SQL/],
    [
      "an API that goes to the rows",
      "packages/server/src/api/a.ts",
      'await import("../store/open.ts");',
      /through control/,
    ],
    [
      "the CLI inside the server",
      "packages/cli/src/a.ts",
      'import { x } from "@torpor/server/main";',
      /client like any other/,
    ],
    [
      "the CLI beside the door",
      "packages/cli/src/a.ts",
      'import { x } from "../../server/src/config.ts";',
      /client like any other/,
    ],
    ["a protocol with dependencies", "packages/protocol/src/a.ts", 'import { z } from "zod";', /nothing with it/],
    [
      "a host that knows its VMM",
      "packages/server/src/host/supply/a.ts",
      "/** QEMU needs it. */\nexport const a = 1;",
      /above host\/driver a VMM is any VMM/,
    ],
    [
      "a file of one VMM beside the drivers",
      "packages/server/src/host/qemu-disk.ts",
      "export const a = 1;",
      /above host\/driver a VMM is any VMM/,
    ],
    [
      "a host that takes one driver",
      "packages/server/src/host/a.ts",
      'import { x } from "./driver/fake/fake-driver.ts";',
      /open-driver\.ts chooses/,
    ],
    ["QMP outside the driver", "packages/server/src/host/a.ts", "const qmp = 1;", /only the driver/],
    [
      "a reader of the environment",
      "packages/server/src/host/a.ts",
      "const home = process.env.HOME;",
      /config\.ts does/,
    ],
    ["a room that nobody has thought of", "packages/server/src/utils/a.ts", "", /not in this test/],
    [
      "imports over several lines",
      "packages/server/src/lib/a.ts",
      'import {\n  a,\n  b,\n} from "../host/x.ts";',
      /uses nobody/,
    ],
  ];
  test.each(cases)("%s", (_what, path, text, reason) => {
    expect(breachesOf({ path, text })).toEqual([expect.stringMatching(reason)]);
  });

  test("comments are not code", () => {
    const text = "// process.env and QMP are elsewhere\n/* qmp */\nexport const a = 'http://x'; // qmp\n";
    expect(breachesOf({ path: "packages/server/src/host/a.ts", text })).toEqual([]);
  });
});
