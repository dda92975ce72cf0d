import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";
import type { Clock } from "../../lib/clock.ts";
import type { LogEvent } from "../event.ts";

export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Record<string, unknown>;
}

export interface FakeCollector {
  readonly url: string;
  readonly received: Received[];
  /** Resolves when so many requests have come. */
  count(n: number): Promise<void>;
  /** How requests are answered from now on. */
  answer: (request: Received, response: ServerResponse) => void;
}

/** A server on this machine that takes what is sent to it. */
export async function startCollector(): Promise<FakeCollector> {
  const waiting: { readonly n: number; readonly done: () => void }[] = [];
  const collector: Omit<FakeCollector, "url"> = {
    received: [],
    count: (n) =>
      new Promise((done) => {
        if (collector.received.length >= n) done();
        else waiting.push({ n, done });
      }),
    answer: (_request, response) => void response.end("{}"),
  };
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) text += chunk;
    const got = { path: request.url ?? "", headers: request.headers, body: JSON.parse(text) as Received["body"] };
    collector.received.push(got);
    collector.answer(got, response);
    for (const { n, done } of waiting) if (collector.received.length >= n) done();
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return Object.assign(collector, { url });
}

/** Time passes as soon as somebody waits for it; how long they wanted to wait is kept. */
export function hastyClock(): Clock & { readonly pauses: number[] } {
  const pauses: number[] = [];
  return {
    pauses,
    now: () => 1_789_483_142_026,
    monotonic: () => 0,
    after: (ms, callback) => {
      pauses.push(ms);
      const soon = setImmediate(callback);
      return () => clearImmediate(soon);
    },
  };
}

export function eventsOf(texts: readonly string[], time = 1_789_483_142_000): LogEvent[] {
  return texts.map((text, i) => ({ n: i + 1, time: time + i, ingested: time + i + 5, text }));
}
