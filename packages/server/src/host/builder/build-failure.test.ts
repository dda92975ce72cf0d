import { expect, test } from "vitest";
import { explainFailure, StepTracker } from "./build-failure.ts";

const STAGES = [
  [
    { line: 2, keyword: "FROM" },
    { line: 3, keyword: "RUN" },
  ],
  [
    { line: 5, keyword: "FROM" },
    { line: 6, keyword: "COPY" },
    { line: 9, keyword: "RUN" },
  ],
];

test("the step is known by its stage and number, and what a step prints does not move it", () => {
  const tracker = new StepTracker(STAGES);
  expect(tracker.line("[2/2] STEP 3/3: RUN make")).toBe(true);
  expect(tracker.step?.line).toBe(9);
  for (const fake of ["STEP 9/9: RUN x", "[2/2] STEP 2/3: RUN x", "  [1/2] STEP 2/2: RUN x", "[7/7] STEP 1/1: FROM x"])
    expect(tracker.line(fake)).toBe(false);
  expect(tracker.step?.line).toBe(9);
});

test("a failed RUN is told with its line, its status and what it said last", () => {
  const tail = ["[1/1] STEP 2/2: RUN make", "cc: not found", "subprocess exited with status 127"];
  const err = explainFailure(
    { line: 3, keyword: "RUN" },
    [...tail, 'Error: building at STEP "RUN make": exit status 127'],
    { exitCode: 127, oomKills: 0 },
    1 << 30,
  );
  expect(err.code).toBe("CONTAINER_BUILD_FAILED");
  expect(err.message).toBe(
    "The container image build failed. Dockerfile:3: RUN failed with exit status 127. Its last output:\ncc: not found",
  );
});

test("a failed COPY is told in buildah's words", () => {
  const err = explainFailure(
    { line: 6, keyword: "COPY" },
    [
      'Error: building at STEP "COPY nope /x": checking on sources under "/context": copier: stat: "/nope": no such file',
    ],
    { exitCode: 125, oomKills: 0 },
    1 << 30,
  );
  expect(err.message).toMatch(/Dockerfile:6: COPY failed: checking on sources .* no such file\.$/);
});

test("a step that ran out of memory, and one that ran out of disk, are told so", () => {
  const step = { line: 3, keyword: "RUN" };
  const error = 'Error: building at STEP "RUN x": exit status 137';
  expect(explainFailure(step, ["Killed", error], { exitCode: 137, oomKills: 1 }, 1 << 30).message).toMatch(
    /Builds have 1024 MiB of memory, and it ran out/,
  );
  const full = explainFailure(step, ["dd: No space left on device", error], { exitCode: 1, oomKills: 0 }, 1 << 30);
  expect(full.code).toBe("DISK_STORAGE_FULL");
});
