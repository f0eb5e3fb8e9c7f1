// Reading and writing parts of an open file, whole: a system may do less than it is asked for at a time.
import type { FileHandle } from "node:fs/promises";
import { HeedError } from "../errors.js";

/** The most that one read or write may ask for: Node's limit is 2 GiB. */
const chunk = 1 << 30;

export function asBytes(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
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
