// A chart of one curve for each run, drawn by uPlot. It can be read with the keyboard too: the arrow keys move through
// its points, and the values of the point are written below it.
import UPlot from "uplot";
import { element } from "../../web/dom.js";
import { colourOf, dashesOf, type ShownRun } from "./data.js";
import { smooth } from "./smooth.js";

/** Curve of a run: its places on the horizontal axis and its values. */
export interface Curve {
  readonly x: readonly number[];
  readonly y: readonly (number | null)[];
}

/** Description of a chart. */
export interface ChartSpec {
  readonly title: string;
  /** Returns the curve of a run; null if it has none. */
  readonly curve: (run: ShownRun, axis: "step" | "seconds") => Curve | null;
  /** True if the curve is noisy, so that it is drawn smoothed, with its values pale behind it. */
  readonly smoothed?: boolean;
  /** True if the axis may be logarithmic. */
  readonly loss?: boolean;
  readonly format: (value: number) => string;
}

/** Choices of the reader that hold for all charts. */
export interface ChartChoices {
  readonly axis: "step" | "seconds";
  readonly smoothing: number;
  readonly log: boolean;
}

const height = 240;
const sync = UPlot.sync("runs");

/** A chart on the page. */
export class Chart {
  readonly root: HTMLElement;
  readonly #spec: ChartSpec;
  readonly #plot = element("div", { className: "plot", tabIndex: 0 });
  readonly #values = element("p", { className: "values" });
  #uplot: UPlot | null = null;
  /** Runs whose curves are drawn, each with the position of its series. */
  #series: { run: ShownRun; at: number }[] = [];

  constructor(spec: ChartSpec) {
    this.#spec = spec;
    this.root = element(
      "section",
      { className: "chart" },
      element("h2", { textContent: spec.title }),
      this.#plot,
      this.#values,
    );
    this.#plot.role = "img";
    this.#values.ariaLive = "polite";
    this.#plot.addEventListener("keydown", (event) => this.#move(event));
    new ResizeObserver(() => this.#uplot?.setSize({ width: this.#plot.clientWidth, height })).observe(this.#plot);
  }

  /** Draws the curves of the visible runs. The chart disappears if there are none. */
  draw(runs: readonly ShownRun[], choices: ChartChoices): void {
    this.#uplot?.destroy();
    this.#uplot = null;
    this.#values.textContent = "";
    const curves = runs
      .filter(({ visible }) => visible)
      .map((run) => ({ run, curve: this.#spec.curve(run, choices.axis) }))
      .filter((one): one is { run: ShownRun; curve: Curve } => (one.curve?.x.length ?? 0) > 0);
    this.root.hidden = curves.length === 0;
    if (curves.length === 0) return;
    const isSmoothed = (this.#spec.smoothed ?? false) && choices.smoothing > 0;
    const tables = curves.map(({ curve: { x, y } }): UPlot.AlignedData => {
      const values = y as (number | null)[];
      return isSmoothed ? [x as number[], smooth(values, choices.smoothing), values] : [x as number[], values];
    });
    this.#series = curves.map(({ run }, i) => ({ run, at: 1 + i * (isSmoothed ? 2 : 1) }));
    const series = curves.flatMap(({ run }) => this.#seriesOf(run, isSmoothed));
    this.#uplot = new UPlot(this.#options(series, choices), UPlot.join(tables), this.#plot);
    this.#plot.ariaLabel = this.#summary(curves);
  }

  /** Shows all steps. */
  reset(): void {
    const x = this.#uplot?.data[0];
    if (x && x.length > 0) this.#uplot!.setScale("x", { min: x[0]!, max: x.at(-1)! });
  }

  #seriesOf(run: ShownRun, isSmoothed: boolean): UPlot.Series[] {
    const stroke = colourOf(run);
    const common = { spanGaps: true, points: { show: false }, dash: dashesOf(run) };
    const line = { ...common, label: run.label, stroke, width: 2 };
    return isSmoothed ? [line, { ...common, label: "", stroke, alpha: 0.25, width: 1 }] : [line];
  }

  #options(series: UPlot.Series[], { axis, log }: ChartChoices): UPlot.Options {
    const style = getComputedStyle(document.documentElement);
    const colour = (name: string): string => {
      const probe = element("span");
      probe.style.color = `var(${name})`;
      document.body.append(probe);
      const { color } = getComputedStyle(probe);
      probe.remove();
      return color;
    };
    const [text, line] = [colour("--muted"), colour("--line")];
    const font = `12px ${style.fontFamily}`;
    const grid = { stroke: line, width: 1 };
    const { format, loss = false } = this.#spec;
    return {
      width: this.#plot.clientWidth,
      height,
      series: [{}, ...series],
      legend: { show: false },
      cursor: { sync: { key: sync.key }, points: { size: 7 } },
      // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- uPlot's const enum exists only as a type.
      scales: { x: { time: false }, y: { distr: loss && log ? 3 : 1 } },
      axes: [
        {
          stroke: text,
          grid,
          ticks: grid,
          font,
          size: 32,
          values: (_, ticks) => ticks.map((tick) => placeText(tick, axis)),
        },
        {
          stroke: text,
          grid,
          ticks: grid,
          font,
          size: 64,
          values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick))),
        },
      ],
      hooks: { setCursor: [(plot) => this.#show(plot, axis)] },
    };
  }

  /** Writes the values at the cursor. */
  #show(plot: UPlot, axis: ChartChoices["axis"]): void {
    const { idx } = plot.cursor;
    if (idx === null || idx === undefined) {
      this.#values.textContent = "";
      return;
    }
    const parts = this.#series.map(({ run, at }) => {
      const value = nearest(plot.data[at] as (number | null)[], idx);
      return `${run.label}: ${value === null ? "none" : this.#spec.format(value)}`;
    });
    const place = placeText(plot.data[0][idx]!, axis);
    this.#values.textContent = `${axis === "step" ? `Step ${place}` : `${place} minutes`} · ${parts.join(" · ")}`;
  }

  /** Moves the cursor with the keyboard. */
  #move(event: KeyboardEvent): void {
    const plot = this.#uplot;
    if (!plot) return;
    if (event.key === "Escape") {
      plot.setCursor({ left: -10, top: -10 });
      return;
    }
    const x = plot.data[0];
    const { min = x[0]!, max = x.at(-1)! } = plot.scales.x!;
    const [first, last] = [x.findIndex((value) => value >= min), x.findLastIndex((value) => value <= max)];
    const at = plot.cursor.idx ?? -1;
    // Some dozens of presses reach the other end.
    const stride = Math.max(1, Math.round((last - first) / 60));
    const places: Record<string, number> = {
      ArrowLeft: at < 0 ? last : at - stride,
      ArrowRight: at < 0 ? first : at + stride,
      Home: first,
      End: last,
    };
    const place = places[event.key];
    if (place === undefined) return;
    event.preventDefault();
    const index = Math.min(last, Math.max(first, place));
    const cursor = { left: plot.valToPos(x[index]!, "x"), top: plot.bbox.height / devicePixelRatio / 2 };
    // The last argument, which uPlot's types lack, moves the cursors of the other charts, too.
    (plot as { setCursor: (cursor: object, fire: boolean, publish: boolean) => void }).setCursor(cursor, true, true);
  }

  /** Returns what a reader who does not see the chart has to know. */
  #summary(curves: readonly { run: ShownRun; curve: Curve }[]): string {
    const parts = curves.map(({ run, curve: { y } }) => {
      const known = y.filter((value) => value !== null && Number.isFinite(value)) as number[];
      if (known.length === 0) return `${run.label} has no values`;
      return `${run.label} from ${this.#spec.format(known[0]!)} to ${this.#spec.format(known.at(-1)!)}`;
    });
    return `${this.#spec.title}: ${parts.join("; ")}`;
  }
}

/** Returns the value at a position, or the one before it if the run has none there. */
function nearest(values: readonly (number | null | undefined)[], at: number): number | null {
  for (let i = at; i >= 0; i--) {
    const value = values[i];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

/** Returns a place on the horizontal axis as a text: a step, or minutes. */
function placeText(place: number, axis: ChartChoices["axis"]): string {
  return axis === "step" ? place.toLocaleString("en") : (place / 60).toLocaleString("en", { maximumFractionDigits: 2 });
}
