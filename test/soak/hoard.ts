import { type Device, empty, HeedError, type Tensor } from "heed";
import type { Random } from "../support/random.js";

const KiB = 2 ** 10;
const MiB = 2 ** 20;

/** Takes all memory of a device except some. The caller disposes the tensors. */
export function hoard(device: Device, random: Random): Tensor[] {
  const hoarded: Tensor[] = [];
  for (const bytes of [64 * MiB, 4 * MiB, 256 * KiB, 4 * KiB])
    try {
      for (;;) hoarded.push(empty([bytes], { dtype: "u8", device }));
    } catch (error) {
      if (!(error instanceof HeedError) || error.code !== "ERR_OOM") throw error;
    }
  for (let left = random.integer(20); left > 0; left--) hoarded.pop()?.dispose();
  return hoarded;
}
