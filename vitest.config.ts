import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["packages/*/src/**/*.test.ts", "packages/*/test/unit/**/*.test.ts", "contract/**/*.test.ts"],
          testTimeout: 20_000,
        },
      },
      {
        // Clients of AWS that are not ours, from PyPI (scripts/clients.sh), against a whole server without VMs.
        test: {
          name: "clients",
          include: ["packages/*/test/clients/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 300_000,
        },
      },
      {
        // Real VMs, emulated where there is no KVM: one file at a time, so that they do not starve each other.
        test: {
          name: "vm",
          include: ["packages/*/test/vm/**/*.test.ts"],
          testTimeout: 180_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        // Slots and what stands in them, in network namespaces of the tests' own: root is needed, no VM.
        test: {
          name: "network",
          include: ["packages/*/test/network/**/*.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
          fileParallelism: false,
        },
      },
      {
        // Real image builds, in the jail that production uses: root and the artifacts are needed, no VM.
        test: {
          name: "build",
          include: ["packages/*/test/build/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
