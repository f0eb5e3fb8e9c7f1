import { parse, resetSVGDefIds, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

interface Axis {
  title: string;
  /** True if the scale is logarithmic, so that equal ratios are equal distances. */
  log?: boolean;
  /** Lowest and highest value shown. @default those of the data */
  domain?: [number, number];
}

/** A plot of lines over a common x axis. */
export interface Plot {
  title: string;
  x: Axis;
  y: Axis;
  /** Points [x, y] of each line, by its name. */
  lines: Record<string, readonly (readonly [number, number])[]>;
}

/** Draws a plot as an SVG picture. */
export function svgOf({ title, x, y, lines }: Plot): Promise<string> {
  const names = Object.keys(lines);
  const values = names.flatMap((name) => lines[name]!.map(([x, y]) => ({ name, x, y })));
  const points = Math.max(...Object.values(lines).map((line) => line.length)) <= 16;
  const axisOf = ({ title, log = false, domain }: Axis): object => ({
    type: "quantitative",
    title,
    scale: { ...(log ? { type: "log", base: 2 } : { zero: false }), nice: !domain, ...(domain && { domain }) },
    axis: { ...(log && { format: "," }), grid: true, gridOpacity: 0.4, ...(!log && { tickCount: 8 }) },
  });
  const spec = {
    title: { text: title, anchor: "start", fontSize: 14, offset: 12 },
    width: 560,
    height: 320,
    background: "white",
    padding: 12,
    data: { values },
    mark: { type: "line", point: points, strokeWidth: 2, clip: true },
    encoding: {
      x: { field: "x", ...axisOf(x) },
      y: { field: "y", ...axisOf(y) },
      color: { field: "name", type: "nominal", sort: names, scale: { scheme: "tableau10" }, title: null },
    },
    config: { legend: { labelFontSize: 12, labelLimit: 400 }, axis: { labelFontSize: 11, titleFontSize: 12 } },
  } as TopLevelSpec;
  resetSVGDefIds(); // so that a picture does not depend on the pictures before it
  return new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
}
