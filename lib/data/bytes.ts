// The bytes of a file, decompressed, in pieces. No file is ever in memory as a whole.
import { createReadStream } from "node:fs";
import { pipeline, type Transform } from "node:stream";
import * as zlib from "node:zlib";
import { Decompress } from "fzstd";
import { HeedError } from "../errors.js";
import { naming } from "../files.js";
import type { DataFile } from "./inputs.js";

/** Bytes that are read from the disk at once. */
const pieceLength = 2 ** 20;

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

/** Yields what a stream of zstd contains. The decompressor keeps the window of the stream, not what it has yielded. */
async function* unzstd(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  const ready: Uint8Array[] = [];
  let ended = false;
  const stream = new Decompress((piece, last) => {
    ready.push(piece);
    ended ||= last === true;
  });
  const taken = function* (): Generator<Buffer> {
    for (const piece of ready.splice(0))
      if (piece.length > 0) yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  };
  for await (const piece of source) {
    stream.push(piece);
    yield* taken();
  }
  stream.push(new Uint8Array(0), true);
  yield* taken();
  if (!ended) throw new Error("unexpected end of file");
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
