// Neurons: activations of the most active ones of each feed-forward layer.
import { element, visible } from "../../web/dom.js";
import type { PageData } from "../page/data.js";
import { gradient } from "./colours.js";
import { chooser, controls } from "./controls.js";
import { tableOf } from "./data.js";
import { HeatMap } from "./heat-map.js";
import { signed } from "./numbers.js";
import { onSelect, select, selectedOf } from "./selection.js";
import { colourTokens, uncolourTokens } from "./tokens.js";

/** Returns the view of all neurons. */
export function neuronsView({ neurons, sequences }: PageData): HTMLElement {
  const shown = element("div");
  let map: HeatMap | null = null;
  let sequence = 0;
  const mark = (): void => {
    const token = selectedOf(sequence);
    map?.mark([], token === null ? [] : [token]);
  };
  const show = async (layer: number): Promise<void> => {
    const data = neurons[layer]!;
    const table = await tableOf(data.values);
    const tokens = sequences[data.sequence]!.tokens.map(visible);
    ({ sequence } = data);
    const reading = element("p", { className: "reading" });
    const name = (row: number): string => `neuron ${data.neurons[row]}`;
    map = new HeatMap(table, {
      ...{
        label: data.title,
        rowNames: data.neurons.map(String),
        columnNames: tokens,
        reading,
        largestCell: 20,
        smallestRow: 12,
      },
      width: Math.max(240, Math.min(1100, (shown.clientWidth || 800) - 20)),
      describe: ({ row, column }) => `${name(row)} at ${tokens[column]} (${column}): ${signed(table.at(row, column))}`,
      pick: ({ row, column }) => {
        const values = table.row(row);
        const largest = Math.max(1e-9, ...values.map(Math.abs));
        select({ sequence: data.sequence, token: column });
        uncolourTokens();
        colourTokens(
          data.sequence,
          values.map((value) => value / largest),
        );
        const best = [...values.keys()].sort((a, b) => values[b]! - values[a]!).slice(0, 5);
        reading.textContent = `${name(row)} is most active at ${best.map((i) => `${tokens[i]} (${i}) ${signed(values[i]!)}`).join(", ")}`;
      },
    });
    const hint =
      `The ${data.neurons.length} neurons of ${data.count} that are most active at some token, one in each row; light cells are ` +
      "large activations of either sign. A click, or Enter, colours the tokens by a neuron.";
    shown.replaceChildren(
      element("p", { className: "hint", textContent: hint }),
      element("div", { className: "scroller" }, map.canvas),
      reading,
    );
    mark();
  };
  onSelect(mark);
  const scale = element("span");
  scale.style.background = gradient();
  const list = chooser(
    "Layer",
    neurons.map(({ title }, i) => ({ value: String(i), label: title })),
    (value) => void show(Number(value)),
  );
  void show(0);
  const legend = element("div", { className: "legend" }, "0", scale, "largest (square-root scale)");
  return element("div", {}, controls(list, legend), shown);
}
