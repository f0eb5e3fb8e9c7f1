import { parse, resetSVGDefIds, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { Run } from "./report.js";
import { bestOf } from "./row.js";

/** Draws a bar for each row that has peers, as an SVG picture. Its length is the fastest peer's time divided by heed's. */
export function chartOf(run: Run): Promise<string> {
  const values = run.rows.flatMap((row) => {
    const best = bestOf(row);
    if (!best) return [];
    const label = `${row.name}, ${row.shape}, ${row.dtype}`;
    // The number is to the right of the bar; the bar of a row in which heed is slower ends at 1.
    return { row: label, ratio: best.ratio, peer: best.name, one: 1, end: Math.max(1, best.ratio) };
  });
  const y = { field: "row", type: "nominal", sort: null, title: null, axis: { labelLimit: 600 } }; // without a canvas vega guesses the widths, too wide
  const scale = { type: "log", base: 2, domain: [0.5, Math.max(4, ...values.map(({ ratio }) => ratio))], clamp: true };
  return drawn({
    title: titleOf("heed's speed relative to the fastest peer (1 = equal)", run),
    width: 480,
    height: { step: 16 },
    data: { values },
    layer: [
      {
        mark: { type: "bar", height: 10 },
        encoding: {
          y,
          x: { field: "ratio", type: "quantitative", scale, title: null, axis: { gridOpacity: 0.4, format: "~g" } },
          x2: { field: "one" },
          color: { field: "peer", type: "nominal", title: "fastest peer", scale: { scheme: "tableau10" } },
        },
      },
      {
        mark: { type: "text", align: "left", dx: 4, fontSize: 9 },
        encoding: { y, x: { field: "end", type: "quantitative", scale }, text: { field: "ratio", format: ".2f" } },
      },
      { mark: { type: "rule", strokeWidth: 1 }, encoding: { x: { datum: 1 } } },
    ],
    config: { axis: { labelFontSize: 10 } },
  });
}

/** Returns the title of a picture, with the machine of the run below it. */
export function titleOf(text: string, { machine, date }: Pick<Run, "machine" | "date">): object {
  return { ...{ text, subtitle: `${machine}, ${date}` }, ...{ anchor: "start", fontSize: 14, offset: 12 } };
}

/** Draws a picture of vega-lite as SVG, on white and with a margin. */
export function drawn(spec: object): Promise<string> {
  const whole = { background: "white", padding: 12, ...spec } as unknown as TopLevelSpec;
  resetSVGDefIds(); // so that a picture does not depend on the pictures before it
  return new View(parse(compile(whole).spec), { renderer: "none" }).toSVG();
}
