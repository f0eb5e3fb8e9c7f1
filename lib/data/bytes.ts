// The bytes of a file, decompressed, in pieces. No file is ever in memory as a whole.
import { createReadStream } from "node:fs";
import { pipeline, type Transform } from "node:stream";
import * as zlib from "node:zlib";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import type { DataFile } from "./inputs.js";
import { unzstd } from "./zstd.js";

/** Bytes that are read from the disk, or decompressed, at once. */
export const pieceLength = 2 ** 20;

/**
 * Yields the decompressed bytes of a file, beginning at `start`. A compressed file is decompressed from its beginning.
 *
 * @throws ERR_IO if the file cannot be read.
 * @throws ERR_FORMAT if the compressed bytes are damaged or end early.
 */
export async function* bytesOf({ path, compression }: DataFile, start = 0): AsyncGenerator<Buffer, void, undefined> {
  if (compression === null) {
    yield* nameErrors(path, createReadStream(path, { start, highWaterMark: pieceLength }));
    return;
  }
  yield* skipBytes(nameErrors(path, decompressed(path, compression)), start);
}

/** Yields the bytes of pieces without the first `count` ones. */
export async function* skipBytes(
  pieces: AsyncIterable<Buffer>,
  count: number,
): AsyncGenerator<Buffer, void, undefined> {
  let skip = count;
  for await (const piece of pieces) {
    if (piece.length > skip) yield skip === 0 ? piece : piece.subarray(skip);
    skip = Math.max(0, skip - piece.length);
  }
}

function decompressed(path: string, compression: "gzip" | "zstd"): AsyncIterable<Buffer> {
  const source = createReadStream(path, { highWaterMark: pieceLength });
  const native = compression === "gzip" ? zlib.createGunzip({ chunkSize: pieceLength }) : nativeZstd();
  if (!native) return unzstd(source);
  // An error of the source destroys the decompressor, whose reader then gets the error.
  pipeline(source, native, () => undefined);
  return native;
}

/** Returns Node's own decompressor, which exists since Node 22.15. */
function nativeZstd(): Transform | null {
  const { createZstdDecompress: create } = zlib as { createZstdDecompress?: (options: object) => Transform };
  return create?.({ chunkSize: pieceLength }) ?? null;
}

/** Yields the pieces of a stream. Its errors name the file. */
async function* nameErrors(path: string, pieces: AsyncIterable<unknown>): AsyncGenerator<Buffer, void, undefined> {
  const iterator = pieces[Symbol.asyncIterator]();
  const next = async (): Promise<IteratorResult<unknown>> =>
    naming(path, async () => {
      try {
        return await iterator.next();
      } catch (cause) {
        if (cause instanceof Error && "syscall" in cause) throw cause;
        throw new HeedError("ERR_FORMAT", `${path}: expected compressed data, got: ${(cause as Error).message}`, {
          cause,
        });
      }
    });
  try {
    for (let step = await next(); !step.done; step = await next()) yield step.value as Buffer;
  } finally {
    await iterator.return?.();
  }
}
