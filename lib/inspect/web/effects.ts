// What parts contribute, and what changes without them: a table by layer and head, and bars.
import { element, visible } from "../../web/dom.js";
import type { Component, EffectData, PageData } from "../page/data.js";
import { controls } from "./controls.js";
import { digitsFor, signed } from "./numbers.js";
import { onSelect, select, selected, selectedOf } from "./selection.js";

/** Value of the choice of all tokens together. */
const all = "all";

/** Returns the view of contributions or of ablations. */
export function effectsView(effects: EffectData, page: PageData): HTMLElement {
  return new EffectsView(effects, page).root;
}

class EffectsView {
  readonly root = element("div");
  readonly #content = element("div", { className: "effects" });
  readonly #list = element("select");

  constructor(
    readonly effects: EffectData,
    readonly page: PageData,
  ) {
    const { columns, sequence, note } = effects;
    const tokens = sequence === null ? null : page.sequences[sequence]!.tokens;
    const names = columns.map((name, i) => (tokens ? `${visible(name)} after ${visible(tokens[i]!)} (${i})` : name));
    this.#list.append(
      ...(columns.length > 1 && tokens ? [element("option", { value: all, textContent: "all tokens (mean)" })] : []),
      ...names.map((name, i) => element("option", { value: String(i), textContent: name })),
    );
    this.#list.value = tokens ? String(columns.length - 1) : "0";
    this.#list.onchange = () => {
      const token = Number(this.#list.value);
      const isSelected = sequence !== null && selectedOf(sequence) === token;
      if (sequence !== null && this.#list.value !== all && !isSelected) select({ sequence, token });
      else this.#show();
    };
    onSelect(() => {
      const now = selected();
      if (sequence === null || now?.sequence !== sequence) return;
      this.#list.value = String(now.token);
      this.#show();
    });
    const label = element("label", {}, tokens ? "Prediction of " : "For ", this.#list);
    this.root.append(element("p", { className: "hint", textContent: note }), controls(label), this.#content);
    this.#show();
  }

  #value(part: number): number {
    const { values, columns } = this.effects;
    const row = values.slice(part * columns.length, (part + 1) * columns.length);
    if (this.#list.value !== all) return row[Number(this.#list.value)]!;
    return row.reduce((sum, value) => sum + value, 0) / row.length;
  }

  #show(): void {
    const { components, unit, totals } = this.effects;
    const values = components.map((_, part) => this.#value(part));
    const largest = Math.max(1e-9, ...values.map(Math.abs));
    const total = this.#list.value === all ? undefined : totals[Number(this.#list.value)];
    const tables = this.page.attention.flatMap((_, attention) => this.#heat(attention, values, largest));
    const order = [...values.keys()].sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!)).slice(0, 12);
    const left = element("div", {}, ...tables);
    if (total !== undefined)
      left.prepend(element("p", { className: "reading", textContent: `The whole model: ${signed(total, 3)} ${unit}` }));
    const right = element(
      "div",
      {},
      element("h3", { textContent: `By layer, in ${unit}` }),
      bars(this.#byLayer(values)),
      element("h3", { textContent: `Largest parts, in ${unit}` }),
      bars(order.map((part) => [components[part]!.name, values[part]!])),
    );
    this.#content.replaceChildren(left, right);
  }

  /** Returns a table of the heads and the feed-forward layers of one kind of attention. */
  #heat(attention: number, values: readonly number[], largest: number): HTMLElement[] {
    const { components } = this.effects;
    const { title, layers, heads } = this.page.attention[attention]!;
    const own = components
      .map((component, part) => ({ component, value: values[part]! }))
      .filter(({ component }) => component.attention === attention);
    if (own.length === 0) return [];
    const find = (layer: number, head: number | null): number | undefined =>
      own.find(({ component }) => component.layer === layer && component.head === head)?.value;
    const hasMlp = own.some(({ component }) => component.head === null);
    const digits = digitsFor(largest);
    const columns: (number | null)[] = [...Array(heads).keys(), ...(hasMlp ? [null] : [])];
    const head = element("tr", {}, element("td"));
    for (const column of columns)
      head.append(element("th", { scope: "col", textContent: column === null ? "MLP" : `head ${column}` }));
    const rows = Array.from({ length: layers }, (_, layer) => {
      const row = element("tr", {}, element("th", { scope: "row", textContent: `layer ${layer}` }));
      for (const column of columns) {
        const value = find(layer, column);
        const cell = element("td", { textContent: value === undefined ? "" : signed(value, digits) });
        if (value !== undefined) {
          cell.style.setProperty("--weight", (Math.abs(value) / largest).toFixed(3));
          cell.classList.toggle("less", value < 0);
        }
        row.append(cell);
      }
      return row;
    });
    return [
      element("h3", { textContent: title }),
      element(
        "div",
        { className: "scroller" },
        element("table", { className: "heat" }, element("thead", {}, head), element("tbody", {}, ...rows)),
      ),
    ];
  }

  /** Returns the sums of each layer's heads, its feed-forward layer, and everything that belongs to no head. */
  #byLayer(values: readonly number[]): [string, number][] {
    const sums = new Map<string, number>();
    const titleOf = ({ name, attention, layer, head }: Component): string => {
      if (attention === null || layer === null) return name;
      const where = this.page.attention.length > 1 ? `${this.page.attention[attention]!.title}, ` : "";
      return `${where}layer ${layer}, ${head === null ? "MLP" : "all heads"}`;
    };
    for (const [part, component] of this.effects.components.entries()) {
      const title = titleOf(component);
      sums.set(title, (sums.get(title) ?? 0) + values[part]!);
    }
    return [...sums];
  }
}

/** Returns bars to the right for positive numbers and to the left for negative ones. */
function bars(entries: readonly (readonly [string, number])[]): HTMLElement {
  const largest = Math.max(1e-9, ...entries.map(([, value]) => Math.abs(value)));
  const digits = 1 + digitsFor(largest);
  return element(
    "div",
    { className: "bars" },
    ...entries.flatMap(([name, value]) => {
      const bar = element("div", { className: "bar" });
      bar.style.setProperty("--share", (Math.abs(value) / largest).toFixed(3));
      return [
        element("div", { textContent: name }),
        element("div", { className: value < 0 ? "track less" : "track" }, bar),
        element("div", { className: "number", textContent: signed(value, digits) }),
      ];
    }),
  );
}
