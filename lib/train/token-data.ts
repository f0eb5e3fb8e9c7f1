// Token ids to train on: in memory, or in a file that may be larger than it. A file is read window by window with
// positional reads into one buffer; Node maps no files, and the system's page cache makes repeated reads as cheap.
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { HeedError } from "../errors.js";

/** A sequence of token ids, read in windows. */
export interface TokenSource {
  /** Number of tokens. */
  readonly length: number;
  /** Copies `count` ids from `offset` on to the start of `out`. Throws ERR_RANGE outside of the source or of `out`. */
  read(offset: number, count: number, out: Int32Array): void;
  close(): void;
}

/** The ids of an array, which is not copied. */
export function tokenData(ids: Int32Array | Uint16Array | Uint8Array): TokenSource {
  return {
    length: ids.length,
    read(offset, count, out) {
      checkWindow("tokenData", ids.length, offset, count, out);
      out.set(ids.subarray(offset, offset + count));
    },
    close: () => undefined,
  };
}

/** How a file stores ids, little-endian: u16 serves vocabularies up to 65536. */
export type TokenDType = "u8" | "u16" | "i32";

const arrays = { u8: Uint8Array, u16: Uint16Array, i32: Int32Array };

/** A file of nothing but ids. Close it, or declare it with `using`. */
export class TokenFile implements TokenSource, Disposable {
  private buffer: Uint8Array | Uint16Array | Int32Array;

  private constructor(
    readonly path: string,
    readonly dtype: TokenDType,
    readonly length: number,
    private descriptor: number,
  ) {
    this.buffer = new arrays[dtype](0);
  }

  /** Throws ERR_IO where the file cannot be opened, ERR_FORMAT where its size is not a number of ids. */
  static open(path: string, { dtype = "u16" }: { dtype?: TokenDType } = {}): TokenFile {
    if (!Object.hasOwn(arrays, dtype))
      throw new HeedError("ERR_DTYPE", `TokenFile: expected a dtype of u8, u16, i32, got ${dtype}`);
    const descriptor = named(path, () => openSync(path, "r"));
    try {
      const stat = fstatSync(descriptor);
      const length = stat.size / arrays[dtype].BYTES_PER_ELEMENT;
      if (!stat.isFile()) throw new HeedError("ERR_IO", `${path}: expected a file`);
      if (!Number.isInteger(length))
        throw new HeedError("ERR_FORMAT", `${path}: expected a whole number of ${dtype} ids, got ${stat.size} bytes`);
      return new TokenFile(path, dtype, length, descriptor);
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  read(offset: number, count: number, out: Int32Array): void {
    if (this.descriptor < 0)
      throw new HeedError("ERR_DISPOSED", `${this.path}: expected an open file, got a closed one`);
    checkWindow(this.path, this.length, offset, count, out);
    if (this.buffer.length < count) this.buffer = new arrays[this.dtype](count);
    const size = this.buffer.BYTES_PER_ELEMENT;
    const bytes = new Uint8Array(this.buffer.buffer, 0, count * size);
    for (let done = 0; done < bytes.length;) {
      const read = named(this.path, () =>
        readSync(this.descriptor, bytes, done, bytes.length - done, offset * size + done),
      );
      if (read === 0)
        throw new HeedError("ERR_FORMAT", `${this.path}: expected ${this.length} ids, and the file has shrunk`);
      done += read;
    }
    out.set(this.buffer.subarray(0, count));
  }

  close(): void {
    if (this.descriptor >= 0) closeSync(this.descriptor);
    this.descriptor = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The part of a source from `start` to `end`; closing it leaves the source open. */
export function sliceSource(source: TokenSource, start: number, end: number): TokenSource {
  return {
    length: end - start,
    read(offset, count, out) {
      checkWindow("tokens", end - start, offset, count, out);
      source.read(start + offset, count, out);
    },
    close: () => undefined,
  };
}

/** Training tokens, and the last `fraction` of them for validation. Throws ERR_RANGE for a fraction not in [0, 1). */
export function splitSource(source: TokenSource, fraction: number): { train: TokenSource; validation: TokenSource } {
  if (!(fraction >= 0 && fraction < 1))
    throw new HeedError("ERR_RANGE", `splitSource: expected a fraction of at least 0 and below 1, got ${fraction}`);
  const border = source.length - Math.floor(source.length * fraction);
  return { train: sliceSource(source, 0, border), validation: sliceSource(source, border, source.length) };
}

function checkWindow(name: string, length: number, offset: number, count: number, out: Int32Array): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(count);
  if (!whole || offset < 0 || count < 0 || offset + count > length)
    throw new HeedError("ERR_RANGE", `${name}: expected a window of ${length} tokens, got ${count} from ${offset} on`);
  if (count > out.length)
    throw new HeedError("ERR_RANGE", `${name}: expected room for ${count} tokens, got ${out.length}`);
}

function named<T>(path: string, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    throw new HeedError("ERR_IO", `${path}: ${(cause as Error).message}`, { cause });
  }
}
