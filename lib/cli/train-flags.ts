import type { DecoderFamilyName } from "../models/decoder-families.js";
import type { Positions } from "../models/gpt-config.js";
import { type optimizerTypes, usualRates } from "../train/optimizers.js";
import type { scheduleTypes } from "../train/training-options.js";
import type { quantizedTypes } from "./inference-options.js";

/** The tokenizers that a model can be trained with. */
export const tokenizers = ["char", "byte", "gpt2"] as const;

/** The families whose models `heed train` can make. The list is written here so that `heed --help` loads no model. */
export const trainFamilies = ["gpt", "llama"] as const satisfies readonly DecoderFamilyName[];

/** The ways in which a GPT may represent the position of a token. */
export const positionings = [
  "learned",
  "sinusoidal",
  "rotary",
  "alibi",
  "none",
] as const satisfies readonly Positions[];

/** The flags that describe a run. A checkpoint stores them, so that `--resume` needs no others. */
export interface RunFlags {
  data: string;
  validation?: string;
  validationFraction: number;
  model?: string;
  lora?: number;
  loraAlpha?: number;
  loraDropout: number;
  loraTargets?: string;
  dora: boolean;
  rslora: boolean;
  quantize?: keyof typeof quantizedTypes;
  freeze?: string;
  preference: boolean;
  beta: number;
  tokenizer: (typeof tokenizers)[number];
  documents: boolean;
  family: DecoderFamilyName;
  layers: number;
  heads: number;
  width: number;
  kvHeads?: number;
  feedForwardWidth?: number;
  positions: Positions;
  window: number;
  context: number;
  dropout: number;
  steps?: number | undefined;
  epochs?: number;
  maxMinutes?: number;
  batchSize: number;
  accumulate: number;
  lr: number;
  minLr?: number;
  warmup: number;
  schedule: (typeof scheduleTypes)[number];
  decaySteps?: number;
  optimizer: (typeof optimizerTypes)[number];
  beta2: number;
  momentum?: number;
  weightDecay: number;
  ema?: number;
  maxNorm: number;
  spikes: boolean;
  seed: number;
  dtype: "f32" | "bf16" | "f16";
  gradientCheckpointing: boolean;
  zero: boolean;
  wire: "f32" | "bf16";
  evalEvery: number;
  evalBatches: number;
  patience?: number;
  best: boolean;
  checkpointEvery: number;
  keep: number;
  log?: string;
  tensorboard?: string;
  sample?: string;
  peakTflops?: number;
}

/** The flags of `heed train`. */
export interface TrainFlags extends Partial<RunFlags> {
  out: string;
  resume?: boolean;
  threads?: number;
  device?: string;
}

/** Defaults of a run's flags. */
export const defaults = {
  validationFraction: 0.1,
  loraDropout: 0,
  dora: false,
  rslora: false,
  preference: false,
  beta: 0.1,
  tokenizer: "char",
  documents: false,
  family: "gpt",
  positions: "learned",
  window: 0,
  layers: 4,
  heads: 4,
  width: 128,
  context: 128,
  dropout: 0,
  steps: 1000,
  batchSize: 16,
  accumulate: 1,
  lr: 1e-3,
  warmup: 100,
  schedule: "cosine",
  optimizer: "adamw",
  // Below the library's 0.999, which suits long runs: small models learn a text in a few hundred steps.
  beta2: 0.99,
  weightDecay: 0.1,
  maxNorm: 1,
  spikes: false,
  seed: 0,
  dtype: "f32",
  gradientCheckpointing: false,
  zero: false,
  wire: "f32",
  evalEvery: 250,
  evalBatches: 20,
  best: false,
  checkpointEvery: 250,
  keep: 2,
} as const satisfies Partial<RunFlags>;

/** Defaults of the flags of a run that continues from a trained model, where they differ. */
export const tunedDefaults = {
  context: 512,
  batchSize: 8,
  beta2: 0.999,
  weightDecay: 0.01,
} as const satisfies Partial<RunFlags>;

/**
 * Learning rates of AdamW in a run that continues from a trained model: for an adapter, whose parameters are new, and for
 * the model's own parameters, which larger steps would spoil.
 */
export const tunedRates = { adapter: 2e-4, model: 2e-5 } as const;

/** Learning rate of a run on pairs of answers: DPO needs less than the learning of texts. */
export const preferenceRate = 5e-5;

/** Defaults of the flags with other optimisers than AdamW, where they differ. */
export const optimizerDefaults: Readonly<Record<RunFlags["optimizer"], Partial<RunFlags>>> = {
  adamw: {},
  // SGD's weight decay is part of the gradient, and its learning rates are large.
  sgd: { lr: usualRates.sgd, weightDecay: 0, momentum: 0.9 },
  // A tenth of AdamW's rate, with ten times its decay (Chen et al. 2023, §5).
  lion: { lr: usualRates.lion, weightDecay: 1 },
  muon: { lr: usualRates.muon },
};

/** The flags that describe a new model. A run that continues from a trained model has none of them. */
export const modelFlags = [
  "tokenizer",
  "family",
  "layers",
  "heads",
  "width",
  "kvHeads",
  "feedForwardWidth",
  "positions",
  "window",
  "dropout",
] as const satisfies (keyof RunFlags)[];
