// The report of training runs: the page of web/, which the build puts into dist/ as one file, with the runs' data inside.
import { readFileSync } from "node:fs";
import { HeedError } from "../util/errors.js";
import { version } from "../util/version.js";
import type { TrainingRun } from "./training-run.js";
import { thinned } from "./thinned.js";

/** Matches the element of the page that contains the runs, which are none. */
const dataElement = /(<script type="application\/json" id="data">)[^<]*(<\/script>)/;

/** Largest number of points of a curve. */
const mostPoints = 4000;

/**
 * Returns a page in HTML that shows training runs and compares them: curves of losses, learning rates, norms of gradients
 * and speeds, and samples over time. It is one file, which loads nothing else. Curves of more than 4000 steps show means
 * of neighbouring steps.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * const data = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
 * using trainer = new Trainer({ model: gpt, data, batchSize: 2, steps: 3, log: "runs/second/log.jsonl" });
 * await trainer.train();
 * await writeFile("report.html", trainingReport([await readRun("runs/second")]));
 *
 * @throws ERR_ARGUMENT if there are no runs.
 * @throws ERR_IO if heed was built without the page.
 */
export function trainingReport(runs: readonly TrainingRun[]): string {
  if (!Array.isArray(runs) || runs.length === 0)
    throw new HeedError("ERR_ARGUMENT", "trainingReport: expected at least one run, got none");
  const data = { version: version(), runs: runs.map((run: TrainingRun) => thinned(run, mostPoints)) };
  // Six digits are more than a screen shows. A "<" might end the script that the data lies in.
  const json = JSON.stringify(data, (_, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value,
  ).replaceAll("<", "\\u003c");
  return readPage().replace(dataElement, (_, begin: string, end: string) => begin + json + end);
}

/** Returns the page, from the folder that contains lib/ and dist/. */
function readPage(): string {
  const file = new URL("../../dist/report/web/index.html", import.meta.url);
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new HeedError("ERR_IO", `trainingReport: ${(cause as Error).message}; run npm run build:web`, { cause });
  }
}
