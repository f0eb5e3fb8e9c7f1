// What these write is not committed.
import "./scripts/generate-ops.mjs";
import "./scripts/generate-ranks.mjs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// A Node.js for another processor can run the tests, by an emulator, while this one runs vitest (.ci/nightly arm64).
process.execPath = process.env.HEED_TEST_NODE ?? process.execPath;

const simulator = path.join(fileURLToPath(new URL(".", import.meta.url)), "build/Release/libheed_cuda_simulator.so");
const operations = ["test/ops/**/*.test.ts"];
const packages = ["**/node_modules/**"];

export default defineConfig({
  // `using` needs compiling for Node 20.
  oxc: { target: "es2022" },
  test: {
    // A process a test file: the addon's device queue and thread pool belong to the process.
    pool: "forks",
    // Most of a file's time is spent on one core: in JavaScript, and in kernels that are too small to be shared out. One
    // file more than there are cores, since some wait: for processes, for a server, for time to pass.
    maxWorkers: availableParallelism() + 1,
    testTimeout: 60_000,
    setupFiles: ["test/support/typed-arrays.ts"],
    env: {
      // What a test does not put on a device of its choice belongs on the CPU.
      HEED_DEVICE: process.env.HEED_DEVICE ?? "cpu",
      // The CUDA backend runs on the software device unless another driver library is named.
      HEED_CUDA_DRIVER: process.env.HEED_CUDA_DRIVER ?? simulator,
    },
    projects: [
      // Memory of its own for every tensor, so that the software device sees an access just outside of it.
      { extends: true, test: { name: "operations", include: operations, env: { HEED_CUDA_CACHE: "0" } } },
      {
        extends: true,
        test: { name: "the rest", include: ["test/**/*.test.ts"], exclude: [...operations, ...packages] },
      },
    ],
  },
});
