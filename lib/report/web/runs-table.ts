// The table of the runs, which compares them by their last and best values, and chooses those that are shown.
import { byId, element } from "../../web/dom.js";
import { dashesOf, type ShownRun } from "./data.js";
import { seconds, short, whole } from "./format.js";

const heads = ["Run", "Steps", "Last loss", "Best validation loss", "Perplexity", "Tokens/s", "Time", "State"];

/** Fills the table. `change` is called when the reader shows or hides a run. */
export function showRuns(runs: readonly ShownRun[], change: () => void): void {
  const head = element("tr", {}, ...heads.map((textContent) => element("th", { scope: "col", textContent })));
  byId("runs").replaceChildren(
    element("thead", {}, head),
    element("tbody", {}, ...runs.map((run) => rowOf(run, change))),
  );
}

function rowOf(run: ShownRun, change: () => void): HTMLTableRowElement {
  const { steps, evaluations } = run;
  const box = element("input", { type: "checkbox", checked: true });
  box.onchange = () => {
    run.visible = box.checked;
    change();
  };
  const name = element("th", { scope: "row" }, element("label", {}, box, swatch(run), ` ${run.label}`));
  const best = evaluations.loss.reduce<number>((at, loss, i) => (at < 0 || loss < evaluations.loss[at]! ? i : at), -1);
  const bestLoss = evaluations.loss[best];
  const cells = [
    whole(steps.step.at(-1)),
    short(steps.loss.at(-1)),
    bestLoss === undefined ? "–" : `${short(bestLoss)} (step ${whole(evaluations.step[best])})`,
    bestLoss === undefined ? "–" : short(Math.exp(bestLoss)),
    whole(median(steps.tokensPerSecond)),
    seconds(steps.seconds.at(-1)),
    stateOf(run),
  ];
  return element("tr", {}, name, ...cells.map((textContent) => element("td", { textContent })));
}

/** Returns a short piece of a run's curves. */
function swatch(run: ShownRun): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [name, value] of Object.entries({ class: "swatch", viewBox: "0 0 28 8", "aria-hidden": "true" }))
    svg.setAttribute(name, value);
  line.setAttribute("d", "M0 4h28");
  line.setAttribute("stroke-dasharray", dashesOf(run).join(" "));
  line.style.stroke = `var(--run-${run.index % 8})`;
  svg.append(line);
  return svg;
}

function stateOf({ state, resumed, skipped }: ShownRun): string {
  const parts = [state === "running" ? "running or killed" : state];
  if (resumed.length > 0) parts.push(`resumed at ${resumed.map((step) => whole(step)).join(", ")}`);
  if (skipped.length > 0) parts.push(`${skipped.length} ${skipped.length === 1 ? "step" : "steps"} skipped`);
  return parts.join("; ");
}

function median(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}
