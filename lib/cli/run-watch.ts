// What a training run writes for its reader besides checkpoints: event files of TensorBoard, and samples.
import { HeedError } from "../util/errors.js";
import type { FolderLock } from "../formats/folder-lock.js";
import { generate } from "../generate/generate-text.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { TensorBoard } from "../report/tensorboard.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { TrainerEvent } from "../train/events.js";
import { JsonLog } from "../train/log.js";
import { asUsage } from "./failure.js";

/** Number of tokens of a sample. */
const sampleTokens = 100;

/** Parts of a run that watching it needs. */
export interface WatchedRun {
  readonly model: CausalDecoder;
  readonly tokenizer: Tokenizer;
  /** Log of the run, to which samples are added. */
  readonly log: string;
  /** Lock of the run's folder. */
  readonly lock: FolderLock | null;
  /** Text that samples continue; undefined if there are none. */
  readonly sample: string | undefined;
  readonly seed: number;
  /** Folder for event files; undefined if there are none. */
  readonly tensorboard: string | undefined;
  /** Number of steps that were done before. */
  readonly step: number;
  /** True if the run evaluates its model; samples are then made after evaluations, and otherwise after checkpoints. */
  readonly evaluates: boolean;
}

/** Writes event files and samples while a run goes on. */
export class RunWatch implements Disposable {
  readonly #run: WatchedRun;
  readonly #board: TensorBoard | null;
  readonly #log: JsonLog | null;

  /** @throws UsageError if the tokenizer cannot encode the text that samples continue; ERR_IO if a file cannot be written. */
  constructor(run: WatchedRun) {
    this.#run = run;
    const { sample } = run;
    // A mistake must not show only at the first evaluation.
    if (sample !== undefined) asUsage(() => run.tokenizer.encode(sample));
    this.#board = run.tensorboard === undefined ? null : new TensorBoard(run.tensorboard, { step: run.step });
    this.#log = run.sample === undefined ? null : new JsonLog(run.log);
  }

  /** Takes an event of the run. The run waits until the promise resolves. */
  async event(event: TrainerEvent): Promise<void> {
    this.#board?.event(event);
    if (this.#log && event.type === (this.#run.evaluates ? "evaluation" : "checkpoint")) await this.#sample(event.step);
  }

  [Symbol.dispose](): void {
    this.#board?.[Symbol.dispose]();
    this.#log?.[Symbol.dispose]();
  }

  async #sample(step: number): Promise<void> {
    const { model, tokenizer, sample: prompt = "", seed } = this.#run;
    try {
      const options = { maxTokens: sampleTokens, temperature: 0.8, seed, overflow: "slide" } as const;
      const { text } = await generate(model, tokenizer, prompt, options);
      this.#run.lock?.checkSync();
      this.#log!.write({ time: new Date().toISOString(), type: "sample", step, prompt, text });
      this.#board?.text("sample", prompt + text, step);
    } catch (error) {
      // A model that has diverged writes nothing, and the run decides itself what follows.
      if (!(error instanceof HeedError) || error.code !== "ERR_DIVERGED") throw error;
    }
  }
}
