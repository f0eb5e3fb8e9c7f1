// Opens files, and reads and writes parts of them completely: one system call may transfer fewer bytes than requested.
import { type FileHandle, open } from "node:fs/promises";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";

/** Most bytes that one call reads or writes; Node's limit is 2 GiB. */
const chunk = 1 << 30;

export function asBytes(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/**
 * Opens a file and returns the result of `read`, which must close the handle later. If `read` throws, the file is
 * closed.
 *
 * @throws ERR_IO if the file cannot be opened or read; the message names it.
 */
export async function opening<T>(path: string, read: (handle: FileHandle, size: number) => Promise<T>): Promise<T> {
  return naming(path, async () => {
    const handle = await open(path, "r");
    try {
      return await read(handle, (await handle.stat()).size);
    } catch (error) {
      await handle.close();
      throw error;
    }
  });
}

/**
 * Fills `into` with the bytes of the file that start at `position`.
 *
 * @throws ERR_FORMAT if the file ends before `into` is full; the message names `path`.
 */
export async function readFully(handle: FileHandle, into: Uint8Array, position: number, path: string): Promise<void> {
  for (let done = 0; done < into.length;) {
    const length = Math.min(chunk, into.length - done);
    const { bytesRead } = await handle.read(into, done, length, position + done);
    if (bytesRead === 0)
      throw new HeedError(
        "ERR_FORMAT",
        `${path}: expected ${into.length} bytes at ${position}, got ${done}: truncated`,
      );
    done += bytesRead;
  }
}

/** Writes all bytes at the current position of the file. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(chunk, bytes.length - done));
    done += bytesWritten;
  }
}
