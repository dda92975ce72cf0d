/**
 * `npm run fuzz:api -- [--requests N] [--seed S] [--only NUMBER]`: nonsense for a server of its own, without VMs and on
 * the loopback. Exit status 1 with the request that brought out what must not be, and how to send it again.
 */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { fuzz } from "./fuzz.ts";

const { values } = parseArgs({
  options: { requests: { type: "string", default: "100000" }, seed: { type: "string" }, only: { type: "string" } },
});
const whole = (name: string, text: string): number => {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  console.error(`--${name} ${text}: not a whole number`);
  process.exit(2);
};
const requests = whole("requests", values.requests);
const seed = values.seed === undefined ? randomInt(2 ** 30) : whole("seed", values.seed);
const only = values.only === undefined ? undefined : whole("only", values.only);

console.log(`seed ${seed}`);
const started = performance.now();
const say = (text: string): void => console.log(`  ${text}`);
const report = await fuzz({ requests, seed, say, ...(only !== undefined && { only }) });
const { failure, memory } = report;
const seconds = Math.round((performance.now() - started) / 1000);
const statuses = Object.entries(report.statuses).map(([status, n]) => `${status === "0" ? "none" : status} ${n}`);
const mib = memory.map((bytes) => Math.round(bytes / 2 ** 20));
console.log(`${report.sent} requests in ${seconds} s; answers: ${statuses.join(", ")}`);
if (mib.length > 0)
  console.log(`memory of the server, warm: ${Math.min(...mib)} to ${Math.max(...mib)} MiB, ${mib.at(-1)} at the end`);
if (failure) {
  console.log(`\n${failure.reason}\n`);
  if (failure.request) console.log(`request:\n${failure.request}\n\nanswer:\n${failure.answer}\n`);
  console.log(`end of the server's log:\n${failure.log.slice(-4000)}`);
  if (failure.number !== undefined)
    console.log(`again: npm run fuzz:api -- --requests ${requests} --seed ${seed} --only ${failure.number}`);
  process.exitCode = 1;
}
