// The loop that all trainers share: steps, evaluations, checkpoints, and what happens when a run goes wrong.
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { type FolderLock, lockFolder } from "../formats/folder-lock.js";
import type { Module } from "../nn/module.js";
import type { Optimizer } from "../optim/optimizer.js";
import { WeightAverage } from "../optim/weight-average.js";
import { scope } from "../core/scope.js";
import { Best } from "./best.js";
import { type Checkpoint, type CheckpointContent, restoreCheckpoint } from "./checkpoint.js";
import { type Consensus, DataParallel } from "./data-parallel.js";
import { DropoutSteps } from "./dropout-steps.js";
import type { Evaluation } from "./evaluate.js";
import type { StepEvent, TrainerCallbacks, TrainerEvent, TrainingResult } from "./events.js";
import { peakOf } from "./flops.js";
import { JsonLog } from "./log.js";
import { LossScale } from "./loss-scale.js";
import { type MeanLoss, meanLoss } from "./mean-loss.js";
import { makeOptimizer } from "./optimizers.js";
import { Pace } from "./pace.js";
import type { Plan } from "./plan.js";
import { agreedOptions } from "./run-agreement.js";
import { RunCheckpoints } from "./run-checkpoints.js";
import { SpikeDetector } from "./spikes.js";
import { type Differentiated, isSkipped, type Micro, type PendingStep, unawaited } from "./step.js";
import type { FloatTensor } from "../core/tensor.js";
import { pauseIfLong } from "../util/turns.js";
import { trainingResult } from "./training-result.js";
import type { TrainerState } from "./trainer-state.js";

/** States of a checkpoint that are loaded when a run begins. */
interface LoadedStates extends Pick<Checkpoint, "optimizer" | "average"> {
  readonly averageUpdates: number | null;
}

/** Base class of trainers: everything about a run but its data and its task. */
export abstract class TrainingLoop<M extends Module, B> implements Disposable {
  readonly model: M;
  readonly optimizer: Optimizer;
  /** Moving average of the weights; null without the option `ema`. */
  readonly average: WeightAverage | null;
  readonly #plan: Plan<M, B>;
  readonly #pace: Pace;
  readonly #dropout: DropoutSteps;
  readonly #scale: LossScale | null;
  readonly #spikes: SpikeDetector | null;
  readonly #best: Best;
  readonly #peak: number | null;
  readonly #parallel: DataParallel;
  readonly #checkpoints: RunCheckpoints;
  /** State that all processes last agreed on; a run of one process asks itself. */
  #consensus: Consensus = { aborted: false, seconds: 0 };
  /** Checkpoint whose optimiser and average `run` loads first; null once they are loaded. */
  #resumed: LoadedStates | null = null;
  /** True if the average has begun: from a checkpoint, or with the weights of the first process. */
  #averages = false;
  #step = 0;
  /** Step that is enqueued and whose gradients' norm has not been read. */
  #pending: PendingStep | null = null;
  /** Number of updates in a row that were skipped. */
  #skips = 0;
  /** Last step that was evaluated, in this session or before. */
  #evaluated: number | null = null;
  #running = false;

  protected constructor(plan: Plan<M, B>) {
    const { op, model, options, settings, device } = plan;
    const { resume, ema, spikes } = options;
    const state: Partial<TrainerState> = resume?.state ?? {};
    this.#plan = plan;
    this.#pace = new Pace(state.seconds ?? 0);
    this.model = model;
    this.#dropout = new DropoutSteps(model);
    const configurable = model as { dtype?: string; gradientCheckpointing?: boolean };
    if (options.dtype && configurable.dtype !== undefined && options.dtype !== configurable.dtype)
      configurable.dtype = options.dtype;
    if (configurable.gradientCheckpointing !== undefined)
      configurable.gradientCheckpointing = options.gradientCheckpointing ?? configurable.gradientCheckpointing;
    const dtype = (configurable.dtype ?? "f32") as "f32" | "bf16" | "f16";
    this.#scale = dtype === "f16" ? new LossScale(op, options.lossScale ?? {}, state.lossScale ?? null) : null;
    this.#spikes = spikes ? new SpikeDetector(op, spikes, state.spikes ?? null) : null;
    this.#best = new Best(settings, state.best ?? null);
    this.#peak = options.peakFlops ?? peakOf(device, dtype);
    // A scaled loss is expected to overflow, and only the norm tells.
    const maxNorm = options.maxNorm === null ? (this.#scale ? Infinity : undefined) : (options.maxNorm ?? 1);
    const { distributed } = plan;
    const shard = distributed?.zero ? distributed.collectives : undefined;
    const given = {
      lr: settings.lr,
      ...(maxNorm !== undefined && { maxNorm }),
      ...(shard && { shard: { rank: shard.rank, size: shard.size } }),
    };
    this.optimizer = makeOptimizer(op, model, options.optimizer, given);
    this.#parallel = new DataParallel(distributed, this.optimizer);
    this.#checkpoints = new RunCheckpoints(settings, this.#parallel, this.optimizer, () => this.#content());
    this.average = ema === undefined ? null : new WeightAverage(model, { decay: ema });
    if (resume) {
      const { optimizer, average, skipped } = resume;
      this.optimizer.checkStateDict(optimizer.moments, optimizer.steps);
      if (average) this.average?.checkStateDict(average);
      this.#resumed = { optimizer, average, averageUpdates: resume.state.averageUpdates ?? null };
      this.#step = resume.state.step;
      this.#evaluated = resume.state.evaluated ?? null;
      this.#checkpoints.resume(
        this.#step,
        skipped.map(({ path }) => path),
      );
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
   * @throws ERR_DIVERGED if a loss or a parameter is not finite, too many updates in a row are skipped, or the loss has
   *   too many spikes.
   * @throws ERR_DISTRIBUTED if the processes of a distributed run have other options, data or checkpoints than each other.
   * @throws ERR_BUSY if another run holds the lock of the checkpoint folder, or has taken it meanwhile.
   * @throws ERR_IO if saving fails at the end or too often in a row, or the log cannot be written.
   */
  async *run(): AsyncGenerator<TrainerEvent, void, undefined> {
    const { op, options } = this.#plan;
    if (this.#running)
      throw new HeedError("ERR_ARGUMENT", `${op} is already running: await the first run() before you call it again`);
    this.#running = true;
    const { checkpoint } = options;
    let log: JsonLog | null = null;
    let lock: FolderLock | null = null;
    const { ranks } = this.#parallel;
    const unwatch = this.#parallel.watch();
    try {
      await this.#parallel.agree(() => agreedOptions(this.#plan));
      await ranks.everywhere(async () => {
        if (!ranks.first) return;
        if (checkpoint && !checkpoint.lock) lock = await lockFolder(checkpoint.folder);
        this.#checkpoints.lock = checkpoint?.lock ?? lock;
        log = options.log === undefined ? null : new JsonLog(options.log);
        log?.write({ time: new Date().toISOString(), type: "started", step: this.#step });
      });
      await ranks.everywhere(async () => {
        if (this.#resumed) await this.#load(this.#resumed);
        this.#resumed = null;
      });
      await this.#parallel.equalise(this.model, this.#step);
      // Only now do all processes have the same weights to begin with.
      if (!this.#averages) this.average?.restart();
      this.#averages = true;
      for await (const event of this.#events()) {
        // Another run that has taken the lock for stale may write to the same log.
        if (log) this.#checkpoints.lock?.checkSync();
        (log as JsonLog | null)?.write({ time: new Date().toISOString(), ...event });
        yield event;
      }
      (log as JsonLog | null)?.flush();
    } catch (error) {
      this.#parallel.failIfUnknown(error);
      throw error;
    } finally {
      unwatch();
      (log as JsonLog | null)?.[Symbol.dispose]();
      await (lock as FolderLock | null)?.release();
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
  train(callbacks: TrainerCallbacks = {}): Promise<TrainingResult> {
    return trainingResult(this.run(), this.#step, callbacks);
  }

  /** Frees the optimiser and the average. The model stays. */
  dispose(): void {
    this.#plan.feed.close();
    this.optimizer.dispose();
    this.average?.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  async *#events(): AsyncGenerator<TrainerEvent, void, undefined> {
    const { settings } = this.#plan;
    const { steps, maxSeconds, evalEvery, saveEvery, accumulation } = settings;
    const aborted = (): boolean => this.#now().aborted;
    const over = (): boolean => this.#step >= steps || this.#now().seconds >= maxSeconds || this.#best.stops;
    const due = (every: number): boolean => this.#step > 0 && this.#step % every === 0;
    this.model.train();
    this.#pace.start();
    await this.#consult();
    // A run that had already ended is evaluated once more, so that its result is complete.
    if (over()) this.#evaluated = null;
    try {
      // Evaluations and checkpoints run before the next step, so that a resumed run makes up for those that an abort
      // left out.
      for (;;) {
        // A fast device has computed a step when its loss is read, so that this loop alone never ends the turn.
        await pauseIfLong();
        const [evaluates, saves] = [due(evalEvery), due(saveEvery)];
        if (evaluates || saves) {
          yield* this.#drain();
          if (evaluates && !aborted()) yield* this.#evaluate();
          if (saves) yield* this.#save();
          this.#pace.restart();
          await this.#consult();
        }
        if (over() || aborted()) break;
        // The scale of the next loss depends on whether this step's gradients overflowed.
        if (this.#scale) yield* this.#drain();
        const micro = await this.#prepare(accumulation);
        const { loss: read, missing } = this.#differentiate(micro);
        yield* this.#drain();
        const loss = await this.#agree(read, missing);
        if (this.#spikes?.isSpike(loss)) yield* this.#return(this.#spikes, loss);
        else this.#pending = this.#update(loss, micro.tokens);
      }
      yield* this.#drain();
      if (!aborted()) yield* this.#evaluate();
      yield* this.#save(true);
      if (aborted()) yield { type: "aborted", step: this.#step };
      else yield { type: "finished", step: this.#step, seconds: this.#pace.seconds, early: this.#best.stops };
    } finally {
      const norm = await this.#pending?.gradientNorm.catch(() => undefined);
      this.#pending = null;
      if (isSkipped(norm)) this.#uncount();
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

  /** Returns what decisions depend on: as it is in a run of one process, and else as all processes know it. */
  #now(): Consensus {
    if (this.#parallel.ranks.size > 1) return this.#consensus;
    return { aborted: this.#plan.options.signal?.aborted ?? false, seconds: this.#pace.seconds };
  }

  async #consult(): Promise<void> {
    if (this.#parallel.ranks.size === 1) return;
    const aborted = this.#plan.options.signal?.aborted ?? false;
    this.#consensus = await this.#parallel.consult({ aborted, seconds: this.#pace.seconds });
  }

  /**
   * Resolves to the micro-batches of a step. Each counts by the number of its targets, so that the loss is the mean over
   * all targets of the step, however they are spread over micro-batches and processes.
   */
  async #prepare(accumulation: number): Promise<Micro<B>> {
    const { task, device, feed } = this.#plan;
    const { ranks } = this.#parallel;
    const { microBatches } = feed.position;
    const read = async (): Promise<Pick<Micro<B>, "batches" | "counts" | "contexts"> & { tokens: number }> => {
      const batches = await feed.peek(accumulation);
      const contexts = batches.map((_, i) => ({
        device,
        microBatch: microBatches + i * ranks.size + ranks.rank,
        training: true,
      }));
      const counts = batches.map((batch, i) => task.targets?.(batch, contexts[i]!) ?? 1);
      const tokens = batches.reduce((sum, batch, i) => sum + (task.tokens?.(batch) ?? counts[i]!), 0);
      return { batches, counts, contexts, tokens };
    };
    const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
    const own = await read().catch((error: unknown) => ({ error }));
    const all = await ranks.share("error" in own ? [0, 0] : [sum(own.counts), own.tokens], "error" in own ? own : null);
    // Without any target, loss and gradients are zero.
    const total = Math.max(1, sum(all.map(([targets]) => targets!)));
    return { ...(own as Awaited<ReturnType<typeof read>>), total, tokens: sum(all.map(([, tokens]) => tokens!)) };
  }

  /** Enqueues the forward and backward passes of a step; its loss resolves before the gradients are ready. */
  #differentiate({ batches, counts, contexts, total }: Micro<B>): Differentiated {
    const { model, task } = this.#plan;
    const losses: Promise<number>[] = [];
    const { scale = 1 } = this.#scale?.state ?? {};
    let failure: { error: unknown } | null = null;
    try {
      for (const [i, batch] of batches.entries()) {
        this.#dropout.begin(contexts[i]!.microBatch);
        scope(() => {
          const loss = task.loss(model, batch, contexts[i]!);
          losses.push(unawaited(loss.item()));
          const backward = (): void => loss.backward((counts[i]! / total) * scale);
          if (i < batches.length - 1) backward();
          else this.#parallel.backward(model, backward);
        });
      }
    } catch (error) {
      // The other processes wait for the gradients of this one, and learn of the error with the loss.
      if (this.#parallel.ranks.size === 1) throw error;
      failure = { error };
    }
    const missing = this.#parallel.finish(model);
    if (failure) return { loss: unawaited(Promise.reject(failure.error as Error)), missing: [] };
    const mean = (values: readonly number[]): number =>
      values.reduce((sum, loss, i) => sum + loss * counts[i]!, 0) / total;
    return { loss: unawaited(Promise.all(losses).then(mean)), missing };
  }

  /** Resolves to the loss of a step over all processes, in which each has its share. */
  async #agree(read: Promise<number>, missing: readonly FloatTensor[]): Promise<number> {
    const { ranks } = this.#parallel;
    if (ranks.size === 1) return read;
    const own = await read.catch((error: unknown) => ({ error }));
    const aborted = this.#plan.options.signal?.aborted ?? false;
    const numbers = [typeof own === "number" ? own : 0, aborted ? 1 : 0, this.#pace.seconds, missing.length];
    const all = await ranks.share(numbers, typeof own === "number" ? null : own);
    this.#consensus = { aborted: all.some(([, flag]) => flag === 1), seconds: all[0]![2]! };
    if (all.some(([, , , count]) => count! > 0)) await this.#parallel.dropMissing(this.model, missing);
    return all.reduce((sum, [loss]) => sum + loss!, 0);
  }

  /** Enqueues the update with a step's gradients. */
  #update(loss: number, tokens: number): PendingStep {
    const { optimizer } = this;
    const { feed, settings } = this.#plan;
    if (!Number.isFinite(loss)) throw this.#diverged(`expected a finite loss, got ${loss} at step ${this.#step + 1}`);
    const lr = (optimizer.lr = settings.schedule(this.#scheduleStep()));
    const lossScale = this.#scale?.state.scale ?? null;
    optimizer.step({ lossScale: lossScale ?? 1 });
    this.#parallel.afterStep();
    this.average?.update({ norm: optimizer.gradientNorm });
    const gradientNorm = unawaited(optimizer.gradientNorm?.item() ?? Promise.resolve(null));
    optimizer.zeroGrad();
    feed.advance();
    return { step: ++this.#step, lr, loss, tokens, epoch: feed.epoch, lossScale, gradientNorm };
  }

  #diverged(what: string): HeedError {
    const { saved } = this.#checkpoints;
    const before = saved !== null ? `; the last checkpoint is from step ${saved}` : "";
    return this.#parallel.ranks.know(new HeedError("ERR_DIVERGED", `${this.#plan.op}: ${what}${before}`));
  }

  /**
   * Returns the step for which the schedule gives the learning rate. With a time limit, progress after the warm-up is
   * that of the steps or that of the time, whichever is further.
   */
  #scheduleStep(): number {
    const { steps, warmup, maxSeconds } = this.#plan.settings;
    if (this.#step < warmup || maxSeconds === Infinity) return this.#step;
    return Math.max(this.#step, warmup + (steps - warmup) * Math.min(1, this.#now().seconds / maxSeconds));
  }

  async #settle({ step, lr, loss, tokens, epoch, lossScale, gradientNorm: read }: PendingStep): Promise<StepEvent> {
    const gradientNorm = await read;
    const { device, flopsPerToken, settings } = this.#plan;
    const { steps, maxSeconds, maxSkips } = settings;
    const skipped = isSkipped(gradientNorm);
    if (skipped) this.#uncount();
    const lowered = this.#scale?.settle(skipped) ?? false;
    this.#skips = skipped && !lowered ? this.#skips + 1 : 0;
    if (this.#skips > maxSkips)
      throw this.#diverged(
        `expected gradients of a finite norm after at most ${maxSkips} skipped updates, got ${gradientNorm} at step ${step}`,
      );
    const { tokensPerSecond, secondsPerStep } = this.#pace.tick(tokens);
    const { seconds } = this.#pace;
    const progress = Math.min(1, Math.max(step / steps, seconds / maxSeconds));
    const secondsLeft = Math.max(0, Math.min((steps - step) * secondsPerStep, maxSeconds - seconds));
    const mfu =
      flopsPerToken !== null && this.#peak !== null
        ? (tokensPerSecond * flopsPerToken) / (this.#peak * this.#parallel.ranks.size)
        : null;
    const { peak: memory } = device.memory();
    const pace = { tokensPerSecond, progress, secondsLeft, epoch, mfu, memory };
    return { type: "step", step, loss, lr, gradientNorm, skipped, lossScale, ...pace };
  }

  /** Takes a skipped step back from the counts of the optimiser and of the average. */
  #uncount(): void {
    this.optimizer.uncount();
    this.average?.uncount();
  }

  async *#evaluate(): AsyncGenerator<TrainerEvent, void, undefined> {
    const { model, task, device, validation, settings, options } = this.#plan;
    const { signal } = options;
    if (!validation || this.#evaluated === this.#step) return;
    const { ranks } = this.#parallel;
    const share = { rank: ranks.rank, size: ranks.size };
    const run = (): Promise<MeanLoss> => meanLoss(model, task, validation(), { device, signal, share });
    const own = await (this.average ? this.average.use(run) : run()).catch((error: unknown) => ({ error }));
    // A process that is aborted has no result, and the evaluation is left out by all.
    const stopped = signal?.aborted && "error" in own;
    const numbers = "error" in own ? [0, 0, stopped ? 1 : 0] : [own.loss * own.targets, own.targets, 0];
    const all = await ranks.share(numbers, "error" in own && !stopped ? own : null);
    if (all.some(([, , flag]) => flag === 1)) return;
    const [sum, tokens] = [0, 1].map((i) => all.reduce((sum, values) => sum + values[i]!, 0)) as [number, number];
    const loss = sum / tokens;
    const evaluation: Evaluation = { loss, perplexity: Math.exp(loss), tokens };
    this.#evaluated = this.#step;
    const best = this.#best.note(evaluation, this.#step);
    yield { type: "evaluation", step: this.#step, ...evaluation, best };
    const { checkpoint } = options;
    if (!best || !settings.best || !checkpoint) return;
    yield* this.#checkpoints.save({ folder: path.join(checkpoint.folder, "best"), step: this.#step, best: true });
  }

  async *#save(last = false): AsyncGenerator<TrainerEvent, void, undefined> {
    const { checkpoint } = this.#plan.options;
    if (!checkpoint || this.#checkpoints.saved === this.#step) return;
    yield* this.#checkpoints.save({ folder: checkpoint.folder, step: this.#step, last });
  }

  #content(): CheckpointContent {
    const { model, feed, settings, options } = this.#plan;
    const { tokenizer = null, options: own = {}, base = null } = options.checkpoint ?? {};
    const state: TrainerState = {
      step: this.#step,
      seconds: this.#pace.seconds,
      seed: settings.seed,
      dropoutSeed: this.#dropout.seed,
      position: feed.position,
      order: feed.order,
      evaluated: this.#evaluated,
      averageUpdates: this.average?.updates ?? null,
      best: this.#best.state,
      lossScale: this.#scale?.state ?? null,
      spikes: this.#spikes?.state ?? null,
      options: own,
    };
    const states = this.#parallel.savedStates(this.optimizer);
    return { model, tokenizer, optimizer: this.optimizer, states, average: this.average, state, base };
  }

  /** Loads the states of the optimiser and of the average. */
  async #load({ optimizer, average, averageUpdates }: LoadedStates): Promise<void> {
    await this.optimizer.loadInTurns(optimizer.moments, optimizer.steps);
    if (!average) return;
    await this.average?.load(average, averageUpdates);
    this.#averages = true;
  }

  /**
   * Returns to the last checkpoint after a spike in the loss. The data goes on after the spike, since the same data would
   * lead to the same spike (Chowdhery et al. 2022, "PaLM", §5.1). If the run has returned to a checkpoint and has saved
   * none since, it returns to the one before.
   */
  async *#return(spikes: SpikeDetector, loss: number): AsyncGenerator<TrainerEvent, void, undefined> {
    const { feed, options, model } = this.#plan;
    const from = this.#step;
    const returns = spikes.state.returns + 1;
    const what = `expected a loss without spikes, got ${loss} at step ${from + 1}`;
    if (returns > spikes.most) throw this.#diverged(`${what}, after ${spikes.most} returns to a checkpoint`);
    this.optimizer.zeroGrad();
    const { folder } = options.checkpoint!;
    const { except } = this.#checkpoints;
    const restored = await this.#parallel.ranks.everywhere(() => restoreCheckpoint(folder, model, { except }));
    // One process alone may not see the checkpoint, as on a disk of its own.
    await this.#parallel.agreeOnStep(restored?.state.step ?? null);
    if (!restored) throw this.#diverged(`${what}, and no checkpoint to return to`);
    const { path: at, optimizer, average, state } = restored;
    await this.#load({ optimizer, average, averageUpdates: state.averageUpdates ?? null });
    feed.advance();
    this.#step = state.step;
    this.#evaluated = state.evaluated ?? null;
    this.#skips = 0;
    this.#best.state = state.best ?? null;
    if (this.#scale && state.lossScale) this.#scale.state = state.lossScale;
    spikes.state = { ...(state.spikes ?? spikes.state), returns };
    this.#checkpoints.returned(at, state.step);
    this.model.train();
    this.#pace.restart();
    yield { type: "returned", step: this.#step, from, loss, path: at };
  }
}
