import { statfs } from "node:fs/promises";
import { HeedError } from "../util/errors.js";

/**
 * Checks that the disk of `folder` has at least `bytes` bytes free, before anything is written. The check is no
 * guarantee: other programs may fill the disk meanwhile. The error message begins with `name`.
 *
 * @throws ERR_IO if there is less room; the message gives both numbers.
 */
export async function checkFreeSpace(folder: string, bytes: number, name = folder): Promise<void> {
  const found = await statfs(folder).catch(() => null);
  // Some file systems do not report their size.
  if (!found || found.blocks === 0) return;
  const free = found.bavail * found.bsize;
  if (free >= bytes) return;
  throw new HeedError(
    "ERR_IO",
    `${name}: expected ${bytes.toLocaleString("en")} bytes of free space on its disk, got ${free.toLocaleString("en")}`,
  );
}
