// A table of numbers as a canvas: one pixel for each number, enlarged. The pointer or the arrow keys read single numbers.
import { element } from "../../web/dom.js";
import type { Table } from "./data.js";
import { putPixel } from "./colours.js";
import { hideTooltip, showTooltip } from "./tooltip.js";

/** Cell of a table. */
export interface Cell {
  row: number;
  column: number;
}

/** Options of a `HeatMap`. */
export interface HeatMapOptions {
  /** Name for screen readers. */
  label: string;
  /** Names of the rows and of the columns; they are drawn if there is room. */
  rowNames: readonly string[];
  columnNames: readonly string[];
  /** Width in CSS pixels that the map should not exceed by much. */
  width: number;
  /** Largest size of a cell in CSS pixels. @default 22 */
  largestCell?: number;
  /** Smallest height of a row in CSS pixels. @default the width of a cell */
  smallestRow?: number;
  /** Returns what a cell says. */
  describe(cell: Cell): string;
  /** Element that shows what the cell under the keys or the pointer says. */
  reading: HTMLElement;
  /** Acts when a cell is clicked, or Enter is pressed on it. */
  pick?(cell: Cell): void;
}

/** Largest size of a name's letters, in CSS pixels. They are no larger than their cell. */
const largestLetters = 11;
/** Smallest size of a cell beside which a name can be read, in CSS pixels. */
const namedCell = 10;
/** Number of columns up to which all cells are at least so large. */
const mostNamed = 64;

/** Canvas that shows a table. */
export class HeatMap {
  readonly canvas = element("canvas", { className: "map", tabIndex: 0 });
  readonly #image: HTMLCanvasElement;
  #cursor: Cell | null = null;
  #marked: { rows: ReadonlySet<number>; columns: ReadonlySet<number> } = { rows: new Set(), columns: new Set() };
  /** Size of a cell, and room for names to the left and above, in CSS pixels. */
  readonly #cell: number;
  readonly #row: number;
  readonly #left: number;
  readonly #top: number;

  constructor(
    readonly table: Table,
    readonly options: HeatMapOptions,
  ) {
    const { rows, columns } = table;
    const { width, largestCell = 22, rowNames, columnNames } = options;
    const spaceFor = (names: readonly string[]): number => Math.min(90, 12 + 6.7 * longest(names));
    const fits = Math.floor((width - spaceFor(rowNames)) / columns);
    // Names need cells as high as their letters. Up to a number of tokens it is better to scroll than to lose the names.
    const size = fits >= namedCell ? fits : columns <= mostNamed ? namedCell : Math.floor(width / columns);
    this.#cell = Math.max(1, Math.min(largestCell, size));
    this.#row = Math.max(this.#cell, options.smallestRow ?? 0);
    const room = (names: readonly string[], size: number): number => (size >= namedCell ? spaceFor(names) : 0);
    this.#left = room(rowNames, this.#row);
    this.#top = room(columnNames, this.#cell);
    this.canvas.role = "img";
    this.canvas.ariaLabel = `${options.label}. The arrow keys read single cells.`;
    this.#image = imageOf(table);
    this.#size(this.#left + columns * this.#cell, this.#top + rows * this.#row);
    this.#listen();
    this.draw();
  }

  /** Marks rows and columns by frames. */
  mark(rows: readonly number[], columns: readonly number[]): void {
    this.#marked = { rows: new Set(rows), columns: new Set(columns) };
    this.draw();
  }

  /** Draws the map anew, for example after a change of colours. */
  draw(): void {
    const context = this.canvas.getContext("2d")!;
    const { rows, columns } = this.table;
    const [cell, high, left, top] = [this.#cell, this.#row, this.#left, this.#top];
    const style = getComputedStyle(this.canvas);
    const colour = style.color || "#000";
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.#image, left, top, columns * cell, rows * high);
    context.fillStyle = colour;
    const font = (size: number): string => `${Math.min(largestLetters, size)}px ui-monospace, monospace`;
    context.textBaseline = "middle";
    if (left > 0) {
      context.font = font(high);
      context.textAlign = "right";
      for (let row = 0; row < rows; row++)
        context.fillText(cut(this.options.rowNames[row] ?? "", 12), left - 4, top + (row + 0.5) * high);
    }
    if (top > 0) {
      context.font = font(cell);
      context.textAlign = "left";
      for (let column = 0; column < columns; column++) {
        context.save();
        context.translate(left + (column + 0.5) * cell, top - 4);
        context.rotate(-Math.PI / 2);
        context.fillText(cut(this.options.columnNames[column] ?? "", 12), 0, 0);
        context.restore();
      }
    }
    context.lineWidth = 2;
    context.strokeStyle = "#ff7f0e";
    for (const row of this.#marked.rows) context.strokeRect(left, top + row * high, columns * cell, Math.max(2, high));
    for (const column of this.#marked.columns)
      context.strokeRect(left + column * cell, top, Math.max(2, cell), rows * high);
    if (!this.#cursor) return;
    const [x, y] = [left + this.#cursor.column * cell, top + this.#cursor.row * high];
    // A frame of two colours can be seen on every colour.
    for (const [width, stroke] of [
      [4, "#000"],
      [2, "#fff"],
    ] as const) {
      context.lineWidth = width;
      context.strokeStyle = stroke;
      context.strokeRect(x, y, Math.max(4, cell), Math.max(4, high));
    }
  }

  #size(width: number, height: number): void {
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round(height * devicePixelRatio);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
  }

  #listen(): void {
    const { canvas, options } = this;
    canvas.addEventListener("pointermove", (event) => {
      const cell = this.#cellAt(event);
      if (cell) showTooltip(event, options.describe(cell));
      else hideTooltip();
    });
    canvas.addEventListener("pointerleave", hideTooltip);
    canvas.addEventListener("click", (event) => {
      const cell = this.#cellAt(event);
      if (!cell) return;
      this.#moveTo(cell);
      options.pick?.(cell);
    });
    canvas.addEventListener("keydown", (event) => {
      const { row, column } = this.#cursor ?? { row: 0, column: -1 };
      const targets: Record<string, Cell> = {
        ArrowRight: { row, column: column + 1 },
        ArrowLeft: { row, column: column - 1 },
        ArrowDown: { row: row + 1, column: Math.max(0, column) },
        ArrowUp: { row: row - 1, column: Math.max(0, column) },
        Home: { row, column: 0 },
        End: { row, column: this.table.columns - 1 },
      };
      const target = targets[event.key];
      if (target) this.#moveTo(target);
      else if (event.key === "Enter" && this.#cursor) options.pick?.(this.#cursor);
      else return;
      event.preventDefault();
    });
  }

  #moveTo({ row, column }: Cell): void {
    const within = (value: number, size: number): number => Math.min(size - 1, Math.max(0, value));
    this.#cursor = { row: within(row, this.table.rows), column: within(column, this.table.columns) };
    this.options.reading.textContent = this.options.describe(this.#cursor);
    this.draw();
  }

  #cellAt({ offsetX, offsetY }: MouseEvent): Cell | null {
    const [column, row] = [
      Math.floor((offsetX - this.#left) / this.#cell),
      Math.floor((offsetY - this.#top) / this.#row),
    ];
    const isInside = row >= 0 && row < this.table.rows && column >= 0 && column < this.table.columns;
    return isInside ? { row, column } : null;
  }
}

/** Returns a canvas with a pixel for each number of a table. */
function imageOf(table: Table): HTMLCanvasElement {
  const { rows, columns } = table;
  const canvas = element("canvas");
  drawSmall(canvas, table, rows, columns);
  return canvas;
}

/** Draws a table with so many pixels. If there are fewer than numbers, each is the largest of several. */
export function drawSmall(canvas: HTMLCanvasElement, table: Table, height: number, width: number): void {
  const { rows, columns, codes, grid } = table;
  const largest = new Uint8Array(height * width);
  for (let row = 0, at = 0; row < rows; row++) {
    const first = Math.floor((row * height) / rows) * width;
    for (let column = 0; column < columns; column++, at++) {
      // Values of both signs are shown by the root of their size; the reading has the sign.
      const size = grid.form === "root" ? codes[at]! : 255 * Math.sqrt(Math.min(1, Math.abs(codes[at]! - 128) / 127));
      const place = first + Math.floor((column * width) / columns);
      if (size > largest[place]!) largest[place] = size;
    }
  }
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(width, height);
  for (const [place, size] of largest.entries()) putPixel(image.data, place, size);
  context.putImageData(image, 0, 0);
}

function longest(names: readonly string[]): number {
  return names.reduce((most, name) => Math.max(most, Math.min(12, name.length)), 0);
}

/** Returns the beginning of a text if it is too long. */
export function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
