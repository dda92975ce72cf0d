import { afterAll, afterEach, beforeAll, describe } from "vitest";
import type { Contender } from "./contender.ts";
import { describeEnds } from "./ends.ts";
import { describeRefusals } from "./refusals.ts";
import { describeSnapshots } from "./snapshots.ts";
import { describeTakingOver } from "./taking-over.ts";
import { Workbench } from "./workbench.ts";

/**
 * What every driver promises in driver.ts, as tests: whoever writes one has them run against it. One guest is booted;
 * everything else is made of its template.
 */
export function describeDriver(name: string, open: () => Promise<Contender>): void {
  describe(`${name} as a driver`, () => {
    let contender: Contender | undefined;
    let made: Workbench | undefined;
    const bench = (): Workbench => {
      if (!made) throw new Error("there is no template");
      return made;
    };
    beforeAll(async () => {
      contender = await open();
      made = await Workbench.make(contender);
    });
    afterEach(() => made?.clear());
    afterAll(async () => {
      await made?.driver[Symbol.asyncDispose]();
      await contender?.[Symbol.asyncDispose]();
    });

    describeSnapshots(bench);
    describeTakingOver(bench);
    describeEnds(bench);
    describeRefusals(bench);
  });
}
