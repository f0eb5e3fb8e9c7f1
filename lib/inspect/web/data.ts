// The data of the page: JSON, and tables of 8-bit codes that are compressed and in base64. A table is unpacked when
// something needs it for the first time.
import type { Grid, PageData } from "../page/data.js";

/** Table of numbers whose codes have been unpacked. */
export class Table {
  constructor(
    readonly grid: Grid,
    readonly codes: Uint8Array,
  ) {}

  get rows(): number {
    return this.grid.rows;
  }

  get columns(): number {
    return this.grid.columns;
  }

  /** Returns the number at a row and a column. */
  at(row: number, column: number): number {
    const { form, scale, columns } = this.grid;
    const code = this.codes[row * columns + column] ?? 0;
    return form === "root" ? scale * (code / 255) ** 2 : (scale * (code - 128)) / 127;
  }

  /** Returns the numbers of a row. */
  row(row: number): number[] {
    return Array.from({ length: this.columns }, (_, column) => this.at(row, column));
  }
}

const tables = new Map<string, Promise<Table>>();

/** Resolves to a table. It is unpacked only once. */
export function tableOf(grid: Grid): Promise<Table> {
  let table = tables.get(grid.blob);
  if (!table) tables.set(grid.blob, (table = unpack(grid)));
  return table;
}

async function unpack(grid: Grid): Promise<Table> {
  const packed = Uint8Array.from(atob(textOf(`blob-${grid.blob}`)), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Table(grid, new Uint8Array(await new Response(stream).arrayBuffer()));
}

/** Returns what the page is about, or null if the file has no data, as while it is written. */
export function readData(): PageData | null {
  return document.getElementById("data") ? (JSON.parse(textOf("data")) as PageData) : null;
}

function textOf(id: string): string {
  return document.getElementById(id)?.textContent ?? "";
}
