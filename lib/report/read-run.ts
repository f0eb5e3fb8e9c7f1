// Reads what a training run has logged: the file log.jsonl of `heed train --out`, or the one of a trainer's option `log`.
import { stat } from "node:fs/promises";
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { naming } from "../util/files.js";
import { linesOf } from "../util/lines.js";
import type { TrainingRun } from "./training-run.js";

/** Line of a log. */
interface Line {
  readonly type: string;
  readonly step: number;
  readonly time: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

/**
 * Resolves to what a run has logged. A run that was resumed has done the steps after its checkpoint twice; the later
 * ones count. A line that a killed process left unfinished is skipped.
 *
 * @param source the run's folder, which contains log.jsonl, or the log itself
 *
 * @example
 * const data = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
 * using trainer = new Trainer({ model: gpt, data, batchSize: 2, steps: 3, log: "runs/first/log.jsonl" });
 * await trainer.train();
 * const { steps } = await readRun("runs/first");
 * console.log(steps.loss);
 *
 * @throws ERR_IO if the log cannot be read; ERR_FORMAT if it is malformed. The message names the file and the line.
 */
export async function readRun(source: string): Promise<TrainingRun> {
  const isFolder = await naming(source, async () => (await stat(source)).isDirectory());
  const file = isFolder ? path.join(source, "log.jsonl") : source;
  const folder = path.dirname(path.resolve(file));
  return naming(file, async () => {
    const run = new RunReader(path.basename(folder));
    let number = 0;
    // A broken line is an error unless it is the last one.
    let broken: HeedError | null = null;
    for await (const line of linesOf(file)) {
      number++;
      if (line.trim() === "") continue;
      if (broken) throw broken;
      const event = lineOf(line);
      if (event) run.add(event);
      else
        broken = new HeedError(
          "ERR_FORMAT",
          `${file}:${number}: expected an event of a training run as JSON, with type, step and time`,
        );
    }
    return run.end();
  });
}

function lineOf(text: string): Line | null {
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch {
    return null;
  }
  const { type, step, time } = Object(fields) as Record<string, unknown>;
  const milliseconds = typeof time === "string" ? Date.parse(time) : NaN;
  if (typeof type !== "string" || !Number.isSafeInteger(step) || Number.isNaN(milliseconds)) return null;
  return { type, step: step as number, time: milliseconds / 1000, fields: fields as Record<string, unknown> };
}

/** A line with the seconds of the run at its time. */
interface Timed extends Line {
  readonly seconds: number;
}

/** Puts the lines of a log together. */
class RunReader {
  readonly #name: string;
  #kept: Timed[] = [];
  #resumed: number[] = [];
  /** Seconds of the sessions before this one, up to the step from which it began. */
  #before = 0;
  #began = NaN;
  #state: TrainingRun["state"] = "running";

  constructor(name: string) {
    this.#name = name;
  }

  add(line: Line): void {
    const { type, step, time } = line;
    if (Number.isNaN(this.#began)) this.#began = time;
    if (type === "started") {
      this.#state = "running";
      // What came after the step at which the session begins is done again.
      this.#kept = this.#kept.filter((one) => one.step <= step);
      this.#resumed = this.#resumed.filter((one) => one < step);
      if (step > 0) this.#resumed.push(step);
      this.#before = this.#kept.at(-1)?.seconds ?? 0;
      this.#began = time;
    } else if (type === "finished" || type === "aborted") this.#state = type;
    else this.#kept.push({ ...line, seconds: this.#before + Math.max(0, time - this.#began) });
  }

  end(): TrainingRun {
    const of = (type: string): Timed[] => latest(this.#kept.filter((one) => one.type === type));
    const [steps, evaluations] = [of("step"), of("evaluation")];
    const numbers = (lines: readonly Timed[], name: string): number[] =>
      lines.map(({ fields }) => (typeof fields[name] === "number" ? fields[name] : NaN));
    return {
      name: this.#name,
      steps: {
        step: steps.map(({ step }) => step),
        seconds: steps.map(({ seconds }) => seconds),
        loss: numbers(steps, "loss"),
        lr: numbers(steps, "lr"),
        gradientNorm: numbers(steps, "gradientNorm").map((value) => (Number.isNaN(value) ? null : value)),
        tokensPerSecond: numbers(steps, "tokensPerSecond"),
      },
      evaluations: {
        step: evaluations.map(({ step }) => step),
        seconds: evaluations.map(({ seconds }) => seconds),
        loss: numbers(evaluations, "loss"),
      },
      samples: of("sample").map(({ step, fields: { prompt, text } }) => ({
        ...{ step, prompt: typeof prompt === "string" ? prompt : "", text: typeof text === "string" ? text : "" },
      })),
      skipped: steps.filter(({ fields }) => fields.skipped === true).map(({ step }) => step),
      resumed: this.#resumed,
      state: this.#state,
    };
  }
}

/** Returns the last line of each step, in the order of steps. */
function latest(lines: readonly Timed[]): Timed[] {
  const byStep = new Map(lines.map((line) => [line.step, line]));
  return [...byStep.values()].sort((a, b) => a.step - b.step);
}
