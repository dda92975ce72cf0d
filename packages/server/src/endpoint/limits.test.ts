import { once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { connect as netConnect, type Socket } from "node:net";
import fc from "fast-check";
import { expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { clientOf, Places } from "./places.ts";
import { ask, connectRaw, hostOf, open, readAll, serveApp, startBench, tokenFor, until } from "./testing/bench.ts";
import { answerOf, connectHttp2 } from "./testing/http2.ts";

test("an address has only so many connections; one that ends makes room", async () => {
  await using bench = await startBench({ maxConnectionsPerAddress: 2 });
  const vm = bench.gate.add();
  const held = [await connectRaw(bench, hostOf(vm)), await connectRaw(bench, hostOf(vm))];
  const third = netConnect(bench.server.address.port, "127.0.0.1");
  third.on("error", () => {});
  await new Promise((resolve) => third.once("close", resolve));
  const ended = new Promise((resolve) => held[0]?.once("close", resolve));
  held[0]?.end(`GET / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\nConnection: close\r\n\r\n`);
  held[0]?.resume();
  await ended;
  expect((await ask(bench, vm)).status).toBe(403);
  held[1]?.destroy();
});

test("addresses of one IPv6 network, and of one IPv4 address, are one client", () => {
  expect(clientOf("192.0.2.7")).toBe("192.0.2.7");
  expect(clientOf("::ffff:192.0.2.7")).toBe("192.0.2.7");
  expect(clientOf("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2::/64");
  expect(clientOf("2001:db8:1:2::1")).toBe("2001:db8:1:2::/64");
  expect(clientOf("2001:db8::1")).toBe("2001:db8:0:0::/64");
  expect(clientOf("::1")).toBe("0:0:0:0::/64");
  expect(clientOf("fe80::1%eth0")).toBe("fe80:0:0:0::/64");
  expect(clientOf(undefined)).toBe("");
});

test("places are never more than there are, and all come back", () => {
  const steps = fc.array(fc.tuple(fc.constantFrom("a", "b"), fc.boolean()), { maxLength: 60 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), steps, (each, all) => {
      const places = new Places(each);
      const held: Record<string, Disposable[]> = { a: [], b: [] };
      for (const [whose, take] of all) {
        const mine = held[whose] ?? [];
        if (!take) {
          const place = mine.pop();
          place?.[Symbol.dispose]();
          place?.[Symbol.dispose](); // twice is once
        } else {
          const place = places.take(whose);
          expect(place === undefined).toBe(mine.length === each);
          if (place) mine.push(place);
        }
      }
    }),
  );
});

test("what nobody says anything on ends: an answer, an HTTP/2 stream, a tunnel; what is alive does not", async () => {
  await using bench = await startBench({ silenceMs: 1000 });
  const vm = bench.gate.add();
  const headers = { "x-aws-proxy-auth": await tokenFor(bench, vm) };
  const app = createServer((_req, res) => res.write("begun"));
  new WebSocketServer({ server: app }).on("connection", (socket) => socket.on("error", () => {}));
  await using _ = await serveApp(vm, app);
  const request = open(bench, vm, { headers });
  request.on("error", () => {}).end();
  const [message] = (await once(request, "response")) as [IncomingMessage];
  const cut = once(message.resume(), "error");
  const client = await connectHttp2(bench, vm);
  const stream = client.request(headers);
  const socket = new WebSocket(`wss://${hostOf(vm)}:${bench.server.address.port}/`, {
    headers,
    ca: bench.ca,
    lookup: (_name, lookup, callback) =>
      lookup.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4),
  });
  const alive = new Promise((resolve) => socket.once("close", resolve));
  await once(socket, "open");
  const pinging = setInterval(() => socket.ping(), 20);
  await cut;
  expect((await answerOf(stream)).body).toBe("begun");
  expect(socket.readyState).toBe(WebSocket.OPEN);
  clearInterval(pinging);
  await alive;
  await until(vm, "left", () => vm.left === 3);
  client.destroy();
});

test("an upload that stands still in front of a waiting app ends, too", async () => {
  await using bench = await startBench({ silenceMs: 100 });
  const vm = bench.gate.add();
  await using _ = await serveApp(
    vm,
    createServer((req) => req.resume().on("error", () => {})),
  );
  const socket: Socket = await connectRaw(bench, hostOf(vm));
  const auth = `X-aws-proxy-auth: ${await tokenFor(bench, vm)}\r\n`;
  socket.write(`POST / HTTP/1.1\r\nHost: ${hostOf(vm)}\r\n${auth}Content-Length: 100\r\n\r\nslow`);
  expect(await readAll(socket as Parameters<typeof readAll>[0])).toMatch(/^HTTP\/1.1 502/);
});
