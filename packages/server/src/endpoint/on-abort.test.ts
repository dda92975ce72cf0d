import { expect, test } from "vitest";
import { onAbort } from "./on-abort.ts";

test("all who wait hear the reason once, and those who come later at once", () => {
  const controller = new AbortController();
  const heard: unknown[] = [];
  for (const name of ["a", "b"]) onAbort(controller.signal, (reason) => heard.push([name, reason]));
  controller.abort("why");
  controller.abort("again");
  onAbort(controller.signal, (reason) => heard.push(["late", reason]));
  expect(heard).toEqual([
    ["a", "why"],
    ["b", "why"],
    ["late", "why"],
  ]);
});

test("whoever is disposed of hears nothing, also when another's call back does it", () => {
  const controller = new AbortController();
  const heard: string[] = [];
  onAbort(controller.signal, () => heard.push("gone"))[Symbol.dispose]();
  onAbort(controller.signal, () => {
    heard.push("first");
    second[Symbol.dispose]();
  });
  const second = onAbort(controller.signal, () => heard.push("second"));
  onAbort(controller.signal, () => heard.push("third"));
  controller.abort();
  expect(heard).toEqual(["first", "third"]);
});

test("a signal that nobody waits for any more can be waited for again", () => {
  const controller = new AbortController();
  const first = onAbort(controller.signal, () => {});
  first[Symbol.dispose]();
  let heard = 0;
  onAbort(controller.signal, () => heard++);
  first[Symbol.dispose](); // twice does no harm
  controller.abort();
  expect(heard).toBe(1);
});
