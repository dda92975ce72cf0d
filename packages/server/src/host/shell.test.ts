import { expect, test } from "vitest";
import type { Shell, ShellSpec } from "./host-client.ts";
import { TestMachine, type TestServer } from "./testing/test-machine.ts";

const forever = new AbortController().signal;
const SPEC: ShellSpec = { command: [], terminal: true, columns: 0, rows: 0, term: "xterm" };
const open = (server: TestServer, id: string, more: Partial<ShellSpec> = {}): Promise<Shell> =>
  server.host.openShell(id, { ...SPEC, ...more }, forever);

/** Everything that it says until it exits, and its exit code. */
async function heard(shell: Shell): Promise<[text: string, code: number]> {
  let text = "";
  for await (const event of shell.events()) {
    if (event.kind === "exit") return [text, event.code];
    text += event.bytes.toString();
  }
  throw new Error("no exit");
}

test("a shell is in the guest of its microvm, and in no other state than running", async () => {
  await using machine = await TestMachine.make();
  const server = await machine.startWithTemplate();
  await server.launch("vm");
  await server.launch("other");
  {
    using shell = await open(server, "vm");
    await shell.write(Buffer.from("remember it mine\nrecall it\nexit 3\n"));
    expect(await heard(shell)).toEqual(["ok\n= mine\n", 3]);
    using elsewhere = await open(server, "other", { command: ["recall", "it"], terminal: false });
    await elsewhere.write(Buffer.from("exit 0\n"));
    expect(await heard(elsewhere)).toEqual(["none\n", 0]);
  }
  using left = await open(server, "vm");
  await server.suspend("vm");
  await expect(heard(left)).rejects.toThrow("agent");
  await expect(open(server, "vm")).rejects.toMatchObject({ name: "ShellError", reason: "unreachable" });
  await expect(open(server, "never-there")).rejects.toMatchObject({ name: "ShellError", reason: "unreachable" });
  await server.resume("vm");
  using again = await open(server, "vm", { command: ["recall", "it"] });
  await again.write(Buffer.from("exit 0\n"));
  expect(await heard(again)).toEqual(["= mine\n", 0]);
});
