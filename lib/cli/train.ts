import path from "node:path";
import type { Collectives } from "../distributed/collectives.js";
import { Ranks } from "../distributed/ranks.js";
import { type FolderLock, lockFolder } from "../formats/folder-lock.js";
import { listVersions } from "../formats/versioned-folder.js";
import type { CausalDecoder } from "../models/causal-decoder.js";
import { decoderFamilies } from "../models/decoder-families.js";
import { type Checkpoint, loadCheckpoint } from "../train/checkpoint.js";
import { stepsOfEpochs } from "../train/epoch-steps.js";
import { type OptimizerChoice, usualRates } from "../train/optimizers.js";
import type { PackedExamples } from "../data/pack-examples.js";
import { orderVersionOf } from "../train/position.js";
import type { SequenceSource } from "../data/sequence-source.js";
import type { TokenSource } from "../data/token-data.js";
import type { PreferencePair } from "../data/preference-pair.js";
import { TaskTrainer } from "../train/task-trainer.js";
import { preferences } from "../train/tasks/preferences.js";
import { Trainer } from "../train/trainer.js";
import type { TrainingOptions } from "../train/training-options.js";
import { type DataSource, isPairData, type RunData } from "./encoded-data.js";
import { loadTuned } from "./fine-tune.js";
import { asUsage, UsageError } from "./failure.js";
import { Interrupt, interrupted } from "./interrupt.js";
import { complain } from "./output.js";
import { createProgress, silent } from "./progress.js";
import { readData } from "./run-data.js";
import { pairBatches } from "./run-pairs.js";
import { runFlags } from "./run-flags.js";
import { RunWatch } from "./run-watch.js";
import { deviceOf, together } from "./together.js";
import { defaults, type RunFlags, type TrainFlags } from "./train-flags.js";

/** Runs `heed train`: trains as the flags say and shows the progress, alone or with the other processes of a launcher. */
export async function run(given: TrainFlags): Promise<void> {
  await together(given.threads, (processes) => train(given, processes));
}

async function train(given: TrainFlags, processes: Collectives | null): Promise<void> {
  const { out } = given;
  const device = deviceOf(processes, given.device);
  const ranks = new Ranks(processes);
  await using lock = await ranks.everywhere(() => (ranks.first ? lockFolder(out) : null));
  const warn = ranks.first ? complain : (): void => undefined;
  // What one process alone cannot read, such as a checkpoint on the disk of another machine, all are told.
  const checkpoint = await ranks.everywhere(() => openRun({ ...given, ...(device !== undefined && { device }) }, warn));
  const flags = await ranks.everywhere(() => runFlags(given, checkpoint));
  const expectedHash = given.data === undefined ? checkpoint?.state.options.hash : undefined;
  const tuned =
    flags.from !== undefined && !checkpoint ? await loadTuned({ ...flags, from: flags.from }, device ?? "auto") : null;
  if (tuned && given.context === undefined) flags.context = Math.min(flags.context, tuned.model.config.contextLength);
  const known = checkpoint?.tokenizer ?? tuned?.tokenizer ?? null;
  const data = await ranks.everywhere(() => readData(flags, known, { expectedHash, warn }));
  countEpochs(flags, data, given, ranks.size);
  const model = checkpoint?.model ?? tuned?.model ?? asUsage(() => createModel(flags, data, device));

  const progress = ranks.first ? createProgress({ launched: processes !== null, predicts: !flags.preference }) : silent;
  using interrupt = new Interrupt(() => progress.note("stopping after this step; press Ctrl-C again to quit at once"));
  using trainer = asUsage(() =>
    createTrainer({ model, flags, data, checkpoint, out, lock, signal: interrupt.signal, processes }),
  );
  using watch = ranks.first
    ? new RunWatch({
        ...{ model, tokenizer: data.tokenizer, log: logOf(flags, out), lock, sample: flags.sample, seed: flags.seed },
        ...{ tensorboard: flags.tensorboard, step: trainer.step, evaluates: data.validation !== null },
      })
    : null;
  progress.begin(summary(model, data, checkpoint, ranks.size));
  let saved = checkpoint?.path;
  let loss: number | undefined;
  let aborted = false;
  try {
    for await (const event of trainer.run()) {
      progress.show(event);
      await watch?.event(event);
      if (event.type === "checkpoint" && !event.best) saved = event.path;
      if (event.type === "evaluation") loss = event.loss;
      if (event.type === "aborted") aborted = true;
    }
  } finally {
    progress.end();
  }
  const ofText = flags.from === undefined && !("sequence" in data.train);
  const unit = ofText ? { char: "character", byte: "byte", gpt2: "token" }[flags.tokenizer] : "token";
  if (!aborted && !ranks.first) return;
  if (aborted) {
    process.exitCode = interrupted;
    if (!ranks.first) return;
    console.log(`stopped at step ${trainer.step}, saved in ${saved}; continue with: heed train --out ${out} --resume`);
  } else {
    const per = flags.preference ? "per pair (ln 2 = 0.6931 at the start)" : `nats per ${unit}`;
    if (loss !== undefined) console.log(`validation loss ${loss.toFixed(4)} ${per}`);
    console.log(`saved in ${saved}; try: heed generate --model ${out} ${data.chats ? "--chat " : ""}"…"`);
  }
}

/** Loads the checkpoint that `--resume` continues from. Returns null for a new run. */
async function openRun(
  { out, resume = false, device = "auto" }: TrainFlags,
  warn: (text: string) => void,
): Promise<Checkpoint | null> {
  const begun = (await listVersions(out)).length > 0;
  if (!resume && begun) throw new UsageError(`--out ${out}: contains a run already; add --resume to continue it`);
  if (resume && !begun) throw new UsageError(`--out ${out}: contains no run to resume`);
  if (!begun) return null;
  const checkpoint = await loadCheckpoint(out, { device });
  for (const { path: at, error } of checkpoint.skipped)
    warn(`warning: ${at} is incomplete (${error.message}); continuing from ${checkpoint.path}`);
  return checkpoint;
}

function createModel(flags: RunFlags, { tokenizer }: RunData, device = "auto"): CausalDecoder {
  const { layers, heads, width, context: contextLength, dropout, seed, family } = flags;
  const { kvHeads = heads, hidden, positions, window } = flags;
  const { fixedPositions, create } = decoderFamilies[family];
  if (fixedPositions && positions !== defaults.positions)
    throw new UsageError(
      `--positions ${positions}: positions of the family ${family} are always ${fixedPositions}; leave this flag out`,
    );
  const { vocabularySize } = tokenizer;
  const sizes = { vocabularySize, contextLength, layers, heads, kvHeads, width, hidden, window, dropout, positions };
  return create(sizes, { seed, device });
}

function createTrainer(run: {
  model: CausalDecoder;
  flags: RunFlags;
  data: RunData;
  checkpoint: Checkpoint | null;
  out: string;
  lock: FolderLock | null;
  signal: AbortSignal;
  processes: Collectives | null;
}): Trainer | TaskTrainer<CausalDecoder, readonly PreferencePair[]> {
  const { model, flags, data, checkpoint, out, lock, signal, processes } = run;
  const before = checkpoint?.state.options.hash;
  const { lr, minLr, steps, maxMinutes, warmup, seed, patience, peakTflops } = flags;
  const options: TrainingOptions<CausalDecoder> & { model: CausalDecoder } = {
    model,
    dtype: flags.dtype,
    gradientCheckpointing: flags.gradientCheckpointing,
    gradientAccumulation: flags.accumulate,
    steps,
    maxSeconds: maxMinutes === undefined ? undefined : maxMinutes * 60,
    lr,
    minLr,
    warmup,
    schedule: flags.schedule,
    decaySteps: flags.decaySteps,
    seed,
    maxNorm: flags.clip === 0 ? null : flags.clip,
    optimizer: optimizerOf(flags),
    ema: flags.ema,
    spikes: flags.spikes ? {} : undefined,
    evalEvery: flags.evalEvery,
    evalBatches: flags.evalBatches,
    earlyStopping: patience === undefined ? undefined : { patience },
    peakFlops: peakTflops === undefined ? undefined : peakTflops * 1e12,
    checkpoint: {
      folder: out,
      ...(lock && { lock }),
      every: flags.checkpointEvery,
      keep: flags.keep,
      best: flags.best,
      tokenizer: data.tokenizer,
      base: flags.from ?? null,
      options: { ...flags, hash: data.hash },
    },
    resume: checkpoint,
    newData: typeof before === "string" && before !== data.hash,
    signal,
    log: logOf(flags, out),
    ...(processes && { distributed: { collectives: processes, zero: flags.zero, wire: flags.wire } }),
  };
  if (isPairData(data)) {
    const { train, validation } = data;
    return new TaskTrainer<CausalDecoder, readonly PreferencePair[]>({
      ...options,
      task: preferences({ beta: flags.beta }),
      data: pairBatches(train, {
        batch: flags.batch,
        seed,
        version: orderVersionOf(checkpoint?.state ?? null, seed),
      }),
      validation: validation && pairBatches(validation, { batch: flags.batch, seed: null }),
    });
  }
  const { train, validation } = data as RunData<TokenSource | SequenceSource>;
  return new Trainer({
    ...options,
    data: train,
    documentStart: flags.documents ? data.tokenizer.endOfText : null,
    validation,
    batchSize: flags.batch,
    contextLength: flags.context,
  });
}

/** Returns the file of the run's log. */
function logOf({ log }: RunFlags, folder: string): string {
  return log ?? path.join(folder, "log.jsonl");
}

/** Turns `--epochs` into steps. Without `--warmup`, at most a tenth of them are warm-up. */
function countEpochs(flags: RunFlags, { train }: RunData, given: TrainFlags, processes: number): void {
  const { epochs, context, batch, accumulate } = flags;
  if (epochs === undefined) return;
  const sequences =
    "pair" in train
      ? batch * Math.ceil(train.pairs / batch) // The last batch of an epoch of pairs may be smaller.
      : "sequence" in train
        ? train.sequences
        : Math.floor((train.length - 1) / context);
  flags.steps = stepsOfEpochs(epochs, sequences, batch * accumulate * processes);
  if (given.warmup === undefined) flags.warmup = Math.min(flags.warmup, Math.floor(flags.steps / 10));
}

function optimizerOf({ optimizer: type, weightDecay, momentum, beta2 }: RunFlags): OptimizerChoice {
  if (type === "adamw") return { weightDecay, beta2 };
  if (type === "lion") return { type, weightDecay };
  const own = { weightDecay, ...(momentum !== undefined && { momentum }) };
  // What Muon leaves to AdamW has the learning rate that it has with --optimizer adamw.
  return type === "sgd" ? { type, ...own } : { type, ...own, adamw: { lrScale: defaults.lr / usualRates.muon } };
}

function summary(
  model: CausalDecoder,
  { train, validation, targets = "targets" in train ? (train as PackedExamples).targets : undefined }: RunData,
  checkpoint: Checkpoint | null,
  processes: number,
): string {
  const count = (n: number): string => n.toLocaleString("en");
  const sizeOf = (source: DataSource): string => count("pair" in source ? source.pairs : tokensIn(source));
  const counted = targets === undefined ? "" : `, with ${count(targets)} targets`;
  const parts = [
    `${count(model.parameterCount({ trainable: true }))} parameters`,
    `${sizeOf(train)} ${"pair" in train ? "pairs of answers" : "tokens"} to train on${counted}`,
    validation ? `${sizeOf(validation)} for validation` : "no validation",
    ...(processes > 1 ? [`${processes} processes`] : []),
  ];
  return parts.join(", ") + (checkpoint ? `; continuing from step ${checkpoint.state.step}` : "");
}

function tokensIn(source: TokenSource | SequenceSource): number {
  return "sequence" in source ? source.sequences * source.contextLength : source.length;
}
