/** The CUDA devices of the tests, and the software device's own powers: faults that it injects, its counters. */
import path from "node:path";
import { type TestContext } from "vitest";
import { devices } from "../../lib/device.js";

/** "cuda:0", … : those that are there. */
export const cudas: readonly string[] = devices()
  .filter(({ name, available }) => available && name.startsWith("cuda"))
  .map(({ name }) => name);

const driver = process.env.HEED_CUDA_DRIVER ?? "";

/** Whether the driver is the software device (docs/simulator.md), which obeys HEED_SIMULATOR_… */
export const simulated = cudas.length > 0 && path.basename(driver).startsWith("libheed_cuda_simulator");

/** Skips a test that wants the software device's faults, where another driver is named. */
export function needsSimulator({ skip }: TestContext): void {
  if (!simulated) skip(`wants the software device, HEED_CUDA_DRIVER is "${driver}"`);
}

/** The driver library of another name beside the software device's. */
export function besideSimulator(name: string): string {
  return path.join(path.dirname(driver), name);
}
