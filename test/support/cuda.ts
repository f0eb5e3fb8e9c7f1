/**
 * The CUDA devices of the tests, and the special abilities of the software device: faults that it injects, and
 * counters.
 */
import path from "node:path";
import { type TestContext } from "vitest";
import { devices } from "../../lib/device.js";

/** Names of the available CUDA devices, such as "cuda:0". */
export const cudas: readonly string[] = devices()
  .filter(({ name, available }) => available && name.startsWith("cuda"))
  .map(({ name }) => name);

const driver = process.env.HEED_CUDA_DRIVER ?? "";

/** True if the driver is the software device (docs/simulator.md), which obeys HEED_SIMULATOR_… */
export const simulated = cudas.length > 0 && path.basename(driver).startsWith("libheed_cuda_simulator");

/** Skips a test that needs the software device's faults if another driver is in use. */
export function needsSimulator({ skip }: TestContext): void {
  if (!simulated) skip(`wants the software device, HEED_CUDA_DRIVER is "${driver}"`);
}

/** Returns the path of the driver library with another name in the folder of the software device. */
export function besideSimulator(name: string): string {
  return path.join(path.dirname(driver), name);
}
