import { existsSync } from "node:fs";
import path from "node:path";
import { HeedError } from "../util/errors.js";
import { decoderFamilies, familyOf } from "../models/decoder-families.js";
import type { Checkpoint } from "../train/checkpoint.js";
import { resolveData } from "./data-parts.js";
import { UsageError } from "./failure.js";
import {
  defaults,
  modelFlags,
  optimizerDefaults,
  preferenceRate,
  type RunFlags,
  type TrainFlags,
  tunedDefaults,
  tunedRates,
} from "./train-flags.js";

const types: Record<keyof RunFlags, "string" | "number" | "boolean"> = {
  data: "string",
  validation: "string",
  validationFraction: "number",
  model: "string",
  lora: "number",
  loraAlpha: "number",
  loraDropout: "number",
  loraTargets: "string",
  dora: "boolean",
  rslora: "boolean",
  quantize: "string",
  freeze: "string",
  preference: "boolean",
  beta: "number",
  tokenizer: "string",
  documents: "boolean",
  family: "string",
  layers: "number",
  heads: "number",
  width: "number",
  kvHeads: "number",
  feedForwardWidth: "number",
  positions: "string",
  window: "number",
  context: "number",
  dropout: "number",
  steps: "number",
  epochs: "number",
  maxMinutes: "number",
  batchSize: "number",
  accumulate: "number",
  lr: "number",
  minLr: "number",
  warmup: "number",
  schedule: "string",
  decaySteps: "number",
  optimizer: "string",
  beta2: "number",
  momentum: "number",
  weightDecay: "number",
  ema: "number",
  maxNorm: "number",
  spikes: "boolean",
  seed: "number",
  dtype: "string",
  gradientCheckpointing: "boolean",
  zero: "boolean",
  wire: "string",
  evalEvery: "number",
  evalBatches: "number",
  patience: "number",
  best: "boolean",
  checkpointEvery: "number",
  keep: "number",
  log: "string",
  tensorboard: "string",
  sample: "string",
  peakTflops: "number",
};

/** The flags that cannot change when a run is resumed. */
const fixed = [
  ...modelFlags,
  "model",
  "lora",
  "loraAlpha",
  "loraDropout",
  "loraTargets",
  "dora",
  "rslora",
  "quantize",
  "freeze",
  "preference",
  "beta",
  "context",
  "seed",
  "optimizer",
  "ema",
] as const;

/**
 * Returns the flags of a run: those given by the user, then those of the checkpoint that is resumed, then the defaults.
 */
export function runFlags(given: TrainFlags, checkpoint: Checkpoint | null): RunFlags {
  const stored = checkpoint ? storedFlags(checkpoint) : {};
  for (const name of checkpoint ? fixed : [])
    if (given[name] !== undefined && given[name] !== stored[name])
      throw new UsageError(
        `--${dashed(name)} ${given[name]}: expected ${stored[name]}, as in the run in ${given.out}; a resumed run cannot change it`,
      );

  const chosen: Partial<RunFlags> = { ...stored };
  for (const name of Object.keys(types) as (keyof RunFlags)[])
    if (given[name] !== undefined) Object.assign(chosen, { [name]: given[name] });
  // Steps and epochs replace each other.
  if (given.epochs !== undefined && given.steps === undefined) delete chosen.steps;
  if (given.steps !== undefined && given.epochs === undefined) delete chosen.epochs;
  const { data, maxMinutes, epochs, optimizer = defaults.optimizer } = chosen;
  if (epochs !== undefined && given.steps !== undefined)
    throw new UsageError("--epochs: expected either --steps or --epochs, got both");
  const ends = epochs !== undefined || maxMinutes !== undefined;
  const { steps = ends ? undefined : defaults.steps } = chosen;
  checkTuning(chosen, given);
  if (data === undefined) throw new UsageError("required option '--data <file>' not specified");
  const { model: from } = chosen;
  return {
    ...defaults,
    ...(from === undefined ? {} : tunedDefaults),
    ...optimizerSettings(optimizer, rateOf(chosen)),
    warmup: Math.min(defaults.warmup, Math.floor((steps ?? Infinity) / 10)),
    ...chosen,
    steps,
    data: resolveData(data),
    // A model may also be a name on the hub.
    ...(from === undefined ? {} : { model: existsSync(from) ? path.resolve(from) : from }),
    ...(chosen.validation === undefined ? {} : { validation: resolveData(chosen.validation) }),
    ...(chosen.log === undefined ? {} : { log: path.resolve(chosen.log) }),
    ...(chosen.tensorboard === undefined ? {} : { tensorboard: path.resolve(chosen.tensorboard) }),
  };
}

/** Returns AdamW's default learning rate for what a run trains. */
function rateOf({ model: from, lora, preference }: Partial<RunFlags>): number {
  if (preference) return preferenceRate;
  if (from === undefined) return defaults.lr;
  return lora === undefined ? tunedRates.model : tunedRates.adapter;
}

/** Returns the defaults of an optimiser's flags. The rates of all optimisers relate to each other as for a new model. */
function optimizerSettings(optimizer: RunFlags["optimizer"], rate: number): Partial<RunFlags> {
  const { lr, ...own } = optimizerDefaults[optimizer];
  return { ...own, lr: lr === undefined ? rate : lr * (rate / defaults.lr) };
}

/** Checks that flags for a trained model and those for a new one are not combined. */
function checkTuning(chosen: Partial<RunFlags>, given: TrainFlags): void {
  if (chosen.model === undefined) {
    for (const name of ["lora", "freeze"] as const)
      if (chosen[name] !== undefined) throw new UsageError(`--${name}: works only with --model, on a trained model`);
  } else
    for (const name of modelFlags)
      if (given[name] !== undefined)
        throw new UsageError(`--${dashed(name)}: the model that --model names decides it; leave this flag out`);
  for (const name of ["loraAlpha", "loraDropout", "loraTargets", "dora", "rslora", "quantize"] as const)
    if (given[name] !== undefined && chosen.lora === undefined)
      throw new UsageError(`--${dashed(name)}: works only with --lora`);
  if (chosen.preference && chosen.lora === undefined)
    throw new UsageError(
      "--preference: works only with --lora, because the model without the adapter is the reference",
    );
  if (given.beta !== undefined && !chosen.preference) throw new UsageError("--beta: works only with --preference");
  if (chosen.preference && given.documents) throw new UsageError("--documents: works only without --preference");
  const { optimizer = defaults.optimizer, schedule = defaults.schedule } = chosen;
  if (given.beta2 !== undefined && optimizer !== "adamw")
    throw new UsageError("--beta2: works only with --optimizer adamw");
  if (given.momentum !== undefined && optimizer !== "sgd" && optimizer !== "muon")
    throw new UsageError("--momentum: works only with --optimizer sgd or muon");
  if (given.decaySteps !== undefined && schedule !== "wsd")
    throw new UsageError("--decay-steps: works only with --schedule wsd");
}

/** Returns the flags of a checkpoint. Those about the model's shape are taken from the model itself. */
function storedFlags({ path: at, model, state }: Checkpoint): Partial<RunFlags> {
  // Runs that do not say it had this decay.
  const stored: Partial<RunFlags> = { beta2: defaults.beta2 };
  for (const [name, type] of Object.entries(types)) {
    const value = state.options[name];
    if (value === undefined) continue;
    if (typeof value !== type)
      throw new HeedError("ERR_FORMAT", `${at}: expected ${name} in trainer.json to be a ${type}, got ${typeof value}`);
    Object.assign(stored, { [name]: value });
  }
  if (stored.model !== undefined) return { ...stored, seed: state.seed };
  const {
    layers,
    heads,
    width,
    kvHeads,
    feedForwardWidth: hidden,
    window,
    contextLength: context,
    dropout,
  } = model.config;
  const made = familyOf(model);
  // Positions are a flag only where they can be chosen.
  const own = made && (decoderFamilies[made.family].fixedPositions ? { family: made.family } : made);
  return {
    ...stored,
    layers,
    heads,
    width,
    kvHeads,
    feedForwardWidth: hidden,
    window,
    context,
    dropout,
    ...own,
    seed: state.seed,
  };
}

/** Returns a flag as it is typed. */
function dashed(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
