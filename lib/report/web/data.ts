// The runs that the page shows, which lie in the page itself.
import { byId } from "../../web/dom.js";
import type { TrainingRun } from "../training-run.js";

/** Content of the page. */
interface ReportData {
  readonly version?: string;
  readonly runs: readonly TrainingRun[];
}

/** A run, with what tells it apart from the others on the page. */
export interface ShownRun extends TrainingRun {
  /** Position of the run in the report, by which its colour and its dashes are chosen. */
  readonly index: number;
  /** Name that no other run has. */
  readonly label: string;
  visible: boolean;
}

/** Returns the page's content. */
export function readData(): { version: string; runs: ShownRun[] } {
  const { version = "", runs } = JSON.parse(byId("data").textContent) as ReportData;
  const times = new Map<string, number>();
  const shown = runs.map((run, index) => {
    const count = (times.get(run.name) ?? 0) + 1;
    times.set(run.name, count);
    return { ...run, index, label: count > 1 ? `${run.name} (${count})` : run.name, visible: true };
  });
  return { version, runs: shown };
}

/** Number of colours in style.css. */
const colours = 8;

/** Returns the colour of a run as the theme has it. */
export function colourOf({ index }: ShownRun): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--run-${index % colours})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/** Returns the dashes of a run's curves, so that curves can be told apart without seeing colours. */
export function dashesOf({ index }: ShownRun): number[] {
  return [[], [6, 4], [2, 3], [10, 3, 2, 3]][index % 4]!;
}
