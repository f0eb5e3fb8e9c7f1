// Attention: small pictures of all heads, and one or two heads in detail, as a matrix or as arcs.
import { announce, button, element, visible } from "../../web/dom.js";
import type { AttentionData, PageData } from "../page/data.js";
import { drawArcs } from "./arcs.js";
import { gradient } from "./colours.js";
import { choice, chooser, controls } from "./controls.js";
import { type Table, tableOf } from "./data.js";
import { drawSmall, HeatMap } from "./heat-map.js";
import { percent } from "./numbers.js";
import { onSelect, select, selected } from "./selection.js";
import { colourTokens, uncolourTokens } from "./tokens.js";

interface Head {
  layer: number;
  head: number;
}

const thumbnailSize = 64;

/** Returns the view of all attention. */
export function attentionView({ attention, sequences }: PageData): HTMLElement {
  const shown = element("div");
  const show = (index: number): void => {
    const data = attention[index]!;
    const names = [data.queries, data.keys].map((i) => sequences[i]!.tokens.map(visible)) as [string[], string[]];
    shown.replaceChildren(new HeadsView(data, names).root);
  };
  const kinds = attention.map(({ title }, i) => ({ value: String(i), label: title }));
  show(0);
  const bar = controls(
    ...(attention.length > 1 ? [chooser("Attention of", kinds, (value) => show(Number(value)))] : []),
  );
  return element("div", {}, ...(attention.length > 1 ? [bar] : []), shown);
}

/** View of the heads of one kind of attention. */
class HeadsView {
  readonly root = element("div", { className: "attention" });
  readonly #buttons: HTMLButtonElement[] = [];
  readonly #details = element("div", { className: "heads" });
  readonly #heads: Head[] = [{ layer: 0, head: 0 }];
  /** Index of the head that a click in the overview replaces. */
  #active = 0;
  #form: "matrix" | "arcs" = "matrix";

  constructor(
    readonly data: AttentionData,
    /** Texts of the tokens that attend, and of those attended to. */
    readonly names: readonly [string[], string[]],
  ) {
    const scale = element("div", { className: "legend" });
    const strokes = element("div", { className: "legend", hidden: true }, "The thicker an arc, the more attention");
    const form = choice(
      "Show as",
      [
        { value: "matrix", label: "matrix" },
        { value: "arcs", label: "arcs" },
      ],
      (value) => {
        this.#form = value === "arcs" ? "arcs" : "matrix";
        scale.hidden = this.#form === "arcs";
        strokes.hidden = !scale.hidden;
        void this.#show();
      },
    );
    const beside = button("Add a head beside", () => {
      const [{ layer, head }] = this.#heads as [Head];
      if (this.#heads.length === 1) this.#heads.push({ layer, head: (head + 1) % data.heads });
      else this.#heads.pop();
      this.#active = this.#heads.length - 1;
      beside.textContent = this.#heads.length === 1 ? "Add a head beside" : "Show one head";
      this.#press();
      void this.#show();
    });
    const colours = element("span");
    colours.style.background = gradient();
    scale.append("0 %", colours, "100 % (square-root scale)");
    const main = element("div", {}, controls(form, beside, scale, strokes), this.#details);
    this.root.append(this.#overview(), main);
    this.#press();
    void this.#show();
    onSelect(() => {
      // A view behind another tab is drawn when the reader comes back to it.
      if (this.root.offsetParent !== null) void this.#show();
    });
  }

  #overview(): HTMLElement {
    const { layers, heads } = this.data;
    const size = Math.max(18, Math.min(thumbnailSize, Math.floor(340 / heads) - 8));
    const body = element("tbody");
    for (let layer = 0; layer < layers; layer++) {
      const row = element("tr", {}, element("th", { scope: "row", textContent: `layer ${layer}` }));
      for (let head = 0; head < heads; head++) row.append(element("td", {}, this.#thumbnail({ layer, head })));
      body.append(row);
    }
    const top = element("tr", {}, element("td"));
    for (let head = 0; head < heads; head++) top.append(element("th", { scope: "col", textContent: String(head) }));
    const table = element("table", {}, element("thead", {}, top), body);
    table.style.setProperty("--thumb", `${size}px`);
    table.addEventListener("keydown", (event) => this.#moveFocus(event));
    const hint = element("p", { className: "hint" }, "All heads. Choose one to see it in detail.");
    return element("div", {}, hint, element("div", { className: "overview" }, table));
  }

  #thumbnail(head: Head): HTMLButtonElement {
    const canvas = element("canvas", { width: 1, height: 1 });
    const made = element("button", { type: "button" }, canvas);
    made.ariaLabel = `Layer ${head.layer}, head ${head.head}`;
    made.title = made.ariaLabel;
    made.tabIndex = this.#buttons.length === 0 ? 0 : -1;
    made.onclick = () => {
      this.#heads[this.#active] = head;
      this.#press();
      void this.#show();
    };
    this.#buttons.push(made);
    drawWhenSeen.set(made, () => void this.#draw(canvas, head));
    seen.observe(made);
    return made;
  }

  async #draw(canvas: HTMLCanvasElement, head: Head): Promise<void> {
    const table = await this.#table(head);
    drawSmall(canvas, table, Math.min(thumbnailSize, table.rows), Math.min(thumbnailSize, table.columns));
  }

  #table({ layer, head }: Head): Promise<Table> {
    return tableOf(this.data.patterns[layer * this.data.heads + head]!);
  }

  #moveFocus(event: KeyboardEvent): void {
    const { heads } = this.data;
    const steps: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: heads, ArrowUp: -heads };
    const step = steps[event.key];
    const from = this.#buttons.indexOf(event.target as HTMLButtonElement);
    if (step === undefined || from === -1) return;
    event.preventDefault();
    const to = this.#buttons[from + step];
    if (!to) return;
    this.#buttons[from]!.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  }

  /** Marks the heads that are shown in the overview. */
  #press(): void {
    const { heads } = this.data;
    const shown = new Set(this.#heads.map(({ layer, head }) => layer * heads + head));
    for (const [i, one] of this.#buttons.entries()) one.ariaPressed = String(shown.has(i));
  }

  async #show(): Promise<void> {
    const heads = this.#heads.map((head) => ({ ...head }));
    const tables = await Promise.all(heads.map((head) => this.#table(head)));
    const made = heads.map((head, i) => this.#detail(head, tables[i]!, i));
    this.#details.replaceChildren(...made);
    this.#colour(tables[this.#active] ?? tables[0]!);
  }

  #detail({ layer, head }: Head, table: Table, index: number): HTMLElement {
    const name = `Layer ${layer}, head ${head}`;
    const reading = element("p", { className: "reading" });
    const scroller = element("div", { className: "scroller" });
    const title = element("h3", {}, name);
    if (this.#heads.length > 1 && index !== this.#active)
      title.append(
        " ",
        button("Choose for this side", () => {
          this.#active = index;
          void this.#show();
        }),
      );
    const isActive = this.#heads.length > 1 && index === this.#active;
    const root = element("div", { className: isActive ? "head active" : "head" }, title, scroller, reading);
    const [from, to] = this.names;
    const describe = (row: number, column: number): string =>
      `${from[row]} (${row}) attends to ${to[column]} (${column}): ${percent(table.at(row, column))}`;
    const available = (this.#details.clientWidth || 640) / this.#heads.length - 20;
    const [query, key] = this.#selected();
    if (this.#form === "arcs") {
      scroller.append(
        drawArcs(table, {
          label: name,
          from,
          to,
          width: Math.min(560, available),
          query,
          key,
          describe,
          reading,
          pick: (token) => select({ sequence: this.data.queries, token }),
        }),
      );
    } else {
      const map = new HeatMap(table, {
        ...{ label: name, rowNames: from, columnNames: to, width: Math.max(200, Math.min(900, available)), reading },
        describe: ({ row, column }) => describe(row, column),
        pick: ({ row }) => select({ sequence: this.data.queries, token: row }),
      });
      map.mark(query === null ? [] : [query], key === null ? [] : [key]);
      scroller.append(map.canvas);
    }
    if (query !== null) {
      const best = table
        .row(query)
        .map((weight, i) => [weight, i] as const)
        .sort((a, b) => b[0] - a[0])
        .slice(0, 5);
      const list = best.filter(([weight]) => weight > 0.005).map(([weight, i]) => `${to[i]} (${i}) ${percent(weight)}`);
      reading.textContent = `${from[query]} (${query}) attends to ${list.join(", ")}`;
      announce(`${name}: ${reading.textContent}`);
    }
    return root;
  }

  /** Returns the selected token as one that attends, and as one that is attended to. */
  #selected(): [number | null, number | null] {
    const now = selected();
    const { queries, keys } = this.data;
    return [
      now?.sequence === queries ? now.token : null,
      now?.sequence === keys && keys !== queries ? now.token : null,
    ];
  }

  /** Colours the tokens by what the selected one attends to, or by who attends to it. */
  #colour(table: Table): void {
    const [query, key] = this.#selected();
    uncolourTokens();
    if (query !== null) colourTokens(this.data.keys, table.row(query).map(Math.sqrt));
    else if (key !== null)
      colourTokens(
        this.data.queries,
        Array.from({ length: table.rows }, (_, row) => Math.sqrt(table.at(row, key))),
      );
  }
}

/** Small pictures are drawn when the reader can see them. */
const drawWhenSeen = new WeakMap<Element, () => void>();
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    drawWhenSeen.get(target)?.();
  }
});
