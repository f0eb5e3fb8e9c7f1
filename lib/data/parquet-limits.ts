// Limits of Parquet files. A few bytes can claim any number of rows: a run of equal values has the same size whatever its
// length, and so has a page that is decompressed to one. What a file claims is therefore compared with its bytes before
// anything is decoded, and rows are decoded in slices whose size follows from the bytes.
import type { AsyncBuffer, Compressors, FileMetaData, RowGroup } from "hyparquet";
import * as zlib from "node:zlib";
import { Decompress } from "fzstd";
import { deltaBinary, deltaBytes, type PageLevels, takenOver } from "./parquet-delta.js";
import { readThrift, type ThriftStruct } from "./thrift.js";
import { mostWindow, windowOf } from "./zstd.js";

/** Largest number of values in a page, and bytes of a page, however small it is in the file. */
export const [freeValues, freeBytes] = [2 ** 22, 2 ** 26];
/** Largest number of values for each byte of a page, and of bytes for each byte that is compressed. */
export const [valuesPerByte, bytesPerByte] = [8, 64];
/** Number of cells that are decoded at once, however small they are in the file. */
export const freeCells = 2 ** 18;
/** Largest number of bytes that the texts of a page take over from each other, if they have not the bytes for more. */
export const freeTakenOver = 2 ** 28;
/** Longest header of a page, which may contain the smallest and the largest value. */
const longestHeader = 2 ** 24;

const [dataPage, dictionaryPage, dataPageV2] = [0, 2, 3];

/**
 * Checks the description of a file, at its end, before it is decoded.
 *
 * @throws Error if it is damaged, or claims more than its bytes can have.
 */
export async function checkFooter(buffer: AsyncBuffer): Promise<void> {
  const size = buffer.byteLength;
  if (size < 12) throw new Error("a file that is too short");
  const end = new DataView(await buffer.slice(size - 8, size));
  const length = end.getUint32(0, true);
  // hyparquet reports what these bytes say about another kind of file.
  if (length > size - 12 || end.getUint32(4, true) !== 0x3152_4150) return;
  const footer = readThrift(new Uint8Array(await buffer.slice(size - 8 - length, size - 8)));
  if (footer === null) throw new Error("a description that has no end");
}

/**
 * Checks the pages of some columns of a row group, and returns the number of rows that may be decoded at once.
 *
 * @throws Error if a page or the group claims more values, or bytes, than its bytes can have.
 */
export async function rowsAtOnce(
  buffer: AsyncBuffer,
  { columns, num_rows }: RowGroup,
  wanted: readonly string[],
  { levelsOf, unpack }: PageReading,
): Promise<number> {
  let [bytes, chunks] = [0, 0];
  for (const { meta_data } of columns) {
    if (!meta_data || !wanted.includes(meta_data.path_in_schema[0]!)) continue;
    const { data_page_offset, dictionary_page_offset, total_compressed_size, path_in_schema } = meta_data;
    const first = Number(data_page_offset);
    const dictionary = Number(dictionary_page_offset ?? 0);
    const start = dictionary > 0 && dictionary < first ? dictionary : first;
    const end = start + Number(total_compressed_size);
    if (!(start >= 0 && end >= start && end <= buffer.byteLength))
      throw new Error(`a column at the bytes ${start} to ${end} of ${buffer.byteLength}`);
    const place = { levels: levelsOf(path_in_schema), unpack: unpack(meta_data.codec) };
    const values = await valuesIn(buffer, start, end, place);
    const name = path_in_schema.join(".");
    if (values < Number(num_rows)) throw new Error(`${num_rows} rows, of which ${name} has ${values}`);
    // A column of lists is decoded as a whole.
    const most = Math.max(2 * freeValues, bytesPerByte * (end - start));
    if ((path_in_schema.length > 1 || values > Number(num_rows)) && values > most)
      throw new Error(`${values} values of ${name} in ${end - start} bytes, of at most ${most}`);
    bytes += end - start;
    chunks++;
  }
  if (chunks === 0 && Number(num_rows) > 0) throw new Error(`${num_rows} rows without a column`);
  return Math.max(1, Math.floor(Math.max(freeCells, bytes) / Math.max(1, chunks)));
}

/** Functions by which the pages of a file are read. */
export interface PageReading {
  /** Returns the largest levels of the values of a column. */
  readonly levelsOf: (path: readonly string[]) => PageLevels;
  /** Returns the function that decompresses a page, given its bytes and their number afterwards. */
  readonly unpack: (codec: string) => (bytes: Uint8Array, length: number) => Uint8Array;
}

interface PagePlace {
  levels: PageLevels;
  unpack: (bytes: Uint8Array, length: number) => Uint8Array;
}

/** Checks the pages of a column, and returns the number of their values. */
async function valuesIn(buffer: AsyncBuffer, start: number, end: number, place: PagePlace): Promise<number> {
  let total = 0;
  for (let at = start; at < end - 1;) {
    const { struct, length } = await pageHeader(buffer, at, end);
    const [type, uncompressed, compressed] = [1, 2, 3].map((id) => numberIn(struct, id));
    if (compressed! > end - at - length) throw new Error(`a page of ${compressed} bytes at ${at}, beyond its column`);
    const mostBytes = Math.max(freeBytes, bytesPerByte * compressed!);
    if (uncompressed! > mostBytes)
      throw new Error(`a page of ${uncompressed} bytes in ${compressed}, of at most ${mostBytes}`);
    const part = { [dataPage]: 5, [dictionaryPage]: 7, [dataPageV2]: 8 }[type!];
    const values = part === undefined ? 0 : numberIn(struct.get(part), 1);
    const mostValues = Math.max(freeValues, valuesPerByte * uncompressed!);
    if (values > mostValues)
      throw new Error(`a page of ${values} values in ${uncompressed} bytes, of at most ${mostValues}`);
    const description = part === undefined ? undefined : struct.get(part);
    const encoding =
      type === dictionaryPage || part === undefined ? 0 : numberIn(description, type === dataPage ? 2 : 4);
    if (values > 0 && (encoding === deltaBinary || encoding === deltaBytes)) {
      const stored = new Uint8Array(await buffer.slice(at + length, at + length + compressed!));
      const page = valuesOfPage(stored, type!, uncompressed!, description as ThriftStruct, place);
      const taken = takenOver(page.bytes, encoding, page.values, page.levels);
      const most = Math.max(freeTakenOver, bytesPerByte * uncompressed!);
      if (taken > most)
        throw new Error(
          `texts that take over ${taken} bytes from each other in a page of ${uncompressed}, of at most ${most}`,
        );
    }
    if (type !== dictionaryPage) total += values;
    at += length + compressed!;
  }
  return total;
}

/** Returns the bytes of a page from its values on, or from its levels on, and the number of values or of levels. */
function valuesOfPage(
  stored: Uint8Array,
  type: number,
  uncompressed: number,
  description: ThriftStruct,
  { levels, unpack }: PagePlace,
): { bytes: Uint8Array; values: number; levels: PageLevels | null } {
  const values = numberIn(description, 1);
  if (type === dataPage) return { bytes: unpack(stored, uncompressed), values, levels };
  // The second version of pages has its levels outside of what is compressed.
  const before = numberIn(description, 5) + numberIn(description, 6);
  const rest = stored.subarray(before);
  const isPacked = description.get(7) !== false && uncompressed > before;
  const bytes = isPacked ? unpack(rest, uncompressed - before) : rest;
  return { bytes, values: values - numberIn(description, 2), levels: null };
}

async function pageHeader(
  buffer: AsyncBuffer,
  at: number,
  end: number,
): Promise<{ struct: ThriftStruct; length: number }> {
  for (let length = 2 ** 10; ; length *= 16) {
    const to = Math.min(end, at + length);
    const header = readThrift(new Uint8Array(await buffer.slice(at, to)));
    if (header) return header;
    if (to === end || length > longestHeader) throw new Error(`a page at ${at} whose header has no end`);
  }
}

/** Returns a field of a struct that is a number of something. */
function numberIn(struct: unknown, id: number): number {
  const value = struct instanceof Map ? (struct as ThriftStruct).get(id) : undefined;
  if (typeof value !== "number" || value < 0) throw new Error("a page without its sizes");
  return value;
}

/** Returns decompressors that write no more bytes than a page says it has; `others` has those without one of Node.js. */
export function boundedCompressors(others: Compressors): Compressors {
  const { zstdDecompressSync } = zlib as { zstdDecompressSync?: (bytes: Uint8Array, options: object) => Buffer };
  return {
    ...others,
    BROTLI: (bytes, length) => zlib.brotliDecompressSync(bytes, { maxOutputLength: Math.max(1, length) }),
    ZSTD: (bytes, length) =>
      zstdDecompressSync ? zstdDecompressSync(bytes, { maxOutputLength: Math.max(1, length) }) : unzstd(bytes, length),
  };
}

function unzstd(bytes: Uint8Array, length: number): Uint8Array {
  const window = windowOf(bytes);
  if (window !== null && window > mostWindow) throw new Error(`zstd with a window of ${window} bytes`);
  const whole = new Uint8Array(length);
  let at = 0;
  new Decompress((piece) => {
    if (piece.length > length - at) throw new Error(`a page of more than its ${length} bytes`);
    whole.set(piece, at);
    at += piece.length;
  }).push(bytes, true);
  return whole.subarray(0, at);
}

/** Returns the compression codecs of a file's columns. */
export function codecsOf({ row_groups }: FileMetaData): Set<string> {
  const codecs = row_groups.flatMap(({ columns }) => columns.map(({ meta_data }) => meta_data?.codec));
  return new Set(codecs.filter((codec) => codec !== undefined));
}
