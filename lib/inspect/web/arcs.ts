// Attention as arcs between two columns of tokens: those that attend are on the left, those attended to on the right.
import { element } from "../../web/dom.js";
import type { Table } from "./data.js";
import { cut } from "./heat-map.js";
import { hideTooltip, showTooltip } from "./tooltip.js";

/** Options of `drawArcs`. */
export interface ArcsOptions {
  label: string;
  /** Texts of the tokens that attend. */
  from: readonly string[];
  /** Texts of the tokens attended to. */
  to: readonly string[];
  width: number;
  /** Selected token among those that attend, or null. */
  query: number | null;
  /** Selected token among those attended to, or null. */
  key: number | null;
  /** Returns what a weight says. */
  describe: (row: number, column: number) => string;
  reading: HTMLElement;
  /** Acts when a token that attends is chosen. */
  pick: (token: number) => void;
}

/** Weights below these are not drawn: for all tokens together, and for one token. */
const least = { all: 0.2, one: 0.02 };
/** Largest height of the canvas in CSS pixels; browsers draw no canvas of any size. */
const highest = 7000;

/** Returns a canvas with the arcs. */
export function drawArcs(table: Table, options: ArcsOptions): HTMLCanvasElement {
  const { label, from, to, width, query, key, describe, reading, pick } = options;
  const most = Math.max(from.length, to.length);
  const row = Math.max(3, Math.min(18, Math.floor(highest / most)));
  const height = most * row + 8;
  const canvas = element("canvas", { className: "map", tabIndex: 0 });
  canvas.role = "img";
  canvas.ariaLabel = `${label}. The arrow keys choose a token that attends.`;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const column = Math.min(120, width / 3);
  const [left, right] = [column, width - column];
  const y = (token: number): number => 4 + (token + 0.5) * row;
  let hovered: number | null = null;

  const draw = (): void => {
    const context = canvas.getContext("2d")!;
    const style = getComputedStyle(canvas.isConnected ? canvas : document.body);
    const accent = getComputedStyle(document.documentElement).getPropertyValue("--accent");
    const root = getComputedStyle(document.body);
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.lineCap = "round";
    const line = (a: number, b: number, weight: number): void => {
      context.globalAlpha = Math.min(1, 0.2 + 0.8 * Math.sqrt(weight));
      context.lineWidth = 0.75 + 4 * weight;
      context.beginPath();
      context.moveTo(left + 4, y(a));
      context.bezierCurveTo(left + column / 2, y(a), right - column / 2, y(b), right - 4, y(b));
      context.stroke();
    };
    context.strokeStyle = accent.includes("light-dark") || accent === "" ? root.color : accent;
    const focus = hovered ?? query;
    for (let a = 0; a < table.rows; a++) {
      if (focus !== null && a !== focus) continue;
      for (let b = 0; b < table.columns; b++) {
        if (focus === null && key !== null && b !== key) continue;
        const weight = table.at(a, b);
        if (weight >= (focus === null && key === null ? least.all : least.one)) line(a, b, weight);
      }
    }
    context.globalAlpha = 1;
    context.fillStyle = style.color;
    context.textBaseline = "middle";
    const size = Math.min(12, row);
    if (size < 7) return;
    const write = (texts: readonly string[], x: number, align: CanvasTextAlign, marked: number | null): void => {
      context.textAlign = align;
      for (const [token, text] of texts.entries()) {
        context.font = `${token === marked ? "700 " : ""}${size}px ui-monospace, monospace`;
        context.fillText(cut(text, 15), x, y(token));
      }
    };
    write(from, left - 2, "right", focus);
    write(to, right + 2, "left", key);
  };
  const tokenAt = ({ offsetY }: MouseEvent): number => Math.floor((offsetY - 4) / row);
  canvas.addEventListener("pointermove", (event) => {
    const token = tokenAt(event);
    const next = event.offsetX < width / 2 && token >= 0 && token < from.length ? token : null;
    if (next === null) hideTooltip();
    else showTooltip(event, strongest(table, next, describe));
    if (next === hovered) return;
    hovered = next;
    draw();
  });
  canvas.addEventListener("pointerleave", () => {
    hideTooltip();
    hovered = null;
    draw();
  });
  canvas.addEventListener("click", (event) => {
    const token = tokenAt(event);
    if (event.offsetX < width / 2 && token >= 0 && token < from.length) pick(token);
  });
  canvas.addEventListener("keydown", (event) => {
    const at = hovered ?? query ?? -1;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) {
      hovered = Math.min(from.length - 1, Math.max(0, at + step));
      reading.textContent = strongest(table, hovered, describe);
      draw();
    } else if (event.key === "Enter" && hovered !== null) pick(hovered);
    else return;
    event.preventDefault();
  });
  requestAnimationFrame(draw);
  return canvas;
}

/** Returns what the largest weight of a token says. */
function strongest(table: Table, row: number, describe: ArcsOptions["describe"]): string {
  const weights = table.row(row);
  return describe(row, weights.indexOf(Math.max(...weights)));
}
