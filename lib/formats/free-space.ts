import { statfs } from "node:fs/promises";
import { HeedError } from "../errors.js";

/**
 * Throws ERR_IO where a folder's disk has less room than `bytes`: before anything is written, and with both numbers. It
 * is no promise that they fit, for others write as well. The message is about `name`.
 */
export async function checkFreeSpace(folder: string, bytes: number, name = folder): Promise<void> {
  const found = await statfs(folder).catch(() => null);
  // Some file systems have no size that they could tell.
  if (!found || found.blocks === 0) return;
  const free = found.bavail * found.bsize;
  if (free >= bytes) return;
  throw new HeedError(
    "ERR_IO",
    `${name}: expected ${bytes.toLocaleString("en")} bytes of free space on its disk, got ${free.toLocaleString("en")}`,
  );
}
