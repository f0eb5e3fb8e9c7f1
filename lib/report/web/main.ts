// The report of training runs: a table that compares them, curves, and samples.
import { byId } from "../../web/dom.js";
import { keepTheme } from "../../web/theme.js";
import { Chart, type ChartChoices, type ChartSpec } from "./chart.js";
import { readData, type ShownRun } from "./data.js";
import { short, whole } from "./format.js";
import { showRuns } from "./runs-table.js";
import { showSamples } from "./samples.js";

type Name = Exclude<keyof ShownRun["steps"], "step" | "seconds">;
const ofSteps =
  (name: Name): ChartSpec["curve"] =>
  ({ steps }, axis) => ({ x: steps[axis], y: steps[name] });

const specs: readonly ChartSpec[] = [
  { title: "Training loss", curve: ofSteps("loss"), smoothed: true, loss: true, format: short },
  {
    title: "Validation loss",
    curve: ({ evaluations }, axis) => ({ x: evaluations[axis], y: evaluations.loss }),
    loss: true,
    format: short,
  },
  { title: "Learning rate", curve: ofSteps("lr"), format: short },
  {
    title: "Norm of the gradients",
    curve: (run, axis) =>
      run.steps.gradientNorm.some((norm) => norm !== null) ? ofSteps("gradientNorm")(run, axis) : null,
    smoothed: true,
    format: short,
  },
  { title: "Tokens per second", curve: ofSteps("tokensPerSecond"), format: whole },
];

const { version, runs } = readData();
const form = byId("controls", HTMLFormElement);
const charts = specs.map((spec) => new Chart(spec));

function choices(): ChartChoices {
  const given = new FormData(form);
  const smoothing = Number(given.get("smoothing"));
  byId("smoothing-value").textContent = smoothing.toFixed(2);
  return { axis: given.get("axis") as ChartChoices["axis"], smoothing, log: given.has("log") };
}

function draw(): void {
  for (const chart of charts) chart.draw(runs, choices());
}

function reset(): void {
  for (const chart of charts) chart.reset();
}

byId("charts").append(...charts.map(({ root }) => root));
byId("footer").textContent = `Made by heed ${version}. Curves are drawn by uPlot (MIT licence, © Leon Sorokin).`;
const names = runs.map(({ label }) => label).join(", ");
if (names !== "") document.title = `Training report: ${names}`;
const showTexts = showSamples(runs);
showRuns(runs, () => {
  draw();
  showTexts();
});
form.addEventListener("input", draw);
form.addEventListener("submit", (event) => event.preventDefault());
byId("reset").onclick = reset;
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") reset();
});
document.addEventListener("themechange", draw);
// This also draws the charts for the first time.
keepTheme({ read: () => undefined, write: () => undefined });
