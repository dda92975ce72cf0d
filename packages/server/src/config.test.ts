import { expect, test } from "vitest";
import { describeConfig, loadConfig } from "./config.ts";

const load = (flags: Record<string, unknown>, env: NodeJS.ProcessEnv = {}) =>
  loadConfig({ flags, env: { HOME: "/home/someone", ...env } });

test("flags win over the environment, and each value says where it came from", () => {
  const { config, origins } = load({ apiPort: "4800" }, { TORPOR_API_PORT: "4900", TORPOR_REGION: "eu-west-1" });
  expect(config.apiPort).toBe(4800);
  expect(config.region).toBe("eu-west-1");
  expect(origins.apiPort).toBe("flag --api-port");
  expect(origins.region).toBe("environment TORPOR_REGION");
  expect(origins.logLevel).toBe("default");
});

test("every default passes its own check", () => {
  const { config } = load({});
  for (const [name, value] of Object.entries(config))
    expect(load({ [name]: typeof value === "string" ? value : String(value) }).config, name).toMatchObject({
      [name]: value,
    });
});

test("a value that cannot be right is refused with its name, its origin and what was expected", () => {
  expect(() => load({ apiPort: "65536" })).toThrow(
    'api-port (flag --api-port): expected a whole number from 0 to 65535, got "65536"',
  );
  expect(() => load({}, { TORPOR_ACCELERATOR: "xen" })).toThrow(/accelerator \(environment TORPOR_ACCELERATOR\).*xen/);
  expect(() => load({ maxArtifactBytes: "0" })).toThrow(/from 1024 to 1099511627776/);
});

test("secrets are neither shown nor repeated in errors", () => {
  const { config, origins } = load({ s3SecretAccessKey: "hush" });
  expect(JSON.stringify(describeConfig(config, origins))).not.toContain("hush");
});
