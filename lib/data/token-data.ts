// Token ids to train on, in memory or in a file that may be larger than memory. A file is read window by window, with
// positional reads into one buffer: Node cannot map files, and the system's page cache makes repeated reads as cheap.
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { HeedError } from "../util/errors.js";

/** Sequence of token ids that is read in windows. */
export interface TokenSource {
  /** Number of tokens. */
  readonly length: number;
  /**
   * Copies `count` ids, starting with number `offset`, to the start of `out`.
   *
   * @throws ERR_RANGE if the ids are not all inside the source, or `out` is too short.
   */
  read(offset: number, count: number, out: Int32Array): void;
  /** Closes the source; a source in memory has nothing to close. */
  close(): void;
}

/**
 * Returns a source of the ids in an array, which is not copied.
 *
 * @example
 * const data = tokenData(tokenizer.encode("Hello"));
 * data.length; // 5
 */
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

/** Type of the ids in a file, little-endian; "u16" is enough for vocabularies of up to 65536 tokens. */
export type TokenDType = "u8" | "u16" | "i32";

const arrays = { u8: Uint8Array, u16: Uint16Array, i32: Int32Array };

/**
 * Token source that reads a file of nothing but ids. Close it after use, or declare it with `using`.
 *
 * @example
 * import { writeFileSync } from "node:fs";
 * writeFileSync("ids.bin", Uint16Array.of(5, 6, 7, 8));
 * using file = TokenFile.open("ids.bin", { dtype: "u16" });
 * const window = new Int32Array(2);
 * file.read(1, 2, window); // window is [6, 7]
 */
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

  /**
   * Opens a file of ids, by default of "u16".
   *
   * @throws ERR_IO if the file cannot be opened.
   * @throws ERR_FORMAT if its size is not that of a whole number of ids.
   * @throws ERR_DTYPE if the dtype is unknown.
   */
  static open(path: string, { dtype = "u16" }: { dtype?: TokenDType } = {}): TokenFile {
    if (!Object.hasOwn(arrays, dtype))
      throw new HeedError("ERR_DTYPE", `TokenFile: expected dtype to be u8, u16 or i32, got ${dtype}`);
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

  /**
   * Copies `count` ids, starting with number `offset`, to the start of `out`.
   *
   * @throws ERR_RANGE if the ids are not all inside the file, or `out` is too short.
   * @throws ERR_DISPOSED if the file is closed.
   * @throws ERR_IO if reading fails.
   * @throws ERR_FORMAT if the file has become shorter.
   */
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
        throw new HeedError("ERR_FORMAT", `${this.path}: expected ${this.length} ids, but the file has become shorter`);
      done += read;
    }
    out.set(this.buffer.subarray(0, count));
  }

  /** Closes the file. A second call does nothing. */
  close(): void {
    if (this.descriptor >= 0) closeSync(this.descriptor);
    this.descriptor = -1;
  }

  /** Does the same as `close()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Returns the part of a source from id number `start` up to, but without, `end`. Closing the part leaves the source
 * open.
 *
 * @example
 * const part = sliceSource(tokenData(Int32Array.of(5, 6, 7, 8)), 1, 3); // 6, 7
 */
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

/**
 * Splits a source into training tokens and, at its end, the given fraction of validation tokens.
 *
 * @example
 * const { train, validation } = splitSource(tokenData(tokenizer.encode("to be or not to be ".repeat(20))), 0.1);
 * validation.length; // 38
 *
 * @throws ERR_RANGE if the fraction is not in [0, 1).
 */
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
