import { drawn } from "../chart.js";
import type { ServingRow } from "./report.js";

/** Draws the tokens per second of each contestant with callers, as an SVG picture. */
export function servingChartOf(rows: readonly ServingRow[]): Promise<string> {
  const values = rows
    .filter(({ load }) => load.includes("caller"))
    .flatMap(({ model, format, load, results }) =>
      Object.entries(results).flatMap(([contestant, result]) =>
        "error" in result ? [] : [{ row: `${model}, ${format}, ${load}`, contestant, rate: result.tokensPerSecond }],
      ),
    );
  const domainMin = 10 ** Math.floor(Math.log10(Math.min(...values.map(({ rate }) => Math.max(rate, 1)))));
  const y = { field: "row", type: "nominal", sort: null, title: null, axis: { labelLimit: 600 } };
  const contestant = { field: "contestant", type: "nominal", sort: null };
  return drawn({
    title: { text: "tokens per second", anchor: "start", fontSize: 14, offset: 12 },
    width: 480,
    height: { step: 10, for: "offset" },
    data: { values },
    mark: { type: "bar" },
    encoding: {
      y,
      yOffset: contestant,
      x: {
        field: "rate",
        type: "quantitative",
        scale: { type: "log", nice: true, domainMin },
        title: null,
        axis: { gridOpacity: 0.4 },
      },
      // A logarithmic axis has no zero from which a bar could begin.
      x2: { datum: domainMin },
      color: { ...contestant, title: null, scale: { scheme: "tableau10" } },
    },
    config: { axis: { labelFontSize: 10 } },
  });
}
