// Cuts files into blocks of about a megabyte, which are encoded independently of each other. Where a block ends depends
// on the bytes of its file alone, not on how they were read: a run that was killed continues with the same blocks.
import type { BadLine } from "./bad-lines.js";
import { bytesOf } from "./bytes.js";
import type { DataFile } from "./inputs.js";
import { jsonLines } from "./json-lines.js";
import { csvRows, parquetRows, type Row } from "./tables.js";

/** Place in the inputs at which a block begins. */
export interface InputPlace {
  /** Index of the file. */
  readonly file: number;
  /** Number of bytes (of the decompressed file, or of the lines of an array) or rows before the place. */
  readonly offset: number;
  /** Number of the first line, row or element of an array, counted from 1. */
  readonly line: number;
  /** True if the place is within a document, which the block before it has begun. */
  readonly open: boolean;
}

interface BlockParts {
  /** Place of the block. */
  readonly from: InputPlace;
  /** Place of the next block. */
  readonly to: InputPlace;
  /** Lines that were left out already. */
  readonly bad: readonly BadLine[];
}

/** Part of a file: whole lines of JSON, a piece of text, or rows of a table. */
export type Block = BlockParts &
  (
    | { readonly kind: "lines"; readonly bytes: Uint8Array }
    | { readonly kind: "text"; readonly bytes: Uint8Array }
    | { readonly kind: "rows"; readonly rows: readonly Row[] }
  );

/** Options of the reader of a data set. */
export interface BlockOptions {
  /** Text between the documents of a text file; null if a text file is one document. */
  readonly separator: string | null;
  /** Name of the column with texts; null if all columns of tables are read as they are. */
  readonly textColumn: string | null;
  /** Bytes in a block. @default 1 MiB */
  readonly blockBytes?: number;
  /** Longest line, in bytes; longer ones are left out. @default 64 MiB */
  readonly longestLine?: number;
}

/** Start of the data. */
export const start: InputPlace = { file: 0, offset: 0, line: 1, open: false };

/** Longest line of a file of lines that is read, in bytes. */
export const usualLongestLine = 2 ** 26;

const newline = 10;
/** Bytes of the longest character in UTF-8. */
const longestCharacter = 4;

/** Yields the blocks of files, beginning at a place where a block ended. */
export async function* blocksOf(
  files: readonly DataFile[],
  options: BlockOptions,
  from: InputPlace = start,
): AsyncGenerator<Block, void, undefined> {
  for (let file = from.file; file < files.length; file++) {
    const place = file === from.file ? from : { ...start, file };
    const { format } = files[file]!;
    if (format === "jsonl" || format === "json") yield* lineBlocks(files[file]!, options, place);
    else if (format === "text") yield* textBlocks(files[file]!, options, place);
    else yield* rowBlocks(files[file]!, options, place);
  }
}

/** Bytes that have been read and belong to no block yet. */
class Pending {
  #bytes: Buffer = Buffer.alloc(0);
  #ended = false;
  readonly #source: AsyncIterator<Buffer>;

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Reads until there are `count` bytes or the file ends; returns all bytes that there are. */
  async atLeast(count: number): Promise<Buffer> {
    const pieces = [this.#bytes];
    let length = this.#bytes.length;
    while (length < count && !this.#ended) {
      const step: IteratorResult<Buffer, unknown> = await this.#source.next();
      this.#ended = step.done === true;
      if (step.done) break;
      pieces.push(step.value);
      length += step.value.length;
    }
    if (pieces.length > 1) this.#bytes = Buffer.concat(pieces);
    return this.#bytes;
  }

  /** True if nothing follows the bytes that `atLeast` has returned. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Removes the first bytes and returns a copy of them, which can be transferred to another thread. */
  take(count: number): Uint8Array {
    const taken = new Uint8Array(count);
    taken.set(this.#bytes.subarray(0, count));
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  async close(): Promise<void> {
    await this.#source.return?.();
  }
}

async function* lineBlocks(
  file: DataFile,
  { blockBytes = 2 ** 20, longestLine = usualLongestLine, textColumn }: BlockOptions,
  from: InputPlace,
): AsyncGenerator<Block, void, undefined> {
  const { offset } = from;
  const pending = new Pending(jsonLines(file, textColumn, offset));
  try {
    for (let place = from; ;) {
      // One byte more tells whether the file goes on after the block.
      let bytes = await pending.atLeast(blockBytes + 1);
      if (bytes.length === 0) return;
      let end = bytes.length <= blockBytes ? bytes.length : bytes.lastIndexOf(newline, blockBytes - 1) + 1;
      // The first line is longer than a block: it is a block of its own.
      for (let want = 2 * blockBytes; end === 0; want *= 2) {
        end = bytes.indexOf(newline, blockBytes) + 1;
        if (end > 0) break;
        if (pending.ended) end = bytes.length;
        else if (bytes.length > longestLine) break;
        else bytes = await pending.atLeast(want);
      }
      if (end === 0 || end > Math.max(longestLine, blockBytes)) {
        const skipped = await skipLine(pending);
        const to = { ...place, offset: place.offset + skipped, line: place.line + 1 };
        const message = `expected a line of at most ${longestLine} bytes, got ${skipped}`;
        yield { kind: "lines", bytes: new Uint8Array(0), from: place, to, bad: [{ line: place.line, message }] };
        place = to;
        continue;
      }
      const taken = pending.take(end);
      const to = { ...place, offset: place.offset + end, line: place.line + countLines(taken) };
      yield { kind: "lines", bytes: taken, from: place, to, bad: [] };
      place = to;
    }
  } finally {
    await pending.close();
  }
}

/** Removes the first line, whatever its length; returns the number of its bytes. */
async function skipLine(pending: Pending): Promise<number> {
  for (let skipped = 0; ;) {
    const bytes = await pending.atLeast(1);
    const end = bytes.indexOf(newline) + 1;
    const count = end === 0 ? bytes.length : end;
    pending.take(count);
    skipped += count;
    if (end > 0 || (bytes.length === 0 && pending.ended)) return skipped;
  }
}

async function* textBlocks(
  file: DataFile,
  { blockBytes = 2 ** 20, separator }: BlockOptions,
  from: InputPlace,
): AsyncGenerator<Block, void, undefined> {
  const pending = new Pending(bytesOf(file, from.offset));
  const between = separator === null ? null : Buffer.from(separator);
  try {
    for (let place = from; ;) {
      const ready = await pending.atLeast(blockBytes + 1);
      if (ready.length === 0) return;
      let end = ready.length;
      let open = false;
      if (ready.length > blockBytes) {
        // A longer document is cut, but not before the block is four times as long. No byte after `most` counts, since
        // it depends on the reader how many there are.
        const most = 4 * blockBytes;
        const bytes = (await pending.atLeast(most + longestCharacter)).subarray(0, most + longestCharacter);
        end = between ? endOfSeparator(bytes.subarray(0, most), between, blockBytes) : 0;
        if (end === 0) {
          open = true;
          // A cut within a separator that goes on behind `most` would hide it.
          end = cutOf(bytes, Math.min(bytes.length, between ? most - between.length + 1 : blockBytes));
        }
      }
      const taken = pending.take(end);
      // Whether anything follows is known only after the next read.
      open &&= (await pending.atLeast(1)).length > 0;
      const to = { ...place, offset: place.offset + end, line: place.line + countLines(taken), open };
      yield { kind: "text", bytes: taken, from: place, to, bad: [] };
      place = to;
    }
  } finally {
    await pending.close();
  }
}

/**
 * Returns the end of the last separator that ends within `length` bytes, otherwise that of the first one; 0 if none. They
 * are found from the left, as a split of the whole text does it: in three line ends, two can be one separator only.
 */
function endOfSeparator(bytes: Buffer, separator: Buffer, length: number): number {
  let end = 0;
  for (let at = bytes.indexOf(separator); at >= 0; at = bytes.indexOf(separator, end)) {
    if (end > 0 && at + separator.length > length) break;
    end = at + separator.length;
  }
  return end;
}

/**
 * Returns a place within the first `length` bytes at which a text can be cut. The tokens of the parts are those of the
 * whole text if a single line's end lies between two characters that are no white space, because tokenizers of words
 * never merge across it. If there is no such place, it is another end of a line, or of a character.
 */
function cutOf(bytes: Buffer, length: number): number {
  const earliest = length >> 1;
  for (let at = bytes.lastIndexOf(newline, length - 2); at > earliest; at = bytes.lastIndexOf(newline, at - 1)) {
    const before = bytes.toString("utf8", Math.max(0, at - longestCharacter), at);
    const after = bytes.toString("utf8", at + 1, at + 1 + longestCharacter);
    if (/[^\s\x85]$/u.test(before) && /^[^\s\x85]/u.test(after)) return at + 1;
  }
  const line = bytes.lastIndexOf(newline, length - 1) + 1;
  if (line > earliest) return line;
  let end = length;
  // The bytes 10xxxxxx continue a character.
  while (end < bytes.length && end > length - longestCharacter && (bytes[end]! & 0xc0) === 0x80) end--;
  return end;
}

/** Yields blocks of rows. They end where a row group ends, or after about `blockBytes` bytes of text. */
async function* rowBlocks(
  file: DataFile,
  { blockBytes = 2 ** 20, textColumn }: BlockOptions,
  from: InputPlace,
): AsyncGenerator<Block, void, undefined> {
  const rowsOf = file.format === "parquet" ? parquetRows : csvRows;
  let place = from;
  let rows: Row[] = [];
  let bad: BadLine[] = [];
  let size = 0;
  const block = (): Block => {
    const to = {
      ...place,
      offset: place.offset + rows.length + bad.length,
      line: place.line + rows.length + bad.length,
    };
    const whole: Block = { kind: "rows", rows, from: place, to, bad };
    [place, rows, bad, size] = [to, [], [], 0];
    return whole;
  };
  for await (const item of rowsOf(file, { textColumn, skip: from.offset })) {
    if (item === null) {
      if (rows.length + bad.length > 0) yield block();
      continue;
    }
    if ("message" in item) bad.push(item);
    else {
      rows.push(item);
      size += item.size;
    }
    if (size >= blockBytes || bad.length >= 1024) yield block();
  }
  if (rows.length + bad.length > 0) yield block();
}

function countLines(bytes: Uint8Array): number {
  let count = 0;
  for (let at = bytes.indexOf(newline); at >= 0; at = bytes.indexOf(newline, at + 1)) count++;
  return count;
}
