// Reads the values in the header of a GGUF file from front to back. Every inconsistency is an ERR_FORMAT.
import { HeedError } from "../util/errors.js";

/** A value of the metadata. A 64-bit integer is a number if a number holds it exactly, otherwise a bigint. */
export type GgufValue = string | number | bigint | boolean | GgufArray;

/**
 * Error of a header that continues after the given bytes. The first `needed` bytes of the file may contain all of it.
 */
export class HeaderCut extends Error {
  constructor(readonly needed: number) {
    super();
  }
}

const maxDepth = 4;

/**
 * Number of bytes of a value, by the number of its type. The other types, strings (8) and arrays (9), store their
 * length.
 */
const widths = new Map([
  [0, 1],
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 4],
  [5, 4],
  [6, 4],
  [7, 1],
  [10, 8],
  [11, 8],
  [12, 8],
]);

/** An array in the metadata. It keeps only the bytes of the file: each iteration decodes the values again. */
export interface GgufArray extends Iterable<GgufValue> {
  /** Number of values. */
  readonly length: number;
}

/** An array whose bytes have been checked. */
class ArrayInFile implements GgufArray {
  readonly #bytes: Uint8Array;

  /** `bytes` contain `length` values of `type`. */
  constructor(
    readonly type: number,
    readonly length: number,
    bytes: Uint8Array,
  ) {
    this.#bytes = bytes;
  }

  *[Symbol.iterator](): Generator<GgufValue> {
    const cursor = new Cursor(this.#bytes, this.#bytes.length, "gguf");
    for (let left = this.length; left > 0; left--) yield cursor.value(this.type);
  }
}

/** Reads the `bytes` at the beginning of a file of `fileSize` bytes. */
export class Cursor {
  readonly #view: DataView;
  readonly #text = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(
    readonly bytes: Uint8Array,
    readonly fileSize: number,
    readonly file: string,
    public position = 0,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fault(message: string): HeedError {
    return new HeedError("ERR_FORMAT", `${this.file}: ${message}`);
  }

  /**
   * Advances by `length` bytes and returns the offset of the first of them.
   *
   * @throws ERR_FORMAT if the file has fewer bytes.
   * @throws HeaderCut if `bytes` ends before them, but the file does not.
   */
  take(length: number, what: string): number {
    const at = this.position;
    if (!(at + length <= this.fileSize))
      throw this.fault(`expected ${length} bytes of ${what} at ${at}, got a file of ${this.fileSize}: truncated`);
    if (at + length > this.bytes.length) throw new HeaderCut(at + length);
    this.position += length;
    return at;
  }

  u32(what: string): number {
    return this.#view.getUint32(this.take(4, what), true);
  }

  /** Reads a 64-bit integer that a number holds exactly. */
  size(what: string): number {
    const at = this.take(8, what);
    // The integer is read in two halves: a header may have millions of them, and each bigint would take memory.
    const value = this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
    if (value <= Number.MAX_SAFE_INTEGER) return value;
    throw this.fault(`expected ${what} below 2^53, got ${this.#view.getBigUint64(at, true)}`);
  }

  /**
   * Reads the number of items that follow. Checks that the file has room for them if each takes at least `least` bytes,
   * and that there are at most `most`.
   */
  count(what: string, least: number, most = Infinity): number {
    const count = this.size(`the number of ${what}`);
    if (count * least > this.fileSize - this.position)
      throw this.fault(
        `expected ${count} ${what} of at least ${least} bytes, got a file of ${this.fileSize}: truncated`,
      );
    if (count > most) throw this.fault(`expected at most ${most} ${what}, got ${count}`);
    return count;
  }

  string(what: string): string {
    const length = this.size(`the length of ${what}`);
    const at = this.take(length, what);
    return this.#text.decode(this.bytes.subarray(at, at + length));
  }

  value(type: number, depth = maxDepth): GgufValue {
    const view = this.#view;
    const what = "a value";
    switch (type) {
      case 0:
        return view.getUint8(this.take(1, what));
      case 1:
        return view.getInt8(this.take(1, what));
      case 2:
        return view.getUint16(this.take(2, what), true);
      case 3:
        return view.getInt16(this.take(2, what), true);
      case 4:
        return view.getUint32(this.take(4, what), true);
      case 5:
        return view.getInt32(this.take(4, what), true);
      case 6:
        return view.getFloat32(this.take(4, what), true);
      case 7: {
        const value = view.getUint8(this.take(1, what));
        if (value > 1) throw this.fault(`expected a boolean of 0 or 1, got ${value}`);
        return value === 1;
      }
      case 8:
        return this.string(what);
      case 9:
        return this.#array(depth);
      case 10:
        return narrow(view.getBigUint64(this.take(8, what), true));
      case 11:
        return narrow(view.getBigInt64(this.take(8, what), true));
      case 12:
        return view.getFloat64(this.take(8, what), true);
      default:
        throw this.fault(`expected a metadata type from 0 to 12, got ${type}`);
    }
  }

  #array(depth: number): GgufArray {
    const { type, count } = this.#arrayHead(depth);
    const start = this.position;
    this.#skip(type, count, depth - 1);
    return new ArrayInFile(type, count, this.bytes.slice(start, this.position));
  }

  #arrayHead(depth: number): { type: number; count: number } {
    if (depth === 0) throw this.fault(`expected arrays nested at most ${maxDepth} deep, got a deeper one`);
    const type = this.u32("the type of an array");
    // A string takes at least the 8 bytes of its length, an array at least those of its type and length.
    const least = type === 8 ? 8 : type === 9 ? 12 : widths.get(type);
    if (least === undefined) throw this.fault(`expected a metadata type from 0 to 12, got ${type}`);
    return { type, count: this.count("values of an array", least) };
  }

  /** Advances past the values of an array and checks them. */
  #skip(type: number, count: number, depth: number): void {
    const what = "an array";
    const width = widths.get(type);
    if (width !== undefined) {
      const at = this.take(count * width, what);
      const wrong = type === 7 ? this.bytes.subarray(at, at + count).find((value) => value > 1) : undefined;
      if (wrong !== undefined) throw this.fault(`expected a boolean of 0 or 1, got ${wrong}`);
      return;
    }
    for (let i = 0; i < count; i++) {
      if (type === 8) this.take(this.size("the length of a value"), what);
      else {
        const inner = this.#arrayHead(depth);
        this.#skip(inner.type, inner.count, depth - 1);
      }
    }
  }
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
