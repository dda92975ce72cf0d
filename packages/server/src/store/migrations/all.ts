import type { Migration } from "kysely/migration";
import { initial } from "./0001-initial.ts";
import { checkpoints } from "./0002-checkpoints.ts";
import { imageLifecycle } from "./0003-image-lifecycle.ts";
import { networkConnectors } from "./0004-network-connectors.ts";
import { quotas } from "./0005-quotas.ts";
import { accountsAndKeys } from "./0006-accounts-and-keys.ts";

/** In the order in which they run. One that was released is frozen: what it did is on users' disks. */
export const MIGRATIONS: Readonly<Record<string, Migration>> = {
  "0001-initial": initial,
  "0002-checkpoints": checkpoints,
  "0003-image-lifecycle": imageLifecycle,
  "0004-network-connectors": networkConnectors,
  "0005-quotas": quotas,
  "0006-accounts-and-keys": accountsAndKeys,
};
