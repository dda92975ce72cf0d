import { randomUUID } from "node:crypto";
import { type IncomingMessage, ServerResponse, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { Duplex, Writable } from "node:stream";
import type { Clock } from "../lib/clock.ts";
import { admit } from "./admission.ts";
import { askHttp1 } from "./app/http1-app.ts";
import { Http1Client } from "./client/http1-client.ts";
import type { Connection } from "./connection.ts";
import { Cut, type EndpointParts, failureOf, refusalFor } from "./exchange.ts";
import { enterGuest, type GuestVisit } from "./guest-visit.ts";
import { type HeaderLines, linesOf, listOf } from "./header-lines.ts";
import { onAbort } from "./on-abort.ts";
import { pump } from "./pump.ts";
import { linesForApp, linesForUpgradedClient } from "./relayed-headers.ts";
import { serveShell } from "./shell/serve-shell.ts";
import type { Listening } from "./silence.ts";
import { headFor, placeOfVisitor, visitorOf } from "./visitor.ts";

/**
 * A request to switch protocols, a WebSocket's mostly: after the app's 101 the bytes of both sides are passed on as they
 * are. Anything else that the app answers is passed on as an answer, and the connection ends. Never throws.
 */
export function tunnel(
  req: IncomingMessage,
  first: Buffer,
  connection: Connection,
  parts: EndpointParts,
): Promise<void> {
  // Not in one function: a tunnel may be open for days, and what has opened it, the request with its token, is not kept.
  return open(req, first, connection, parts).then((opened) => opened && untilOver(opened, connection));
}

/** A tunnel through which bytes go. */
interface Opened {
  /** Resolves when both sides have ended; rejects when one has broken off. */
  readonly over: Promise<void>;
  readonly owned: Disposable;
}

async function untilOver({ over, owned }: Opened, { socket }: Connection): Promise<void> {
  using _ = owned;
  try {
    await over;
  } catch {
    socket.destroy();
  }
}

// What lives as long as the tunnel is made out here: a closure made in `open` would keep all that others there have caught.
const ignore = (): void => {};
const destroying = (stream: Duplex) => (): void => void stream.destroy();
const touching = (guest: Pick<GuestVisit, "touch">, sound: Listening) => (): void => {
  guest.touch();
  sound.heard();
};
function onlyExchangeOf(connection: Connection): Disposable {
  connection.exchanges++;
  return { [Symbol.dispose]: () => void connection.exchanges-- };
}

/** @returns undefined when the request has been answered, and nothing is open */
async function open(
  req: IncomingMessage,
  first: Buffer,
  connection: Connection,
  parts: EndpointParts,
): Promise<Opened | undefined> {
  const { socket } = connection;
  const requestId = randomUUID();
  socket.on("error", ignore); // its end is watched
  if (connection.exchanges > 0 || connection.doubtful) {
    socket.destroy(); // the answer to an earlier request is under way: two answers would mix
    return undefined;
  }
  using undo = new DisposableStack();
  undo.use(onlyExchangeOf(connection));
  socket.setTimeout(0);
  const res = answerOn(req, connection);
  const client = new Http1Client(req, res, connection, { clock: parts.clock, ms: parts.limits.lingerMs });
  const early = new EarlyBytes(socket, first);
  let visitor = connection.peer;
  try {
    const asked = client.readHead(parts.limits);
    visitor = visitorOf(asked, connection, parts.visitors);
    undo.use(placeOfVisitor(visitor, connection, parts.visitors));
    const head = headFor(visitor, asked, parts.visitors);
    const admission = await admit(head, connection.serverName, true, parts.rules);
    if ("shell" in admission) {
      const take = (): Buffer => {
        res.detachSocket(socket);
        connection.tunnelled = true;
        return Buffer.concat(early.take());
      };
      await serveShell({ req, head, socket, take, gone: connection.gone }, admission, parts);
      return undefined;
    }
    const guest = undo.use(await enterGuest(admission, parts.door, client.gone));
    using cut = new Cut(guest, client);
    const sound = undo.use(parts.silence.listen(destroying(socket)));
    const touch = touching(guest, sound);
    touch();
    const stream = await guest.connect(client.gone);
    undo.defer(destroying(stream));
    const lines = linesForApp(head, requestId, listOf(head.lines, "upgrade").join(", "));
    const onInterim = (status: number, info: HeaderLines): void => client.interim(status, info);
    const app = askHttp1({ stream, reused: false }, { ...head, lines }, parts.limits, onInterim);
    cut.set(app);
    app.endBody([]);
    const answer = await app.answer.catch((err: unknown) => {
      throw failureOf(guest, err);
    });
    touch();
    if (answer.kind === "answered") {
      const to = client.begin(answer);
      await pump(answer.body, to, touch);
      client.end([]);
      await client.answered();
      return undefined;
    }
    res.detachSocket(socket);
    connection.tunnelled = true;
    socket.write(headOf(linesForUpgradedClient(answer.lines, head.lines)), "latin1");
    undo.use(onAbort(connection.gone, destroying(stream)));
    undo.use(onAbort(guest.closing, destroying(stream)));
    return { over: passOn(socket, stream, early.take(), answer.first, touch, parts), owned: undo.move() };
  } catch (err) {
    if (connection.tunnelled || connection.gone.aborted) socket.destroy();
    else client.refuse(refusalFor(err, { requestId, client: visitor }, parts.log));
    await client.answered();
    return undefined;
  }
}

/** What each side has sent already goes first. Begins to read in the same tick. */
function passOn(
  socket: Socket,
  stream: Duplex,
  ofClient: readonly Buffer[],
  ofApp: Buffer,
  touch: () => void,
  { clock, limits }: Pick<EndpointParts, "clock" | "limits">,
): Promise<void> {
  if (ofApp.length > 0) socket.write(ofApp);
  for (const chunk of ofClient) stream.write(chunk);
  const over = join(socket, stream, touch, clock, limits.halfClosedTimeoutMs);
  over.catch(() => {}); // whoever waits for it hears of it, a moment later
  return over;
}

/**
 * What a client sends before it knows that it may. Reading on is also how its going away is noticed, so more than a
 * little ends the connection.
 */
class EarlyBytes {
  static readonly MAX = 64 * 1024;
  readonly #socket: Socket;
  readonly #chunks: Buffer[];
  #bytes: number;
  readonly #onData = (chunk: Buffer): void => {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes > EarlyBytes.MAX) this.#socket.destroy();
  };

  constructor(socket: Socket, first: Buffer) {
    this.#socket = socket;
    this.#chunks = first.length > 0 ? [first] : [];
    this.#bytes = first.length;
    socket.on("data", this.#onData);
  }

  /** Stops reading; whoever reads next must begin in the same tick. */
  take(): Buffer[] {
    this.#socket.off("data", this.#onData);
    return this.#chunks.splice(0);
  }
}

/** An answer written by hand of Node's: after an upgrade it leaves the socket to us. It is the last on the connection. */
function answerOn(req: IncomingMessage, connection: Connection): ServerResponse {
  const res = new ServerResponse(req);
  res.shouldKeepAlive = false;
  res.on("error", () => {});
  res.assignSocket(connection.socket);
  res.once("finish", () => connection.socket.destroySoon());
  return res;
}

function headOf(lines: HeaderLines): string {
  let head = `HTTP/1.1 101 ${STATUS_CODES[101]}\r\n`;
  for (const [name, value] of linesOf(lines)) head += `${name}: ${value}\r\n`;
  return `${head}\r\n`;
}

/** Passes bytes both ways until both sides have ended; each may end before the other. */
async function join(
  client: Duplex,
  guest: Duplex,
  touch: () => void,
  clock: Clock,
  halfClosedTimeoutMs: number,
): Promise<void> {
  let cancel: (() => void) | undefined;
  let halfClosed = false;
  const watch = (): void => {
    if (!halfClosed) return;
    cancel?.();
    cancel = clock.after(halfClosedTimeoutMs, () => {
      client.destroy();
      guest.destroy();
    });
  };
  const oneWay = async (from: Duplex, to: Duplex): Promise<void> => {
    await pump(from, to, () => {
      touch();
      watch();
    });
    halfClosed = true;
    watch();
    await ended(to);
  };
  try {
    await Promise.all([oneWay(client, guest), oneWay(guest, client)]);
  } finally {
    cancel?.();
    client.destroy();
    guest.destroy();
  }
}

/** Ends the stream; resolves when everything written has left, or it is closed. */
function ended(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    stream.once("close", resolve);
    stream.end(resolve);
  });
}
