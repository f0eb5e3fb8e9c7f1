/**
 * Reads the failures of the device that a file before this one has left unread: files that share a process (vitest.config.ts)
 * share its devices, and whoever waits for all work of a device is told of what nobody has read.
 */
import { beforeAll } from "vitest";
import { device, devices } from "../../lib/device.js";

beforeAll(async () => {
  for (const { name, available } of devices())
    for (let told = !available, left = 100; !told && left > 0; left--)
      told = await device(name)
        .synchronize()
        .then(
          () => true,
          () => false,
        );
});
