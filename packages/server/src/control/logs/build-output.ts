import type { Clock } from "../../lib/clock.ts";
import type { LogStore } from "../../logs/log-store.ts";
import type { Build, Image, ImageVersion } from "../../store/image.ts";
import { buildDestination } from "./destination.ts";

/** Build logs on their way to the log groups of their images. */
export class BuildOutput {
  readonly #logs: LogStore;
  readonly #clock: Clock;

  constructor(logs: LogStore, clock: Clock) {
    this.#logs = logs;
    this.#clock = clock;
  }

  /** What takes the text of a build's log: whole lines. Nothing where the image's logging is disabled. */
  copyFor(image: Image, version: ImageVersion, build: Build): (text: string) => void {
    const target = buildDestination(image, version, build, new Date(this.#clock.now()));
    if (!target) return () => {};
    return (text) => {
      const time = this.#clock.now();
      for (const line of text.replace(/\n$/, "").split("\n")) void this.#logs.append(target, { time, text: line });
    };
  }
}
