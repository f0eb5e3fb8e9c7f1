/** Logs of training runs that never happened, for the tests of reports. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

/** Options of a log. */
export interface LogOptions {
  steps: number;
  /** Factor of the loss. */
  scale?: number;
  /** Step up to which a first session went, and the step from which a second one began. */
  resume?: readonly [end: number, from: number];
  samples?: boolean;
}

/** Writes the log of a run into a folder. A step takes a second. */
export function writeRun(folder: string, { steps, scale = 1, resume, samples = true }: LogOptions): void {
  const lines: object[] = [];
  let clock = Date.UTC(2026, 0, 1);
  const add = (type: string, step: number, fields: object = {}): void => {
    lines.push({ time: new Date(clock).toISOString(), type, step, ...fields });
  };
  const session = (from: number, to: number, attempt: number): void => {
    add("started", from);
    for (let step = from + 1; step <= to; step++) {
      clock += 1000;
      const loss = scale * (1 + 3 * Math.exp(-step / 20)) + attempt / 100;
      const gradientNorm = step === 7 ? 1e9 : 1 + Math.sin(step);
      add("step", step, { loss, lr: 1e-3 / step, gradientNorm, skipped: step === 7, tokensPerSecond: 1000 + step });
      if (step % 10 === 0) {
        add("evaluation", step, { loss: loss + 0.1, perplexity: Math.exp(loss + 0.1), tokens: 100 });
        if (samples) add("sample", step, { prompt: "Once", text: ` <b>upon</b> step ${step}` });
      }
    }
  };
  if (resume) {
    session(0, resume[0], 0);
    // An hour passes before the run goes on.
    clock += 3_600_000;
    session(resume[1], steps, 1);
  } else session(0, steps, 0);
  add("finished", steps, { seconds: steps });
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, "log.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
}
