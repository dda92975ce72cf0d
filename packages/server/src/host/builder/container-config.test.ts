import fc from "fast-check";
import { expect, test } from "vitest";
import { BuildError } from "../host-client.ts";
import { readContainerConfig } from "./container-config.ts";

const USERS = { passwd: "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n", group: "root:x:0:\nstaff:x:50:\n" };
const inspect = (config: object): string => JSON.stringify({ Docker: { config } });
const read = (config: object, environment = {}) => readContainerConfig(inspect(config), USERS, environment);

test("all that an image says about how it is run", () => {
  expect(
    read(
      {
        Entrypoint: ["/bin/sh", "-c", "exec x"],
        Cmd: ["a"],
        Env: ["PATH=/bin", "A=1=2"],
        User: "app:staff",
        WorkingDir: "/srv",
        ExposedPorts: { "8080/tcp": {}, "53/udp": {}, "9000-9002/tcp": {}, "80": {} },
        StopSignal: "SIGINT",
      },
      { A: "over", B: "" },
    ),
  ).toEqual({
    argv: ["/bin/sh", "-c", "exec x", "a"],
    env: ["PATH=/bin", "A=over", "B="],
    user: "app:staff",
    workdir: "/srv",
    exposedPorts: [80, 8080, 9000, 9001, 9002],
    stopSignal: "SIGINT",
  });
});

test("what it does not say has a default", () => {
  expect(read({ Cmd: ["x"], Entrypoint: null, WorkingDir: "" })).toEqual({
    argv: ["x"],
    env: [],
    user: "",
    workdir: "/",
    exposedPorts: [],
    stopSignal: "SIGTERM",
  });
});

test.each([
  [{ Entrypoint: [], Cmd: null }, /neither ENTRYPOINT nor CMD/],
  [{ Cmd: ["x"], User: "nobody2" }, /USER "nobody2": the image has no user "nobody2" in \/etc\/passwd/],
  [{ Cmd: ["x"], User: "0:nogroup2" }, /no group "nogroup2" in \/etc\/group/],
  [{ Cmd: ["x"], WorkingDir: "srv" }, /WORKDIR "srv" is not an absolute path/],
  [{ Cmd: ["x\0y"] }, /NUL byte/],
  [{ Cmd: ["x".repeat(200_000)] }, /larger than 131072 bytes/],
  [{ Cmd: "x" }, /cannot be read/],
])("%j is refused", (config, reason) => {
  expect(() => read(config)).toThrow(reason);
});

test("an image without files of users may name any: the guest decides", () => {
  expect(readContainerConfig(inspect({ Cmd: ["x"], User: "app" }), { passwd: "", group: "" }, {}).user).toBe("app");
});

test("whatever stands in the configuration, it is read or refused", () => {
  const value = fc.oneof(fc.string(), fc.array(fc.string()), fc.dictionary(fc.string(), fc.anything()), fc.anything());
  const keys = fc.constantFrom("Entrypoint", "Cmd", "Env", "User", "WorkingDir", "ExposedPorts", "StopSignal");
  fc.assert(
    fc.property(fc.dictionary(keys, value), (config) => {
      try {
        expect(readContainerConfig(JSON.stringify({ Docker: { config } }), USERS, {}).argv.length).toBeGreaterThan(0);
      } catch (err) {
        expect(err).toBeInstanceOf(BuildError);
      }
    }),
  );
});
