export * from "./arn.ts";
export * from "./checkpoint.ts";
export * from "./operations.ts";
export * from "./quota.ts";
export * from "./quota-table.ts";
export * from "./receipt.ts";
export * from "./shape.ts";
export * from "./usage.ts";
