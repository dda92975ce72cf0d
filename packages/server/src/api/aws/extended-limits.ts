import { integer, OPERATIONS, type Operation, type OperationName } from "@torpor/protocol";

/** The operation for an account whose microvms may live so long: longer than AWS's, if its quota says so. */
export function allowing(name: OperationName, longestLifeSeconds: number): Operation {
  const operation: Operation = OPERATIONS[name];
  if (name !== "RunMicrovm") return operation;
  const { maximumDurationInSeconds: duration, ...others } = OPERATIONS.RunMicrovm.input;
  const { min = 1, max = longestLifeSeconds } = duration.shape;
  if (longestLifeSeconds <= max) return operation;
  const raised = { ...duration, shape: integer({ min, max: longestLifeSeconds }) };
  return { ...operation, input: { ...others, maximumDurationInSeconds: raised } };
}
