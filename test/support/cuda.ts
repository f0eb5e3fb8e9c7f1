/**
 * The CUDA devices of the tests, and the special abilities of the software device: faults that it injects, and
 * counters.
 */
import path from "node:path";
import { type TestContext } from "vitest";
import { devices } from "../../lib/core/device.js";

const found = devices().filter(({ name }) => name.startsWith("cuda"));

/** Why no CUDA device can be used; null if one can. */
export const noCuda: string | null = found.some(({ available }) => available)
  ? null
  : `need a CUDA device: ${found[0]!.description}`;

/** Why no driver is looked for: heed was built without nvcc. Otherwise null. */
export const noKernels: string | null = noCuda?.includes("this build of heed has no CUDA kernels") ? noCuda : null;

// For runner.ts, which must not load heed: some tests choose the software device's size before they do.
if (noCuda !== null) process.env.HEED_TEST_NO_CUDA = noCuda;

/** Names of the available CUDA devices, such as "cuda:0". */
export const cudas: readonly string[] = found.filter(({ available }) => available).map(({ name }) => name);

const driver = process.env.HEED_CUDA_DRIVER ?? "";

/** True if the driver is the software device (docs/simulator.md), which obeys HEED_SIMULATOR_… */
export const simulated = cudas.length > 0 && path.basename(driver).startsWith("libheed_cuda_simulator");

/** Why the software device cannot be used; null if it can. */
export const noSimulator: string | null =
  noCuda ?? (simulated ? null : `need the software device, HEED_CUDA_DRIVER is "${driver}"`);

/** Skips a test that needs the software device's faults if another driver is in use. */
export function needsSimulator({ skip }: TestContext): void {
  if (noSimulator !== null) skip(noSimulator);
}

/** Returns the path of the driver library with another name in the folder of the software device. */
export function besideSimulator(name: string): string {
  return path.join(path.dirname(driver), name);
}
