import { HeedError } from "../errors.js";
import { type FolderLock, lockFolder } from "../formats/folder-lock.js";
import { AdamW } from "../optim/adamw.js";
import { scope } from "../scope.js";
import { batchLoss, countedTargets } from "./batch-loss.js";
import { Batches } from "./batches.js";
import { type OptimizerState, saveCheckpoint } from "./checkpoint.js";
import { evaluate, type Evaluation } from "./evaluate.js";
import type { StepEvent, TrainerCallbacks, TrainerEvent, TrainingResult } from "./events.js";
import { JsonLog } from "./log.js";
import { Pace } from "./pace.js";
import { advanced, type DataPosition, firstPosition } from "./position.js";
import { checkTrainerOptions, type TrainerOptions, type TrainerSettings } from "./trainer-options.js";
import type { TrainableModel } from "./trainable-model.js";

/** Step whose update is enqueued on the device and whose result has not been read. */
interface PendingStep {
  step: number;
  lr: number;
  loss: number;
  /** Global norm of the gradients, which tells whether the update was skipped; null without clipping. */
  gradientNorm: Promise<number | null>;
}

/**
 * Returns a promise that is awaited one step later, or never if the run ends before. Its rejection alone must not end
 * the process.
 */
function unawaited<T>(read: Promise<T>): Promise<T> {
  read.catch(() => undefined);
  return read;
}

/**
 * Trainer of a model on a stream of tokens.
 *
 * The device does not wait for the host: the loss is read while the backward pass runs, and the next step is enqueued
 * before the update has finished. A step whose loss cannot be read or is not finite changes nothing: parameters and
 * moments stay those of the step before. Batches, dropout masks and the learning rate follow from the seeds and the
 * step, so that a run resumed from a checkpoint continues bit for bit.
 *
 * @example
 * const data = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
 * using trainer = new Trainer({ model: gpt, data, batchSize: 2, steps: 3 });
 * for await (const event of trainer.run()) if (event.type === "step") console.log(event.step, event.loss);
 */
export class Trainer implements Disposable {
  readonly model: TrainableModel;
  readonly optimizer: AdamW;
  readonly #options: TrainerOptions;
  readonly #settings: TrainerSettings;
  readonly #batches: Batches;
  readonly #pace: Pace;
  /** Step and position in the data at which this session begins. */
  readonly #start: { step: number; position: DataPosition };
  /** State of the optimiser that `run` loads first; null once it is loaded. */
  #moments: OptimizerState | null = null;
  #step = 0;
  /** Step that is enqueued and whose gradients' norm has not been read. */
  #pending: PendingStep | null = null;
  /** Number of updates in a row that were skipped. */
  #skips = 0;
  /** Last step that was evaluated, in this session or before. */
  #evaluated: number | null = null;
  /** Last step that was saved. */
  #saved: number | null = null;
  /** Paths of incomplete checkpoints, which the first save treats as the oldest. */
  #spoilt: readonly string[] = [];
  /** Number of saves in a row that have failed. */
  #failures = 0;
  #running = false;

  /**
   * @throws ERR_ARGUMENT if an option has the wrong type or value.
   * @throws ERR_RANGE if a number is out of range or there are too few tokens.
   * @throws ERR_FORMAT or ERR_SHAPE if the optimiser's state in `resume` does not fit the parameters to train.
   */
  constructor(options: TrainerOptions) {
    const settings = checkTrainerOptions(options);
    const { model, data, validation, resume } = options;
    const { batchSize, contextLength, accumulation, seed } = settings;
    this.#options = options;
    this.#settings = settings;
    this.#batches = new Batches(data, { batchSize, contextLength, seed });
    const position = firstPosition(this.#batches, resume?.state ?? null, options.newData ?? false);
    this.#start = { step: resume?.state.step ?? 0, position };
    // Fails now, and not after hours of training, if there are too few tokens to evaluate on.
    if (validation) new Batches(validation, { batchSize: 1, contextLength });
    this.#pace = new Pace(resume?.state.seconds ?? 0, batchSize * accumulation * contextLength);
    this.model = model;
    if (options.dtype && options.dtype !== model.dtype) model.dtype = options.dtype;
    if (model.gradientCheckpointing !== undefined)
      model.gradientCheckpointing = options.gradientCheckpointing ?? model.gradientCheckpointing;
    this.optimizer = new AdamW(model.namedParameters(), {
      ...options.optimizer,
      ...(options.maxNorm === null ? {} : { maxNorm: options.maxNorm ?? 1 }),
    });
    if (resume) {
      const { optimizer, state, skipped } = resume;
      this.optimizer.checkStateDict(optimizer.moments, optimizer.steps);
      this.#moments = optimizer;
      this.#step = this.#saved = state.step;
      this.#evaluated = state.evaluated ?? null;
      this.#spoilt = skipped.map(({ path }) => path);
    }
  }

  /** Number of steps done, over all sessions. */
  get step(): number {
    return this.#step;
  }

  /**
   * Trains until the run's end and yields its events. Leaving the loop early stops training after the current step,
   * without a checkpoint. Checkpoints saved before an error stay. An error of the device, as for a token outside of the
   * vocabulary, is thrown before it has changed the model, so that the caller may catch it and call `run()` again.
   *
   * @throws ERR_ARGUMENT if the trainer is already running.
   * @throws ERR_DIVERGED if a loss or a parameter is not finite, or too many updates in a row are skipped.
   * @throws ERR_BUSY if another run holds the lock of the checkpoint folder.
   * @throws ERR_IO if saving fails at the end or too often in a row, or the log cannot be written.
   */
  async *run(): AsyncGenerator<TrainerEvent, void, undefined> {
    if (this.#running)
      throw new HeedError("ERR_ARGUMENT", "Trainer is already running: await the first run() before you call it again");
    this.#running = true;
    const { checkpoint } = this.#options;
    let log: JsonLog | null = null;
    let lock: FolderLock | null = null;
    try {
      if (checkpoint && !checkpoint.lock) lock = await lockFolder(checkpoint.folder);
      log = this.#options.log === undefined ? null : new JsonLog(this.#options.log);
      log?.write({ time: new Date().toISOString(), type: "started", step: this.#step });
      if (this.#moments) await this.optimizer.loadInTurns(this.#moments.moments, this.#moments.steps);
      this.#moments = null;
      for await (const event of this.#events()) {
        log?.write({ time: new Date().toISOString(), ...event });
        yield event;
      }
      log?.flush();
    } finally {
      log?.[Symbol.dispose]();
      await lock?.release();
      this.#running = false;
    }
  }

  /**
   * Trains until the run's end and resolves to its result. It rejects with the errors that `run` throws.
   *
   * @example
   * const data = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
   * using trainer = new Trainer({ model: gpt, data, batchSize: 2, steps: 3 });
   * const result = await trainer.train({ onStep: ({ step, loss }) => console.log(step, loss) });
   */
  async train(callbacks: TrainerCallbacks = {}): Promise<TrainingResult> {
    const { onStep, onEvaluation, onCheckpoint, onCheckpointFailed } = callbacks;
    const result: TrainingResult = { step: this.#step, loss: null, evaluation: null, checkpoint: null, aborted: false };
    for await (const event of this.run()) {
      result.step = event.step;
      if (event.type === "step") {
        result.loss = event.loss;
        onStep?.(event);
      } else if (event.type === "evaluation") {
        const { loss, perplexity, tokens } = event;
        result.evaluation = { loss, perplexity, tokens };
        onEvaluation?.(event);
      } else if (event.type === "checkpoint") {
        result.checkpoint = event.path;
        onCheckpoint?.(event);
      } else if (event.type === "checkpoint-failed") onCheckpointFailed?.(event);
      else result.aborted = event.type === "aborted";
    }
    return result;
  }

  /** Frees the optimiser. The model stays. */
  dispose(): void {
    this.optimizer.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  async *#events(): AsyncGenerator<TrainerEvent, void, undefined> {
    const { steps, maxSeconds, evalEvery, saveEvery } = this.#settings;
    const { signal } = this.#options;
    const aborted = (): boolean => signal?.aborted ?? false;
    const over = (): boolean => this.#step >= steps || this.#pace.seconds >= maxSeconds;
    const due = (every: number): boolean => this.#step > 0 && this.#step % every === 0;
    this.model.train();
    this.#pace.start();
    // A run that had already ended is evaluated once more, so that its result is complete.
    if (over()) this.#evaluated = null;
    try {
      // Evaluations and checkpoints run before the next step, so that a resumed run makes up for those that an abort
      // left out.
      for (;;) {
        const [evaluates, saves] = [due(evalEvery), due(saveEvery)];
        if (evaluates || saves) {
          yield* this.#drain();
          if (evaluates && !aborted()) yield* this.#evaluate();
          if (saves) yield* this.#save();
          this.#pace.restart();
        }
        if (over() || aborted()) break;
        const loss = this.#differentiate();
        yield* this.#drain();
        this.#pending = this.#update(await loss);
      }
      yield* this.#drain();
      if (!aborted()) yield* this.#evaluate();
      yield* this.#save(true);
      if (aborted()) yield { type: "aborted", step: this.#step };
      else yield { type: "finished", step: this.#step, seconds: this.#pace.seconds };
    } finally {
      await this.#pending?.gradientNorm.catch(() => undefined);
      this.#pending = null;
      // Drops the gradients of a step that did not reach its update.
      this.optimizer.zeroGrad();
      this.#pace.stop();
    }
  }

  /** Waits for the pending update, if there is one, and yields its event. */
  async *#drain(): AsyncGenerator<TrainerEvent, void, undefined> {
    const pending = this.#pending;
    this.#pending = null;
    if (pending) yield await this.#settle(pending);
  }

  /**
   * Enqueues the forward and backward passes of a step; resolves to its loss, before the gradients are ready. Each
   * micro-batch counts by the number of its targets, so that the loss is the mean over all targets of the step, however
   * they are spread.
   */
  #differentiate(): Promise<number> {
    const { accumulation, batchSize, contextLength, documentStart } = this.#settings;
    const { model } = this;
    const shape = [batchSize, contextLength] as const;
    const losses: Promise<number>[] = [];
    const { sequences, microBatches } = this.#position;
    const batches = Array.from({ length: accumulation }, (_, i) =>
      this.#batches.take(sequences + i * batchSize, batchSize),
    );
    const counts = batches.map(countedTargets);
    // Without any target, loss and gradients are zero.
    const total = Math.max(
      1,
      counts.reduce((a, b) => a + b, 0),
    );
    for (const [i, batch] of batches.entries()) {
      model.dropoutSeeds.step = microBatches + i;
      scope(() => {
        const loss = batchLoss(model, batch, shape, documentStart);
        losses.push(unawaited(loss.item()));
        loss.backward(counts[i]! / total);
      });
    }
    const mean = (values: readonly number[]): number =>
      values.reduce((sum, loss, i) => sum + loss * counts[i]!, 0) / total;
    return unawaited(Promise.all(losses).then(mean));
  }

  /** Enqueues the update with a step's gradients. */
  #update(loss: number): PendingStep {
    const { optimizer } = this;
    if (!Number.isFinite(loss)) throw this.#diverged(`expected a finite loss, got ${loss} at step ${this.#step + 1}`);
    const lr = (optimizer.lr = this.#settings.schedule(this.#scheduleStep()));
    optimizer.step();
    const gradientNorm = unawaited(optimizer.gradientNorm?.item() ?? Promise.resolve(null));
    optimizer.zeroGrad();
    return { step: ++this.#step, lr, loss, gradientNorm };
  }

  #diverged(what: string): HeedError {
    const before = this.#saved !== null ? `; the last checkpoint is from step ${this.#saved}` : "";
    return new HeedError("ERR_DIVERGED", `Trainer: ${what}${before}`);
  }

  /**
   * Returns the step for which the schedule gives the learning rate. With a time limit, progress after the warm-up is
   * that of the steps or that of the time, whichever is further.
   */
  #scheduleStep(): number {
    const { steps, warmup, maxSeconds } = this.#settings;
    if (this.#step < warmup || maxSeconds === Infinity) return this.#step;
    return Math.max(this.#step, warmup + (steps - warmup) * Math.min(1, this.#pace.seconds / maxSeconds));
  }

  async #settle({ step, lr, loss, gradientNorm: read }: PendingStep): Promise<StepEvent> {
    const gradientNorm = await read;
    const { steps, maxSeconds, maxSkips } = this.#settings;
    const skipped = gradientNorm !== null && !Number.isFinite(gradientNorm);
    this.#skips = skipped ? this.#skips + 1 : 0;
    if (this.#skips > maxSkips)
      throw this.#diverged(
        `expected gradients of a finite norm after at most ${maxSkips} skipped updates, got ${gradientNorm} at step ${step}`,
      );
    const { tokensPerSecond, secondsPerStep } = this.#pace.tick();
    const { seconds } = this.#pace;
    const progress = Math.min(1, Math.max(step / steps, seconds / maxSeconds));
    const secondsLeft = Math.max(0, Math.min((steps - step) * secondsPerStep, maxSeconds - seconds));
    return { type: "step", step, loss, lr, gradientNorm, skipped, tokensPerSecond, progress, secondsLeft };
  }

  async *#evaluate(): AsyncGenerator<TrainerEvent, void, undefined> {
    const { validation, signal } = this.#options;
    if (!validation || this.#evaluated === this.#step) return;
    const { batchSize, contextLength, evalBatches: batches, documentStart } = this.#settings;
    const settings = { batchSize, contextLength, batches, documentStart, signal };
    let evaluation: Evaluation;
    try {
      evaluation = await evaluate(this.model, validation, settings);
    } catch (error) {
      if (signal?.aborted) return;
      throw error;
    }
    this.#evaluated = this.#step;
    yield { type: "evaluation", step: this.#step, ...evaluation };
  }

  /** Position of the run in its data. */
  get #position(): DataPosition {
    const { accumulation, batchSize } = this.#settings;
    return advanced(this.#start.position, (this.#step - this.#start.step) * accumulation, batchSize);
  }

  async *#save(last = false): AsyncGenerator<TrainerEvent, void, undefined> {
    const { checkpoint, model } = this.#options;
    if (!checkpoint || this.#saved === this.#step) return;
    const { folder, tokenizer = null, options = {}, base = null } = checkpoint;
    const state = {
      step: this.#step,
      seconds: this.#pace.seconds,
      seed: this.#settings.seed,
      dropoutSeed: model.dropoutSeeds.seed,
      position: this.#position,
      evaluated: this.#evaluated,
      options,
    };
    const content = { model, tokenizer, optimizer: this.optimizer, state, base };
    const { keep, maxFailures } = this.#settings;
    let path: string;
    try {
      path = await saveCheckpoint(folder, content, { keep, spoilt: this.#spoilt });
    } catch (error) {
      if (!(error instanceof HeedError) || error.code !== "ERR_IO") throw error;
      const failures = ++this.#failures;
      yield { type: "checkpoint-failed", step: this.#step, message: error.message, failures };
      if (last || failures >= maxFailures) throw error;
      return;
    }
    this.#failures = 0;
    this.#spoilt = [];
    this.#saved = this.#step;
    yield { type: "checkpoint", step: this.#step, path };
  }
}
