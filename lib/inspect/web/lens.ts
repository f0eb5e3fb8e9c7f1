// The logit lens: what the model would predict after each layer.
import { element, visible } from "../../web/dom.js";
import type { LensData, PageData } from "../page/data.js";
import { gradient, shade } from "./colours.js";
import { percent } from "./numbers.js";
import { onSelect, select, selectedOf } from "./selection.js";
import { hideTooltip, showTooltip } from "./tooltip.js";

/** Returns the view of the lens. */
export function lensView(lens: LensData, { sequences }: PageData): HTMLElement {
  const tokens = sequences[lens.sequence]!.tokens;
  const reading = element("p", { className: "reading" });
  reading.role = "status";
  const candidates = (row: number, token: number): [string, number][] => {
    const first = (row * tokens.length + token) * lens.count;
    return Array.from({ length: lens.count }, (_, i) => [
      lens.texts[lens.top[first + i]!]!,
      lens.probabilities[first + i]!,
    ]);
  };
  const describe = (row: number, token: number): string => {
    const list = candidates(row, token).map(([text, share]) => `${visible(text)} ${percent(share)}`);
    return `${lens.rows[row]}, after ${visible(tokens[token]!)} (${token}): ${list.join(", ")}`;
  };
  const cells = new Map<HTMLTableCellElement, readonly [row: number, token: number]>();
  const byColumn: HTMLTableCellElement[][] = tokens.map(() => []);
  const body = element("tbody");
  // The output is on top, as in a picture of the model.
  for (let row = lens.rows.length - 1; row >= 0; row--) {
    const line = element("tr", {}, element("th", { scope: "row", textContent: lens.rows[row]! }));
    for (const token of tokens.keys()) {
      const [text, share] = candidates(row, token)[0]!;
      const cell = element("td", { textContent: visible(text), tabIndex: -1 });
      const { cell: colour, ink } = shade(share);
      cell.style.setProperty("--cell", colour);
      cell.style.setProperty("--ink", ink);
      cells.set(cell, [row, token]);
      byColumn[token]!.push(cell);
      line.append(cell);
    }
    body.append(line);
  }
  const names = tokens.map((text) => element("th", { scope: "col", textContent: visible(text) }));
  const table = element(
    "table",
    { className: "lens" },
    element("thead", {}, element("tr", {}, element("td"), ...names)),
    body,
  );
  body.querySelector("td")!.tabIndex = 0;
  const cellOf = ({ target }: Event): HTMLTableCellElement | null =>
    target instanceof Element ? target.closest<HTMLTableCellElement>("tbody td") : null;
  table.addEventListener("pointermove", (event) => {
    const cell = cellOf(event);
    if (cell) showTooltip(event, describe(...cells.get(cell)!));
    else hideTooltip();
  });
  table.addEventListener("pointerleave", hideTooltip);
  table.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (cell) select({ sequence: lens.sequence, token: cells.get(cell)![1] });
  });
  table.addEventListener("focusin", (event) => {
    const cell = cellOf(event);
    if (cell) reading.textContent = describe(...cells.get(cell)!);
  });
  table.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    const [, token] = cells.get(cell)!;
    const column = byColumn[token]!;
    const at = column.indexOf(cell);
    const targets: Record<string, HTMLTableCellElement | undefined> = {
      ArrowRight: byColumn[token + 1]?.[at],
      ArrowLeft: byColumn[token - 1]?.[at],
      ArrowDown: column[at + 1],
      ArrowUp: column[at - 1],
    };
    if (event.key === "Enter") select({ sequence: lens.sequence, token });
    const next = targets[event.key];
    if (!next) return;
    event.preventDefault();
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  onSelect(() => {
    const chosen = selectedOf(lens.sequence);
    for (const [token, column] of byColumn.entries())
      for (const cell of column) cell.classList.toggle("chosen", token === chosen);
    if (chosen !== null && table.isConnected)
      byColumn[chosen]![0]!.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  const scale = element("span");
  scale.style.background = gradient();
  const hint =
    "Each cell is the likeliest next token if the layer were the last: the stream goes straight to the last norm and the " +
    "output projection. Point at a cell, or move with the arrow keys, for the five likeliest.";
  return element(
    "div",
    {},
    element("p", { className: "hint", textContent: hint }),
    element("div", { className: "legend" }, "unlikely", scale, "likely"),
    element("div", { className: "scroller" }, table),
    reading,
  );
}
