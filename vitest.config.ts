import { defineConfig } from "vitest/config";

export default defineConfig({
  // `using` needs compiling for Node 20.
  oxc: { target: "es2022" },
  test: {
    include: ["test/**/*.test.ts"],
    // A process a test file: the addon's device queue and thread pool belong to the process.
    pool: "forks",
    testTimeout: 60_000,
  },
});
