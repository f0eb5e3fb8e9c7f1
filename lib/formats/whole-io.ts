// Opening files, and reading and writing parts of them, whole: a system may do less than it is asked for at a time.
import { type FileHandle, open } from "node:fs/promises";
import { HeedError } from "../errors.js";
import { naming } from "../files.js";

/** The most that one read or write may ask for: Node's limit is 2 GiB. */
const chunk = 1 << 30;

export function asBytes(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** What `read` makes of an open file, which is its to close from then on. Throws ERR_IO with the file's name. */
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

/** Fills `into` from `position` on. Throws ERR_FORMAT, naming `path`, where the file ends before. */
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

/** Writes all of the bytes, where the file is at. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(chunk, bytes.length - done));
    done += bytesWritten;
  }
}
