import { statfs } from "node:fs/promises";
import { HeedError } from "../errors.js";

/**
 * Throws ERR_IO where a folder's disk has less room than `bytes`: before anything is written, and with both numbers. It
 * is no promise that they fit, for others write as well. The message is about `name`.
 */
export async function checkFreeSpace(folder: string, bytes: number, name = folder): Promise<void> {
  const { bavail, bsize, blocks } = await statfs(folder);
  // Some file systems have no size that they could tell.
  if (blocks === 0 || bavail * bsize >= bytes) return;
  throw new HeedError(
    "ERR_IO",
    `${name}: expected ${bytes.toLocaleString("en")} bytes of free space on its disk, got ${(bavail * bsize).toLocaleString("en")}`,
  );
}
