// The checkpoints of a run: when a save may fail, which old checkpoints make room, and to which the run may return.
import { HeedError } from "../util/errors.js";
import type { FolderLock } from "../formats/folder-lock.js";
import type { Optimizer } from "../optim/optimizer.js";
import { type CheckpointContent, saveCheckpoint } from "./checkpoint.js";
import type { DataParallel } from "./data-parallel.js";
import type { CheckpointEvent, CheckpointFailedEvent } from "./events.js";
import type { TrainingSettings } from "./training-options.js";

/** A save of a run. */
export interface Save {
  readonly folder: string;
  /** Number of steps done. */
  readonly step: number;
  /** True for the checkpoint of the best evaluation, which has a folder of its own. */
  readonly best?: boolean;
  /** True at the end of a run, where a failure ends it. */
  readonly last?: boolean;
}

/** Saves the checkpoints of a run. */
export class RunCheckpoints {
  /** Last step that was saved, in this session or before; null if none was. */
  saved: number | null = null;
  readonly #settings: Pick<TrainingSettings, "keep" | "maxFailures">;
  readonly #parallel: DataParallel;
  readonly #optimizer: Optimizer;
  readonly #content: () => CheckpointContent;
  /** Paths of incomplete checkpoints, which the first save treats as the oldest. */
  #spoilt: readonly string[] = [];
  /** Paths of checkpoints to which the run has returned since its last save. */
  #returnedTo: string[] = [];
  /** Number of saves in a row that have failed. */
  #failures = 0;
  /** Lock of the run's folder; null in processes that save nothing. */
  lock: FolderLock | null = null;

  /** `content` returns what is saved. Only the first process calls it; the others serve the states of their optimisers. */
  constructor(
    settings: Pick<TrainingSettings, "keep" | "maxFailures">,
    parallel: DataParallel,
    optimizer: Optimizer,
    content: () => CheckpointContent,
  ) {
    this.#settings = settings;
    this.#parallel = parallel;
    this.#optimizer = optimizer;
    this.#content = content;
  }

  /** Notes that the run continues from a checkpoint of this step, and which later ones are incomplete. */
  resume(step: number, spoilt: readonly string[]): void {
    this.saved = step;
    this.#spoilt = spoilt;
  }

  /** Paths of checkpoints to which the run must not return. */
  get except(): string[] {
    return [...this.#spoilt, ...this.#returnedTo];
  }

  /** Notes that the run has returned to a checkpoint. */
  returned(path: string, step: number): void {
    this.#returnedTo.push(path);
    this.saved = step;
  }

  /** Saves a checkpoint. A failure ends the run at its end, or if it is one of many in a row. */
  async *save({
    folder,
    step,
    best = false,
    last = false,
  }: Save): AsyncGenerator<CheckpointEvent | CheckpointFailedEvent, void, undefined> {
    const { keep, maxFailures } = this.#settings;
    const { ranks } = this.#parallel;
    const check = (): Promise<void> => this.lock?.check() ?? Promise.resolve();
    const options = best ? { keep: 1, check } : { keep, spoilt: this.#spoilt, check };
    const failed: { error?: HeedError } = {};
    const write = async (): Promise<{ at: string } | { message: string }> => {
      try {
        return { at: await this.#parallel.saving(() => saveCheckpoint(folder, this.#content(), options)) };
      } catch (error) {
        if (!(error instanceof HeedError) || error.code !== "ERR_IO") throw error;
        failed.error = error;
        return { message: error.message };
      }
    };
    const outcome = await ranks.onFirst(write, () => this.#parallel.serveStates(this.#optimizer));
    if ("message" in outcome) {
      const { message } = outcome;
      const failures = ++this.#failures;
      yield { type: "checkpoint-failed", step, message, failures };
      if (last || failures >= maxFailures) throw ranks.know(failed.error ?? new HeedError("ERR_IO", message));
      return;
    }
    this.#failures = 0;
    if (!best) {
      this.#spoilt = [];
      this.#returnedTo = [];
      this.saved = step;
    }
    yield { type: "checkpoint", step, path: outcome.at, best };
  }
}
