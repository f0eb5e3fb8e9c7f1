// Checks pages in Parquet's delta encodings. A text in DELTA_BYTE_ARRAY is a number of characters of the text before it, and
// what follows them: a few bytes can claim any number of long texts. The numbers are in DELTA_BINARY_PACKED, whose blocks
// can claim any number of parts.

/** Numbers of Parquet's encodings. */
export const [deltaBinary, deltaBytes] = [5, 7];

/** Levels of a page before its values. */
export interface PageLevels {
  readonly repetition: number;
  readonly definition: number;
}

/** Largest number of parts of a block; writers make four. */
const mostParts = 2 ** 10;

/**
 * Returns the number of characters that the texts of a page take over from the texts before them; 0 for numbers. `values` is
 * the number of values in the page, `levels` is null if the bytes begin with the values.
 *
 * @throws Error if the page is damaged.
 */
export function takenOver(bytes: Uint8Array, encoding: number, values: number, levels: PageLevels | null): number {
  const reader = new BitReader(bytes);
  let count = values;
  if (levels && levels.repetition > 0) reader.at += reader.u32();
  if (levels && levels.definition > 0) {
    const end = reader.u32() + reader.at;
    count = countOf(reader, levels.definition, values);
    reader.at = end;
  }
  let sum = 0;
  let previous = 0;
  for (const number of deltas(reader, count)) {
    if (encoding === deltaBinary) return 0;
    previous = (previous + number) | 0;
    if (previous < 0) throw new Error(`a text that takes over ${previous} characters`);
    sum += previous;
  }
  return sum;
}

/** Returns how many of the levels are the largest one, in the hybrid of runs and packed bits. */
function countOf(reader: BitReader, largest: number, values: number): number {
  const width = 32 - Math.clz32(largest);
  let found = 0;
  for (let seen = 0; seen < values;) {
    const header = reader.varint();
    const length = header % 2 === 1 ? 8 * Math.floor(header / 2) : Math.floor(header / 2);
    if (length === 0) continue;
    if (header % 2 === 0) {
      const value = reader.bytes(Math.ceil(width / 8));
      if (value === largest) found += Math.min(length, values - seen);
    } else
      for (let i = 0; i < length; i++) {
        const value = reader.bits(width);
        if (value === largest && seen + i < values) found++;
      }
    reader.align();
    seen += length;
  }
  return found;
}

/** Yields the first of numbers and the differences between them. */
function* deltas(reader: BitReader, count: number): Generator<number> {
  const block = reader.varint();
  const parts = reader.varint();
  if (parts < 1 || parts > mostParts || block % parts !== 0 || block / parts < 1)
    throw new Error(`a block of ${block} numbers in ${parts} parts`);
  reader.varint();
  if (count < 1) return;
  yield reader.zigzag();
  for (let seen = 1; seen < count;) {
    const least = reader.zigzag();
    const widths = Array.from({ length: parts }, () => reader.bytes(1));
    for (const width of widths) {
      if (seen >= count) break;
      const start = reader.at;
      for (let i = 0; i < block / parts && seen < count; i++, seen++) yield least + reader.bits(width);
      reader.align();
      reader.at = start + (block / parts / 8) * width;
    }
  }
}

/** Reader of bytes and of packed bits, the lowest first. */
class BitReader {
  at = 0;
  #bit = 0;

  constructor(private readonly source: Uint8Array) {}

  /** Returns the number in `count` bytes, the lowest first. */
  bytes(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) value += this.#byte(this.at++) * 2 ** (8 * i);
    return value;
  }

  u32(): number {
    return this.bytes(4);
  }

  varint(): number {
    let value = 0;
    for (let factor = 1; factor < 2 ** 70; factor *= 128) {
      const byte = this.bytes(1);
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw new Error("an integer of more than 64 bits");
  }

  zigzag(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** Returns the number in the next `width` bits. */
  bits(width: number): number {
    let value = 0;
    for (let read = 0; read < width;) {
      const take = Math.min(8 - this.#bit, width - read);
      value += ((this.#byte(this.at) >> this.#bit) & (2 ** take - 1)) * 2 ** read;
      read += take;
      this.#bit += take;
      if (this.#bit < 8) continue;
      this.#bit = 0;
      this.at++;
    }
    return value;
  }

  /** Leaves out the rest of a byte whose bits were read. */
  align(): void {
    if (this.#bit > 0) this.at++;
    this.#bit = 0;
  }

  #byte(at: number): number {
    if (at >= this.source.length) throw new Error("a page that ends within its values");
    return this.source[at]!;
  }
}
