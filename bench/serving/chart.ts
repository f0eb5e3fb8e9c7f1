import { drawn, titleOf } from "../chart.js";
import { chartedRows, type ServingRun } from "./report.js";

/** Draws the tokens per second of each contestant with callers, as an SVG picture. */
export function servingChartOf(run: ServingRun): Promise<string> {
  const values = chartedRows(run).flatMap(({ model, format, load, results }) =>
    Object.entries(results).flatMap(([contestant, result]) =>
      "error" in result ? [] : [{ row: `${model}, ${format}, ${load}`, contestant, rate: result.tokensPerSecond }],
    ),
  );
  const domainMin = 10 ** Math.floor(Math.log10(Math.min(...values.map(({ rate }) => Math.max(rate, 1)))));
  const y = { field: "row", type: "nominal", sort: null, title: null, axis: { labelLimit: 600 } };
  const contestant = { field: "contestant", type: "nominal", sort: null };
  return drawn({
    title: titleOf("tokens per second", run),
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
