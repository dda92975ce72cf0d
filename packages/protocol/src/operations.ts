/**
 * The AWS operations that Torpor answers, as data: routing, validation and serialisation are derived from this table
 * and so are the types of the handlers. An operation joins the service by joining this table.
 *
 * Source of names and constraints: the service models of Lambda MicroVMs, API version 2025-09-09, and of Lambda Core,
 * version 2026-04-30.
 */
import { IMAGE_OPERATIONS } from "./operations/image.ts";
import { IMAGE_VERSION_OPERATIONS } from "./operations/image-version.ts";
import { MANAGED_IMAGE_OPERATIONS } from "./operations/managed-image.ts";
import { MICROVM_OPERATIONS } from "./operations/microvm.ts";
import { NETWORK_CONNECTOR_OPERATIONS } from "./operations/network-connector.ts";
import { TAG_OPERATIONS } from "./operations/tag.ts";
import type { Input, Output } from "./shape.ts";

export const OPERATIONS = {
  ...IMAGE_OPERATIONS,
  ...IMAGE_VERSION_OPERATIONS,
  ...MANAGED_IMAGE_OPERATIONS,
  ...MICROVM_OPERATIONS,
  ...TAG_OPERATIONS,
  ...NETWORK_CONNECTOR_OPERATIONS,
} as const;

export type OperationName = keyof typeof OPERATIONS;
export type OperationInput<N extends OperationName> = Input<(typeof OPERATIONS)[N]>;
export type OperationOutput<N extends OperationName> = Output<(typeof OPERATIONS)[N]>;
