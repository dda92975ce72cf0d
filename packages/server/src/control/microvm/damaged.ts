import type { DamagedError, HostClient } from "../../host/host-client.ts";
import { TorporError } from "../../lib/errors.ts";
import type { Store } from "../../store/store.ts";
import type { RequestContext } from "../request-context.ts";

/** Checkpoints that are named; the list has the others. */
const NAMED = 3;

/** A microvm that cannot be resumed because a file is damaged: which one, and what there is to go back to. */
export async function damagedError(
  id: string,
  err: DamagedError,
  { accountId }: Pick<RequestContext, "accountId">,
  { store, host }: { readonly store: Pick<Store, "checkpoints">; readonly host: Pick<HostClient, "verifications"> },
): Promise<TorporError> {
  const message = (ways: string): TorporError =>
    new TorporError("conflict", `The MicroVM ${id} cannot be resumed: ${err.message}. It is still suspended. ${ways}`, {
      cause: err,
    });
  if (err.part === "template")
    return message(
      "All that started from this version of the image needs that file: put it back from a backup, or build the image again and start anew.",
    );
  const page = await store.checkpoints.page({ accountId, microvmId: id }, undefined, 50);
  const available = page.filter(({ state }) => state === "AVAILABLE");
  const found = await host.verifications(available.map((checkpoint) => checkpoint.id));
  const whole = available.filter((checkpoint) => {
    const state = found.get(checkpoint.id)?.state;
    return state !== undefined && state !== "damaged";
  });
  const named = whole.slice(0, NAMED).map(({ id: checkpointId, createdAt }) => {
    return `${checkpointId} (of ${createdAt.toISOString()}, ${found.get(checkpointId)?.state})`;
  });
  const ways = [
    ...(err.earlier === undefined
      ? []
      : [
          `Its restore point of ${err.earlier} is still there: make it a checkpoint (torpor checkpoint create ${id} --previous) and roll back to that.`,
        ]),
    ...(named.length === 0
      ? []
      : [
          `It can be rolled back to ${named.join(", ")}${whole.length > NAMED ? " and older ones" : ""}: torpor rollback.`,
        ]),
  ];
  if (ways.length === 0)
    ways.push(
      "There is no earlier restore point and no checkpoint of it that is whole. Put the file back from a backup, or terminate it.",
    );
  return message(ways.join(" "));
}
