// The rows of tables: CSV by csv-parse, and Parquet by hyparquet. Both packages are optional peer dependencies.
import { Readable } from "node:stream";
import type { CompressionCodec, SchemaTree } from "hyparquet";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import type { BadLine } from "./bad-lines.js";
import { bytesOf } from "./bytes.js";
import type { DataFile } from "./inputs.js";
import type { PageLevels } from "./parquet-delta.js";
import { boundedCompressors, checkFooter, codecsOf, type PageReading, rowsAtOnce } from "./parquet-limits.js";
import { optionalPackage } from "../util/optional-package.js";
import { recordColumns } from "./records.js";

/** Row of a table. */
export interface Row {
  /** Number of the row's line (CSV) or of the row (Parquet) in its file, counted from 1. */
  readonly line: number;
  /** Cells by the names of their columns. */
  readonly cells: Readonly<Record<string, unknown>>;
  /** Approximate number of bytes. */
  readonly size: number;
}

/** Options of a reader of rows. */
export interface RowOptions {
  /** Name of the column with texts; null if all columns are read as they are, whatever they contain. */
  readonly textColumn: string | null;
  /** Number of rows that are left out at the start, those that are malformed included. */
  readonly skip: number;
}

/** Longest row of a CSV or TSV file, in bytes. */
export const longestRow = 2 ** 26;

/** Columns that may contain conversations. In a table of texts, these are JSON. */
const jsonColumns = new Set<string>(["messages", "tools", "prompt", "completion", "chosen", "rejected"]);

/**
 * Yields the rows of a CSV or TSV file, whose first line names the columns, and the lines that are malformed.
 *
 * @throws ERR_IO if the file cannot be read, or csv-parse is not installed.
 * @throws ERR_FORMAT if the file has no column of texts or records.
 */
export async function* csvRows(file: DataFile, { textColumn, skip }: RowOptions): AsyncGenerator<Row | BadLine> {
  const { parse } = await optionalPackage("csv-parse", file.path, () => import("csv-parse"));
  const skipped: BadLine[] = [];
  let columns: string[] = [];
  const parser = parse({
    delimiter: file.format === "tsv" ? "\t" : ",",
    bom: true,
    columns: (names: string[]) => {
      columns = names;
      if (textColumn !== null) checkColumns(file.path, names, textColumn);
      return names;
    },
    info: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    max_record_size: longestRow,
    on_skip: (error) => {
      if (!error) return;
      // The parser does not look for the end of a row that is too long, and reports each of its further bytes.
      if (error.code === "CSV_MAX_RECORD_SIZE") parser.destroy(error);
      else skipped.push({ line: Number(error.lines), message: error.message });
    },
  });
  const source = Readable.from(bytesOf(file));
  source.on("error", (error) => parser.destroy(error));
  source.pipe(parser);
  let left = skip;
  const take = function* (item: Row | BadLine): Generator<Row | BadLine> {
    if (left > 0) left--;
    else yield item;
  };
  try {
    for await (const { record, info } of parser as AsyncIterable<CsvRecord>) {
      // The parser reads ahead: a malformed line may come after this record.
      while (skipped.length > 0 && skipped[0]!.line < info.lines) yield* take(skipped.shift()!);
      yield* take({ line: info.lines, ...cellsOf(record, textColumn === null) });
    }
  } catch (cause) {
    if (cause instanceof HeedError) throw cause;
    throw new HeedError("ERR_FORMAT", `${file.path}: expected CSV, got: ${(cause as Error).message}`, { cause });
  } finally {
    source.destroy();
  }
  for (const bad of skipped) yield* take(bad);
  if (columns.length === 0)
    throw new HeedError("ERR_FORMAT", `${file.path}: expected a line of column names, got none`);
}

interface CsvRecord {
  record: Record<string, string>;
  info: { lines: number };
}

function cellsOf(record: Record<string, string>, asTheyAre: boolean): Pick<Row, "cells" | "size"> {
  const cells: Record<string, unknown> = {};
  let size = 0;
  for (const [name, cell] of Object.entries(record)) {
    size += cell.length;
    if (asTheyAre) {
      cells[name] = cell;
      continue;
    }
    // A cell of another record's column is empty.
    if (cell === "" && recordColumns.includes(name as "messages")) continue;
    cells[name] = jsonColumns.has(name) && /^\s*\[\s*\{/.test(cell) ? jsonOf(cell) : cell;
  }
  return { cells, size };
}

function jsonOf(cell: string): unknown {
  try {
    return JSON.parse(cell);
  } catch {
    return cell;
  }
}

/**
 * Yields the rows of a Parquet file, and null after each row group. One row group is in memory at a time, and of it only
 * the columns that records are made of, unless all are wanted. Of a group that claims many rows in few bytes, some rows
 * are in memory at a time.
 *
 * @throws ERR_IO if the file cannot be read, or a package is not installed.
 * @throws ERR_FORMAT if the file is damaged, has no column of texts or records, or claims more than its bytes can have.
 */
export async function* parquetRows(file: DataFile, { textColumn, skip }: RowOptions): AsyncGenerator<Row | null> {
  const { path } = file;
  const {
    buffer,
    metadata,
    children: columnTrees,
    names,
    parquetReadObjects,
    snappyUncompress,
  } = await openParquet(path);
  const columns = textColumn === null ? names : checkColumns(path, names, textColumn);
  const packed = [...codecsOf(metadata)].some((codec) => codec !== "UNCOMPRESSED" && codec !== "SNAPPY");
  const compressors = packed
    ? boundedCompressors(
        (await optionalPackage("hyparquet-compressors", path, () => import("hyparquet-compressors"))).compressors,
      )
    : undefined;
  const reading: PageReading = {
    levelsOf: (place) => levelsOf(columnTrees, place),
    unpack: (codec) => (bytes, length) => {
      const own = compressors?.[codec as CompressionCodec];
      if (codec === "UNCOMPRESSED" || !(own ?? codec === "SNAPPY")) return bytes;
      if (own) return own(bytes, length);
      const page = new Uint8Array(length);
      snappyUncompress(bytes, page);
      return page;
    },
  };
  let from = 0;
  for (const group of metadata.row_groups) {
    const to = from + Number(group.num_rows);
    const first = Math.max(from, skip);
    from = to;
    if (first >= to) continue;
    const most = await inParquet(path, () => rowsAtOnce(buffer, group, columns, reading));
    for (let rowStart = first; rowStart < to; rowStart += most) {
      const rowEnd = Math.min(to, rowStart + most);
      const options = { file: buffer, metadata, columns, rowStart, rowEnd, ...(compressors && { compressors }) };
      const rows = await inParquet(path, () => parquetReadObjects(options));
      for (const [i, cells] of rows.entries()) yield { line: rowStart + i + 1, cells, size: sizeOf(cells) };
    }
    yield null;
  }
}

/** Returns the largest levels of the values of a column. */
function levelsOf(columns: readonly SchemaTree[], place: readonly string[]): PageLevels {
  const levels = { repetition: 0, definition: 0 };
  let children = columns;
  for (const name of place) {
    const found = children.find(({ element }) => element.name === name);
    if (!found) throw new Error(`no column ${place.join(".")} in its schema`);
    if (found.element.repetition_type === "REPEATED") levels.repetition++;
    if (found.element.repetition_type !== "REQUIRED") levels.definition++;
    children = found.children;
  }
  return levels;
}

/** Opens a Parquet file and reads its description. */
async function openParquet(path: string) {
  const hyparquet = await optionalPackage("hyparquet", path, () => import("hyparquet"));
  const { asyncBufferFromFile, parquetMetadataAsync, parquetSchema } = hyparquet;
  const buffer = await naming(path, () => asyncBufferFromFile(path));
  return inParquet(path, async () => {
    await checkFooter(buffer);
    const metadata = await parquetMetadataAsync(buffer);
    const { children } = parquetSchema(metadata);
    return { ...hyparquet, buffer, metadata, children, names: children.map(({ element }) => element.name) };
  });
}

/**
 * Returns the places of floats in a Parquet file: `.column`, `.column[]` for the items of a list, `.column.part`.
 *
 * @throws ERR_IO or ERR_FORMAT as `parquetRows` does.
 */
export async function floatColumns(path: string): Promise<string[]> {
  const { children } = await openParquet(path);
  const found: string[] = [];
  const visit = ({ element, children }: SchemaTree, place: string): void => {
    if (element.type === "DOUBLE" || element.type === "FLOAT") found.push(place);
    for (const child of children) {
      // A list is a group, which repeats a group with the item.
      const isList = child.element.repetition_type === "REPEATED";
      const [item] = child.children;
      if (isList && child.children.length === 1) visit(item!, `${place}[]`);
      else visit(child, isList ? `${place}[]` : `${place}.${child.element.name}`);
    }
  };
  for (const column of children) visit(column, `.${column.element.name}`);
  return found;
}

async function inParquet<T>(path: string, read: () => Promise<T>): Promise<T> {
  return naming(path, async () => {
    try {
      return await read();
    } catch (cause) {
      if (cause instanceof Error && "syscall" in cause) throw cause;
      throw new HeedError("ERR_FORMAT", `${path}: expected a Parquet file, got: ${(cause as Error).message}`, {
        cause,
      });
    }
  });
}

/** Returns the columns of a table that records are made of. */
function checkColumns(path: string, names: readonly string[], textColumn: string): string[] {
  const known: readonly string[] = [textColumn, ...recordColumns];
  const columns = names.filter((name) => known.includes(name));
  const whole = [textColumn, "messages", "completion", "chosen"].some((name) => columns.includes(name));
  if (whole) return columns;
  throw new HeedError(
    "ERR_FORMAT",
    `${path}: expected a column ${textColumn}, messages, completion or chosen, got ${names.join(", ") || "none"}`,
  );
}

function sizeOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 8;
  return Object.values(value).reduce((sum: number, part) => sum + sizeOf(part), 0);
}
