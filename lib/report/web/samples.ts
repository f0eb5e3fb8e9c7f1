// What the models wrote during their training: a slider goes through the steps.
import { byId, element } from "../../web/dom.js";
import type { ShownRun } from "./data.js";

/** Shows the samples of the visible runs, and returns a function that shows them again. */
export function showSamples(runs: readonly ShownRun[]): () => void {
  const steps = [...new Set(runs.flatMap(({ samples }) => samples.map(({ step }) => step)))].sort((a, b) => a - b);
  byId("samples").hidden = steps.length === 0;
  const choice = byId("sample-choice", HTMLInputElement);
  choice.max = String(Math.max(0, steps.length - 1));
  choice.value = choice.max;
  const show = (): void => {
    const step = steps[Number(choice.value)];
    if (step === undefined) return;
    byId("sample-step").textContent = step.toLocaleString("en");
    choice.ariaValueText = `after step ${step}`;
    const shown = runs.filter(({ visible, samples }) => visible && samples.some((sample) => sample.step <= step));
    byId("sample-texts").replaceChildren(...shown.map((run) => sampleOf(run, step)));
  };
  choice.oninput = show;
  show();
  return show;
}

/** Returns the latest sample of a run up to a step. */
function sampleOf({ label, samples }: ShownRun, step: number): HTMLElement {
  const sample = samples.findLast((one) => one.step <= step)!;
  const place = sample.step === step ? label : `${label}, after step ${sample.step.toLocaleString("en")}`;
  return element(
    "article",
    {},
    element("h3", { textContent: place }),
    element("p", { className: "sample" }, element("b", { textContent: sample.prompt }), sample.text),
  );
}
