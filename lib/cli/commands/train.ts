import { type Command, Option } from "commander";
import path from "node:path";
import type { PackedExamples } from "../../data/pack-examples.js";
import type { PreferencePair } from "../../data/preference-pair.js";
import type { SequenceSource } from "../../data/sequence-source.js";
import type { TokenSource } from "../../data/token-data.js";
import type { Collectives } from "../../distributed/collectives.js";
import { Ranks } from "../../distributed/ranks.js";
import { type FolderLock, lockFolder } from "../../formats/folder-lock.js";
import { listVersions } from "../../formats/versioned-folder.js";
import type { CausalDecoder } from "../../models/causal-decoder.js";
import { decoderFamilies } from "../../models/decoder-families.js";
import { type Checkpoint, loadCheckpoint } from "../../train/checkpoint.js";
import { stepsOfEpochs } from "../../train/epoch-steps.js";
import { type OptimizerChoice, optimizerTypes, usualRates } from "../../train/optimizers.js";
import { orderVersionOf } from "../../train/position.js";
import { TaskTrainer } from "../../train/task-trainer.js";
import { preferences } from "../../train/tasks/preferences.js";
import { Trainer } from "../../train/trainer.js";
import { scheduleTypes, type TrainingOptions } from "../../train/training-options.js";
import { deviceName, integer, number, text } from "../arguments.js";
import { type DataSource, isPairData, type RunData } from "../encoded-data.js";
import { asUsage, UsageError } from "../failure.js";
import { loadTuned } from "../fine-tune.js";
import { quantizedTypes } from "../inference-options.js";
import { Interrupt, interrupted } from "../interrupt.js";
import { complain } from "../output.js";
import { createProgress, silent } from "../progress.js";
import { readData } from "../run-data.js";
import { runFlags } from "../run-flags.js";
import { pairBatches } from "../run-pairs.js";
import { RunWatch } from "../run-watch.js";
import { deviceOf, together } from "../together.js";
import {
  defaults,
  positionings,
  preferenceRate,
  type RunFlags,
  tokenizers,
  trainFamilies,
  type TrainFlags,
  tunedDefaults,
  tunedRates,
} from "../train-flags.js";

/** Returns a default as the help says it. */
function or(name: keyof typeof defaults, note = ""): string {
  return `(default: ${defaults[name]}${note})`;
}

/** Adds the arguments and the options of `heed train`. */
export function define(command: Command): Command {
  for (const add of [addData, addFineTuning, addModel, addTraining, addProcesses, addEvaluation]) add(command);
  return command
    .addHelpText(
      "after",
      `
Examples:
  $ heed train --data book.txt --out runs/book
  $ heed train --data book.txt --out runs/book --resume --steps 5000
  $ heed train --data book.txt --out runs/llama --family llama --kv-heads 2 --optimizer muon --ema 0.99
  $ heed train --model Qwen/Qwen3-0.6B --data chats.jsonl --lora 8 --steps 500 --out runs/tuned
  $ heed train --model tuned-model --data pairs.jsonl --preference --lora 8 --out runs/preferred
  $ mpirun -np 2 npx heed train --data book.txt --out runs/two
  $ heed train --data book.txt --out runs/large --tokenizer gpt2 --layers 8 --heads 8 --width 512 \\
      --context 256 --batch-size 8 --accumulate 4 --dropout 0.1 --max-minutes 600`,
    )
    .action(run);
}

/** Adds the options about the data. */
function addData(command: Command): void {
  command
    .optionsGroup("Data:")
    .option(
      "--data <file>",
      "a text to train on; records (.jsonl, .ndjson, .json, .csv, .tsv or .parquet) with text, prompt and completion, messages, or chosen and rejected; a pattern of such files; a folder of heed data, or several with weights (a=3,b=1)",
      text,
    )
    .option(
      "--validation <file>",
      "a text, records, a pattern or a folder to evaluate on (default: the end of --data)",
      text,
    )
    .option(
      "--validation-fraction <x>",
      `share of --data, from its end, that is held out for evaluation ${or("validationFraction")}`,
      number(0, 0.9),
    )
    .addOption(
      new Option(
        "--tokenizer <kind>",
        `unit of the text: characters, bytes or GPT-2's tokens ${or("tokenizer")}`,
      ).choices(tokenizers),
    )
    .option(
      "--documents",
      "with GPT-2's tokens: <|endoftext|> begins a document, and tokens attend only within their document",
    )
    .requiredOption("--out <folder>", "folder for checkpoints and the log", text);
}

/** Adds the options about fine-tuning. */
function addFineTuning(command: Command): void {
  command
    .optionsGroup("Fine-tuning:")
    .option("--model <model>", "a trained model to continue from, as for heed generate --model", text)
    .option("--lora <rank>", "train an adapter of this rank instead of the model itself", integer(1))
    .option("--lora-alpha <x>", "numerator of the adapter's scale, alpha/rank (default: the rank)", number(0))
    .option(
      "--lora-dropout <x>",
      `share of the adapter's inputs dropped in training ${or("loraDropout")}`,
      number(0, 1),
    )
    .option(
      "--lora-targets <names>",
      "layers to adapt, separated by commas, such as q_proj,v_proj (default: all in the blocks)",
      text,
    )
    .option("--dora", "train the lengths of the weights' rows too (DoRA)")
    .option("--rslora", "scale the adapter by alpha/√rank, for large ranks")
    .addOption(
      new Option(
        "--quantize <type>",
        "keep the model itself in 8 or 4 bits while its adapter is trained (QLoRA), which saves memory",
      ).choices(Object.keys(quantizedTypes)),
    )
    .option(
      "--preference",
      "train on pairs of a chosen and a rejected answer (DPO); the model without its adapter is the reference",
    )
    .option("--beta <x>", `how strongly --preference keeps the model near the reference ${or("beta")}`, number(0))
    .option("--freeze <names>", "parameters or layers that are not trained, separated by commas", text);
}

/** Adds the options about the model's shape. */
function addModel(command: Command): void {
  command
    .optionsGroup("Model:")
    .addOption(
      new Option("--family <name>", `architecture: GPT-2's blocks or Llama's ${or("family")}`).choices(trainFamilies),
    )
    .option("--layers <n>", `number of transformer blocks ${or("layers")}`, integer(1))
    .option("--heads <n>", `attention heads in each block ${or("heads")}`, integer(1))
    .option("--width <n>", `size of the residual stream, a multiple of --heads ${or("width")}`, integer(1))
    .option("--kv-heads <n>", "heads of keys and values, a divisor of --heads (default: --heads)", integer(1))
    .option(
      "--feed-forward-width <n>",
      "width of the feed-forward network (default: 4 × --width; 8/3 × --width for a Llama)",
      integer(1),
    )
    .addOption(
      new Option(
        "--positions <kind>",
        `how a GPT encodes positions; a Llama's are always rotary ${or("positions")}`,
      ).choices(positionings),
    )
    .option("--window <n>", `number of last tokens that a token attends to; 0 means all ${or("window")}`, integer(0))
    .option("--context <n>", `largest number of tokens that the model sees at once ${or("context")}`, integer(1))
    .option("--dropout <x>", `share of activations dropped in training ${or("dropout")}`, number(0, 1));
}

/** Adds the options about steps, the optimizer and where a run computes. */
function addTraining(command: Command): void {
  command
    .optionsGroup("Training:")
    .option(
      "--steps <n>",
      `number of training steps ${or("steps", ", without --epochs and --max-minutes")}`,
      integer(1),
    )
    .option("--epochs <x>", "number of times that all of --data is read, instead of --steps", number(0))
    .option("--max-minutes <x>", "largest duration of the run; the learning rate falls as time passes", number(0))
    .option("--batch-size <n>", `sequences in each micro-batch of each process ${or("batchSize")}`, integer(1))
    .option("--accumulate <n>", `micro-batches in each step ${or("accumulate")}`, integer(1))
    .addOption(
      new Option(
        "--optimizer <name>",
        `optimiser; muon leaves all but the blocks' matrices to adamw ${or("optimizer")}`,
      ).choices(optimizerTypes),
    )
    .option("--momentum <x>", "momentum of sgd (default: 0.9) or muon (default: 0.95)", number(0, 1))
    .option(
      "--beta2 <x>",
      `decay of adamw's second moment ${or("beta2", `; ${tunedDefaults.beta2} with --model, as in the library`)}; the first one's is 0.9`,
      number(0, 1 - Number.EPSILON),
    )
    .option(
      "--lr <x>",
      `highest learning rate ${or("lr", `; with --model ${tunedRates.model}, ${tunedRates.adapter} with --lora, ${preferenceRate} with --preference; 100 times as much for sgd, a tenth for lion, 20 times as much for muon`)}`,
      number(0),
    )
    .option("--min-lr <x>", "learning rate at the end (default: a tenth of --lr for cosine, 0 for others)", number(0))
    .addOption(
      new Option(
        "--schedule <form>",
        `how the learning rate falls: cosine, linear, or wsd, which is constant before it falls ${or("schedule")}`,
      ).choices(scheduleTypes),
    )
    .option("--decay-steps <n>", "steps at the end in which a wsd schedule falls (default: a fifth of all)", integer(0))
    .option(
      "--warmup <n>",
      `steps in which the learning rate rises to --lr ${or("warmup", ", at most a tenth of the steps")}`,
      integer(0),
    )
    .option("--weight-decay <x>", `weight decay ${or("weightDecay", "; 0 for sgd, 1 for lion")}`, number(0))
    .option(
      "--ema <decay>",
      "also average the weights over the steps, such as with 0.999, and evaluate the average",
      number(0, 1),
    )
    .option("--max-norm <x>", `largest norm of a step's gradients; 0 turns clipping off ${or("maxNorm")}`, number(0))
    .option("--spikes", "after a spike in the loss, return to the last checkpoint and go on with other data")
    .option("--seed <n>", `the same seed gives the same run ${or("seed")}`, integer(0))
    .addOption(
      new Option("--dtype <type>", `type of the activations; bf16 and f16 halve their memory ${or("dtype")}`).choices([
        "f32",
        "bf16",
        "f16",
      ]),
    )
    .option(
      "--gradient-checkpointing",
      "recompute activations in the backward pass instead of storing them: less memory, a third more time",
    )
    .option("--device <name>", "cpu, cuda, cuda:1, … or auto (default: auto, a GPU if there is one)", deviceName)
    .option("--threads <n>", "number of CPU threads (default: one per core)", integer(1, 256));
}

/** Adds the options about several processes. */
function addProcesses(command: Command): void {
  command
    .optionsGroup("Several processes (mpirun, srun):")
    .option("--zero", "divide the optimiser's state between the processes, which saves memory (ZeRO-1)")
    .addOption(
      new Option("--wire <type>", `type in which gradients are sent; bf16 halves the bytes ${or("wire")}`).choices([
        "f32",
        "bf16",
      ]),
    );
}

/** Adds the options about evaluation, checkpoints and the log. */
function addEvaluation(command: Command): void {
  command
    .optionsGroup("Evaluation and checkpoints:")
    .option("--eval-every <n>", `steps between evaluations ${or("evalEvery")}`, integer(1))
    .option("--eval-batches <n>", `batches in each evaluation ${or("evalBatches")}`, integer(1))
    .option("--patience <n>", "end the run after this many evaluations without an improvement", integer(1))
    .option("--best", "also keep the model with the lowest validation loss, in the folder best in --out")
    .option("--checkpoint-every <n>", `steps between checkpoints ${or("checkpointEvery")}`, integer(1))
    .option("--keep <n>", `number of newest checkpoints to keep ${or("keep")}`, integer(1))
    .option(
      "--resume",
      "continue from the newest complete checkpoint in --out; flags that are left out keep their values",
    )
    .option("--log <file>", "file for every event as a line of JSON (default: log.jsonl in --out)", text)
    .option("--tensorboard <folder>", "folder for event files, which TensorBoard shows", text)
    .option("--sample <text>", "continue this text after each evaluation, and write it into the log", text)
    .option(
      "--peak-tflops <x>",
      "10¹² operations per second that the device can do, for the mfu in the log",
      number(0),
    );
}

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
    flags.model !== undefined && !checkpoint
      ? await loadTuned({ ...flags, model: flags.model }, device ?? "auto")
      : null;
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
  const ofText = flags.model === undefined && !("sequence" in data.train);
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
  const { kvHeads = heads, feedForwardWidth: hidden, positions, window } = flags;
  const { fixedPositions, create } = decoderFamilies[family];
  if (fixedPositions && positions !== defaults.positions)
    throw new UsageError(
      `--positions ${positions}: positions of the family ${family} are always ${fixedPositions}; leave this flag out`,
    );
  const { vocabularySize } = tokenizer;
  const sizes = {
    vocabularySize,
    contextLength,
    layers,
    heads,
    kvHeads,
    width,
    feedForwardWidth: hidden,
    window,
    dropout,
    positions,
  };
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
    maxNorm: flags.maxNorm === 0 ? null : flags.maxNorm,
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
      base: flags.model ?? null,
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
        batch: flags.batchSize,
        seed,
        version: orderVersionOf(checkpoint?.state ?? null, seed),
      }),
      validation: validation && pairBatches(validation, { batch: flags.batchSize, seed: null }),
    });
  }
  const { train, validation } = data as RunData<TokenSource | SequenceSource>;
  return new Trainer({
    ...options,
    data: train,
    documentStart: flags.documents ? data.tokenizer.endOfText : null,
    validation,
    batchSize: flags.batchSize,
    contextLength: flags.context,
  });
}

/** Returns the file of the run's log. */
function logOf({ log }: RunFlags, folder: string): string {
  return log ?? path.join(folder, "log.jsonl");
}

/** Turns `--epochs` into steps. Without `--warmup`, at most a tenth of them are warm-up. */
function countEpochs(flags: RunFlags, { train }: RunData, given: TrainFlags, processes: number): void {
  const { epochs, context, batchSize: batch, accumulate } = flags;
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
