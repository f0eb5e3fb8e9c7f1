/**
 * Leaves nothing of a file before this one to the tests: files that share a process (vitest.config.ts) share its devices.
 * Whoever waits for all work of a device is told of failures that nobody has read, and tensors that the garbage collector
 * frees during a test change the memory that the test measures.
 */
import { beforeAll } from "vitest";
import { device, devices, type Device } from "../../lib/core/device.js";
import { collectGarbage } from "./gc.js";

beforeAll(async () => {
  const available = devices()
    .filter(({ available }) => available)
    .map(({ name }) => device(name));
  for (const device of available) await tellFailures(device);
  if (available.some((device) => device.memory().live > 0)) await collectGarbage();
});

async function tellFailures(device: Device): Promise<void> {
  for (let told = false, left = 100; !told && left > 0; left--)
    told = await device.synchronize().then(
      () => true,
      () => false,
    );
}
