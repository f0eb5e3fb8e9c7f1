// What these write is not committed.
import "./scripts/generate-ops.mjs";
import "./scripts/generate-ranks.mjs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

// A Node.js for another processor can run the tests, by an emulator, while this one runs vitest (.ci/nightly arm64).
process.execPath = process.env.HEED_TEST_NODE ?? process.execPath;

const simulator = path.join(fileURLToPath(new URL(".", import.meta.url)), "build/Release/libheed_cuda_simulator.so");
const packages = ["**/node_modules/**"];
const operations = ["test/ops/**/*.test.ts"];
/** Operations whose tests choose the software device's size, which it reads when it is loaded. */
const sized = ["test/ops/gemm.test.ts", "test/ops/gemm-decoded.test.ts", "test/ops/tf32.test.ts"];
/** Tests that measure megabytes of JavaScript's memory: files before them would leave objects that are freed meanwhile. */
const measuring = ["generate/logprob-rows", "generate/merge", "server/many-answers", "structured/memory"].map(
  (name) => `test/${name}.test.ts`,
);
/**
 * Tests that change nothing of their process. Those of bench/ are left out: what they test imports the built package, which
 * gives the addon the error class of dist/.
 */
const harmless = ["adapters", "cli", "data", "deploy", "docs", "embed", "engine", "evaluation", "generate"]
  .concat("inspect", "load", "models", "nn", "optim", "plugins", "pretrained", "report", "server")
  .concat("structured", "tokenizer", "train")
  .map((folder) => `test/${folder}/**/*.test.ts`)
  .concat("test/formats/!(atomic-file|folder-lock|replace-files).test.ts")
  .concat("test/{data-sync,elapsed,json,native-ops,rooms,turns}.test.ts");
/** Files that follow each other in one process. */
const together = { isolate: false, setupFiles: ["test/support/typed-arrays.ts", "test/support/settled-devices.ts"] };
/**
 * The software device runs a kernel's blocks on one thread: as many files run as there are cores, and most kernels are too
 * short to be shared out. With the other tests it has as many threads as cores.
 */
const oneThread = { HEED_SIMULATOR_THREADS: "1" };
/** Memory of its own for every tensor, so that the software device sees an access just outside of it. */
const ownMemory = { ...oneThread, HEED_CUDA_CACHE: "0" };

/** Runs the files of a project after each other: a process goes on with another file only if that comes next. */
class ByProject extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const order = ({ project }: TestSpecification): number => (project.config.isolate ? 0 : 1);
    return sorted.sort((a, b) => order(a) - order(b) || a.project.name.localeCompare(b.project.name));
  }
}

export default defineConfig({
  // `using` needs compiling for Node 20.
  oxc: { target: "es2022" },
  test: {
    // The addon's device queue and thread pool belong to the process, so a file has a process to itself. Only files that
    // change nothing of it follow each other in one: to start it and to load heed takes half a second for each file.
    pool: "forks",
    // Most of a file's time is spent on one core: in JavaScript, and in kernels that are too small to be shared out. One
    // file more than there are cores, since some wait: for processes, for a server, for time to pass.
    maxWorkers: availableParallelism() + 1,
    testTimeout: 60_000,
    sequence: { sequencer: ByProject },
    setupFiles: ["test/support/typed-arrays.ts"],
    runner: "./test/support/runner.ts",
    reporters: ["default", "./test/support/skip-reporter.ts"],
    env: {
      // What a test does not put on a device of its choice belongs on the CPU.
      HEED_DEVICE: process.env.HEED_DEVICE ?? "cpu",
      // The CUDA backend runs on the software device unless another driver library is named.
      HEED_CUDA_DRIVER: process.env.HEED_CUDA_DRIVER ?? simulator,
    },
    projects: [
      project("operations", operations, sized, { ...together, env: ownMemory }),
      project("operations of a size", sized, [], { env: ownMemory }),
      project("most", harmless, measuring, { ...together, env: oneThread }),
      project("memory", measuring, []),
      project("the rest", ["test/**/*.test.ts"], [...operations, ...harmless, ...packages]),
    ],
  },
});

interface Options {
  isolate?: boolean;
  setupFiles?: string[];
  env?: Record<string, string>;
}

function project(name: string, include: string[], exclude: string[], options: Options = {}) {
  return { extends: true, test: { name, include, exclude, ...options } } as const;
}
