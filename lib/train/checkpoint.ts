// Checkpoints are versions of a folder (formats/versioned-folder.ts), so that a complete one exists whenever the
// process is killed. Each holds the model in files that Hugging Face's transformers can read too (config.json and
// model.safetensors, f32), heed's tokenizer (heed-tokenizer.json), and the state from which training resumes
// (optimizer.safetensors and trainer.json). An adapter is saved in PEFT's layout. If nothing else is trained and the model
// came from elsewhere, the model itself is left out.
import path from "node:path";
import { activeAdapter, baseParameters, lorasOf } from "../adapters/adapters.js";
import type { Device } from "../device.js";
import { type FloatDType, isFloat } from "../dtype.js";
import { HeedError } from "../errors.js";
import { exists, readJsonFile } from "../files.js";
import { readSafetensors, type SafetensorsInput, writeSafetensors } from "../formats/safetensors.js";
import { listVersions, saveVersion } from "../formats/versioned-folder.js";
import { unfreeze } from "../nn/freeze.js";
import type { Module, StateDict } from "../nn/module.js";
import { quantizationOf } from "../nn/quantization.js";
import { describe } from "../ops/check.js";
import { checkQuantizeOptions, type QuantizeOptions } from "../ops/quantize.js";
import type { AdamW } from "../optim/adamw.js";
import type { PretrainedKinds } from "../pretrained/families/index.js";
import { savedPieces, savingOf } from "../pretrained/families/saving.js";
import { loadFolder } from "../pretrained/load-folder.js";
import { loadModel } from "../pretrained/load-model.js";
import { loadAdapter, readAdapterConfig, saveAdapter } from "../pretrained/peft.js";
import { partOfParameter, peftNames } from "../pretrained/peft-names.js";
import type { Shape } from "../shape.js";
import type { FloatTensor } from "../tensor.js";
import { tokenizerFromFile, tokenizerToFile } from "../tokenizer/from-json.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { checkFinite, writeJsonFile } from "./checkpoint-files.js";
import type { DataPosition } from "./position.js";

/** State of a training run at a step. Everything random in a run follows from the seeds and the step. */
export interface TrainerState {
  /** Number of steps taken. */
  step: number;
  /** Seconds that the steps took, over all sessions. */
  seconds: number;
  /** Seed of the order of the data. */
  seed: number;
  /** Seed of the dropout masks. */
  dropoutSeed: number;
  /** Position in the data. Without it, `Trainer` resumes only with `newData`. @default null (unknown) */
  position?: DataPosition | null;
  /** Last step whose model was evaluated on held-out tokens. @default null (none) */
  evaluated?: number | null;
  /** Options of the run that the caller wants to find again; `Trainer` does not read them. */
  options: Record<string, unknown>;
}

/** Contents of trainer.json. */
interface SavedRun {
  state: TrainerState;
  steps: OptimizerState["steps"];
  /** Names of the parameters that were not trained; a file without the list belongs to a model without frozen ones. */
  frozen: readonly string[];
  /** Name of the adapter that is in the checkpoint; null if there is none. */
  adapter: string | null;
  /** Dtype of the model that the checkpoint refers to; null if it contains its model. */
  baseDtype: FloatDType | null;
  /** Options with which the model that the checkpoint refers to was quantised; null if it was not. */
  baseQuantized: Required<QuantizeOptions> | null;
}

/** Contents of a checkpoint to save. */
export interface CheckpointContent {
  /** Model, whose family must be one that heed can save. */
  model: Module;
  /** Tokenizer that is saved with the model. @default null (none) */
  tokenizer?: Tokenizer | null;
  /** Optimiser, whose moments are saved. */
  optimizer: AdamW;
  /** State of the run. */
  state: TrainerState;
  /**
   * Path, or name on the hub, of the model before training. If only an adapter is trained, the checkpoint refers to this
   * model and does not contain it. @default null (the checkpoint contains the model)
   */
  base?: string | null;
}

/** Version of the format of trainer.json. */
const version = 2;

/** Tensors read from a file, by name. */
export type LoadedTensors = Record<string, { shape: Shape; values: Float32Array }>;

/** State of an optimiser, as `AdamW.loadStateDict` takes it. */
export interface OptimizerState {
  /** Moments of the parameters, by name. */
  moments: LoadedTensors;
  /** Number of steps that each parameter has taken, by its name. */
  steps: Record<string, number>;
}

/** Checkpoint that was loaded. */
export interface Checkpoint {
  /** Folder of this checkpoint, inside the run's folder. */
  path: string;
  /** Model, in training mode, with the run's frozen parameters frozen. */
  model: PretrainedKinds["causal"];
  /** Tokenizer; null if none was saved. */
  tokenizer: Tokenizer | null;
  /** State of the optimiser. */
  optimizer: OptimizerState;
  /** State of the run. */
  state: TrainerState;
  /** Newer checkpoints of the run that are incomplete, each with its error; empty if this is the newest. */
  skipped: readonly { path: string; error: HeedError }[];
}

const files = {
  config: "config.json",
  model: "model.safetensors",
  tokenizer: "heed-tokenizer.json",
  optimizer: "optimizer.safetensors",
  trainer: "trainer.json",
} as const;

/**
 * Saves a checkpoint as the latest in a run's folder, deletes all but the newest `keep`, and resolves to its path.
 * `spoilt` lists the paths of incomplete checkpoints, which count as the oldest. Do not train the model until the
 * promise resolves. If it rejects, the earlier checkpoints stay. Of several adapters the active one is saved.
 *
 * @example
 * const optimizer = new AdamW(gpt.namedParameters());
 * const state = { step: 10, seconds: 2.5, seed: 0, dropoutSeed: 0, options: {} };
 * await saveCheckpoint("runs/by-hand", { model: gpt, tokenizer, optimizer, state });
 *
 * @throws ERR_ARGUMENT if the model is quantised, and an adapter is not all that is trained or `base` is missing.
 * @throws ERR_DIVERGED if a parameter is not finite.
 * @throws ERR_IO if the folder cannot be written.
 */
export async function saveCheckpoint(
  folder: string,
  { model, tokenizer = null, optimizer, state, base = null }: CheckpointContent,
  options: { keep?: number; spoilt?: readonly string[] } = {},
): Promise<string> {
  const saving = savingOf("saveCheckpoint", model, { adapted: true });
  const config = saving.toConfig(model);
  const adapter = activeAdapter(model);
  const names = adapter === null ? null : peftNames("saveCheckpoint", model);
  const own = baseParameters(model);
  const refers = adapter !== null && base !== null && Object.values(own).every(({ isFrozen }) => isFrozen);
  const baseDtype = refers ? Object.values(own)[0]!.dtype : null;
  const baseQuantized = quantizationOf("saveCheckpoint", model);
  if (baseQuantized && !refers)
    throw new HeedError(
      "ERR_ARGUMENT",
      "saveCheckpoint: expected a quantised model with an adapter, of which nothing else is trained, and the base that it was quantised from",
    );
  const saved = new Set([...Object.values(own), ...(adapter === null ? [] : adapterParameters(model, adapter))]);
  const name = `step-${String(state.step).padStart(8, "0")}`;
  const write = async (to: string): Promise<void> => {
    const asSaved: AsSaved = (name, tensor) => {
      const of = partOfParameter(name);
      return of && names
        ? oneByOne(tensor, (values) => names.toFile(of.layer, of.part, values))
        : savedPieces(saving, model, name, tensor);
    };
    if (!refers) {
      // Hugging Face's loader requires the format entry.
      await writeTensors(path.join(to, files.model), own, asSaved, { format: "pt" });
      await writeJsonFile(path.join(to, files.config), config);
    }
    if (adapter !== null) await saveAdapter(to, model, { name: adapter, base: refers ? base : null });
    // The moments of a parameter are saved in the parameter's layout.
    const momentAsSaved: AsSaved = (name, moment) => asSaved(name.replace(/^[mv]\./, ""), moment);
    await writeTensors(path.join(to, files.optimizer), optimizer.stateDict(), momentAsSaved, {});
    if (tokenizer) await writeJsonFile(path.join(to, files.tokenizer), tokenizerToFile(tokenizer));
    const { steps } = optimizer;
    const frozen = [...model.namedParameters()].flatMap(([name, tensor]) =>
      tensor.isFrozen && saved.has(tensor) ? [name] : [],
    );
    const run = { format: "heed-trainer", version, ...state, steps, frozen, adapter, baseDtype, baseQuantized };
    await writeJsonFile(path.join(to, files.trainer), run);
  };
  const tensors = [...(refers ? [] : Object.values(own)), ...Object.values(optimizer.stateDict())];
  const bytes = 4 * tensors.reduce((sum, { size }) => sum + size, 0);
  return saveVersion(folder, name, write, { ...options, bytes });
}

function adapterParameters(model: Module, name: string): FloatTensor[] {
  return [...lorasOf(model, name).values()].flatMap(({ lora }) => lora.parameters());
}

async function* oneByOne(
  tensor: FloatTensor,
  convert: (values: Float32Array) => Float32Array,
): AsyncGenerator<Float32Array> {
  yield convert(await tensor.data());
}

/** Function that yields the elements of a named tensor in pieces, in the layout of the file. */
type AsSaved = (name: string, tensor: FloatTensor) => AsyncIterable<Float32Array>;

/** Writes tensors to a file. Their values are read one after the other, so that only a part is in memory. */
async function writeTensors(
  file: string,
  tensors: StateDict,
  asSaved: AsSaved,
  metadata: Record<string, string>,
): Promise<void> {
  const input = (name: string, tensor: FloatTensor): SafetensorsInput => ({
    name,
    dtype: "F32",
    shape: tensor.shape,
    data: async function* () {
      for await (const values of asSaved(name, tensor)) yield checkFinite(name, values);
    },
  });
  await writeSafetensors(
    file,
    Object.entries(tensors).map(([name, tensor]) => input(name, tensor)),
    metadata,
  );
}

/**
 * Loads a checkpoint to resume training from. `folder` is a run's folder, whose newest complete checkpoint is loaded,
 * or the folder of one checkpoint. Parameters that were frozen in the run are frozen in the model.
 *
 * @example
 * const data = tokenData(tokenizer.encode("to be or not to be ".repeat(20)));
 * const settings = { data, batchSize: 2, checkpoint: { folder: "runs/first" } };
 * await new Trainer({ ...settings, model: gpt, steps: 2 }).train();
 * const resume = await loadCheckpoint("runs/first");
 * await new Trainer({ ...settings, model: resume.model, resume, steps: 4 }).train(); // steps 3 and 4
 *
 * @throws ERR_IO if the folder holds no checkpoint, or files are missing or cannot be read.
 * @throws ERR_FORMAT if a file is spoilt and no earlier checkpoint is complete. The message names the file.
 */
export async function loadCheckpoint(folder: string, options: { device?: Device | string } = {}): Promise<Checkpoint> {
  const versions = await listVersions(folder);
  if (versions.length === 0) {
    const alone = [files.config, files.trainer].map((name) => exists(path.join(folder, name)));
    if ((await Promise.all(alone)).includes(true)) return { ...(await load(folder, options)), skipped: [] };
    throw new HeedError("ERR_IO", `${folder}: expected a checkpoint or a folder of checkpoints, found neither`);
  }
  const skipped: { path: string; error: HeedError }[] = [];
  for (const at of versions)
    try {
      return { ...(await load(at, options)), skipped };
    } catch (error) {
      if (!isIncomplete(error)) throw error;
      skipped.push({ path: at, error });
    }
  throw skipped[0]!.error;
}

async function load(at: string, options: { device?: Device | string }): Promise<Omit<Checkpoint, "skipped">> {
  const trainer = path.join(at, files.trainer);
  const { state, steps, frozen, adapter, baseDtype, baseQuantized } = checkState(await readJsonFile(trainer), trainer);
  const optimizer = { moments: await readTensors(path.join(at, files.optimizer)), steps };
  const model = await modelOf(at, { ...options, seed: state.dropoutSeed }, baseDtype, baseQuantized);
  try {
    if (adapter !== null) {
      await loadAdapter(model, at, { name: adapter });
      unfreeze(model);
      optimizer.moments = fromFile(optimizer.moments, model);
    }
    model.train();
    freezeNamed(model, frozen, trainer);
    return { path: at, model, tokenizer: await loadTokenizer(at, model.config.vocabularySize), optimizer, state };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/**
 * Returns the options with which the model was quantised over which a run trained its adapter; null if it was not
 * quantised, or there is no run. `folder` is that of the run or of a checkpoint.
 */
export async function trainedOver(folder: string): Promise<Required<QuantizeOptions> | null> {
  const [newest = folder] = await listVersions(folder);
  const file = path.join(newest, files.trainer);
  return (await exists(file)) ? checkState(await readJsonFile(file), file).baseQuantized : null;
}

/** Loads the model in a checkpoint, or the one that its adapter refers to. */
async function modelOf(
  at: string,
  options: { device?: Device | string; seed: number },
  baseDtype: FloatDType | null,
  quantize: QuantizeOptions | null,
): Promise<Checkpoint["model"]> {
  if (baseDtype === null) return (await loadFolder(at, "causal", options)).model;
  const { base } = await readAdapterConfig(at);
  if (base === null)
    throw new HeedError("ERR_FORMAT", `${at}: expected base_model_name_or_path in adapter_config.json, got none`);
  return (await loadModel(base, { ...options, dtype: baseDtype, ...(quantize && { quantize }) })).model;
}

/** Returns moments, which are saved in the layout of PEFT's files, in the layout of the model. */
function fromFile(moments: LoadedTensors, model: Module): LoadedTensors {
  const names = peftNames("loadCheckpoint", model);
  const converted = Object.entries(moments).map(([name, { shape, values }]) => {
    const of = partOfParameter(name.replace(/^[mv]\./, ""));
    return [name, { shape, values: of ? names.fromFile(of.layer, of.part, values) : values }] as const;
  });
  return Object.fromEntries(converted);
}

/** Returns true if an error means missing or spoilt files, and not, for example, a lack of permission. */
function isIncomplete(error: unknown): error is HeedError {
  if (!(error instanceof HeedError)) return false;
  const { code = "ENOENT" } = (error.cause ?? {}) as NodeJS.ErrnoException;
  return (
    error.code === "ERR_FORMAT" || (error.code === "ERR_IO" && ["ENOENT", "ENOTDIR", "EISDIR", "EIO"].includes(code))
  );
}

async function loadTokenizer(at: string, vocabularySize: number): Promise<Tokenizer | null> {
  const tokenizer = await tokenizerFromFile(path.join(at, files.tokenizer));
  if (!tokenizer || tokenizer.vocabularySize <= vocabularySize) return tokenizer;
  throw new HeedError(
    "ERR_FORMAT",
    `${at}: expected a tokenizer with at most ${vocabularySize} tokens, as many as the model has, got ${tokenizer.vocabularySize}`,
  );
}

async function readTensors(name: string): Promise<LoadedTensors> {
  const file = await readSafetensors(name);
  try {
    const loaded: [string, LoadedTensors[string]][] = [];
    for (const [tensor, { shape }] of file.tensors)
      loaded.push([tensor, { shape, values: await file.readFloats(tensor) }]);
    return Object.fromEntries(loaded);
  } finally {
    await file.close();
  }
}

function freezeNamed(model: Module, names: readonly string[], file: string): void {
  const parameters = new Map(model.namedParameters());
  for (const name of names) {
    const parameter = parameters.get(name);
    if (!parameter)
      throw new HeedError(
        "ERR_FORMAT",
        `${file}: expected frozen to name parameters of the model, got ${describe(name)}`,
      );
    parameter.requiresGrad = false;
  }
}

function checkState(json: unknown, file: string): SavedRun {
  const content = (json ?? {}) as Record<string, unknown>;
  const {
    format,
    version: written,
    step,
    seconds,
    seed,
    dropoutSeed,
    evaluated = null,
    options,
    steps,
    frozen = [],
    adapter = null,
    baseDtype = null,
    baseQuantized = null,
  } = content;
  const position = positionIn(content.position);
  const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
  const fault = (what: string, got: unknown): HeedError =>
    new HeedError("ERR_FORMAT", `${file}: expected ${what}, got ${describe(got)}`);
  if (format !== "heed-trainer") throw fault('"format": "heed-trainer"', format);
  if (written !== version) throw fault(`version ${version}`, written);
  for (const [name, value] of Object.entries({ step, seed, dropoutSeed, evaluated: evaluated ?? 0, ...position }))
    if (!Number.isSafeInteger(value) || (value as number) < 0)
      throw fault(`${name} to be an integer of at least 0`, value);
  if (typeof seconds !== "number" || !(seconds >= 0)) throw fault("seconds to be a number of at least 0", seconds);
  if (!isObject(options)) throw fault("options to be an object", options);
  if (!isObject(steps)) throw fault("the optimiser's steps to be an object", steps);
  if (!Array.isArray(frozen)) throw fault("frozen to be a list of parameters", frozen);
  for (const [name, count] of Object.entries(steps as object))
    if (!Number.isSafeInteger(count) || count < 0)
      throw fault(`steps of ${name} to be an integer of at least 0`, count);
  if (adapter !== null && typeof adapter !== "string") throw fault("adapter to be a name", adapter);
  if (baseDtype !== null && !(typeof baseDtype === "string" && isFloat(baseDtype as FloatDType)))
    throw fault("baseDtype to be a floating dtype", baseDtype);
  const state = { step, seconds, seed, dropoutSeed, evaluated, position, options } as TrainerState;
  return {
    state,
    steps: steps as Record<string, number>,
    frozen: frozen as string[],
    adapter,
    baseDtype: baseDtype as FloatDType | null,
    baseQuantized: quantizationIn(baseQuantized, fault),
  };
}

/** Returns options of `quantize` from a file, or null if it has none. */
function quantizationIn(
  json: unknown,
  fault: (what: string, got: unknown) => HeedError,
): Required<QuantizeOptions> | null {
  if (json === null) return null;
  try {
    return checkQuantizeOptions(json as QuantizeOptions);
  } catch {
    throw fault("baseQuantized to have the bits and the groupSize of quantised weights", json);
  }
}

/** Returns a file's position in the data, still unchecked, or null if the file has none. */
function positionIn(json: unknown): Record<keyof DataPosition, unknown> | null {
  if (json === undefined || json === null) return null;
  const { sequences, microBatches, contextLength, sequencesPerEpoch } = json as Record<keyof DataPosition, unknown>;
  return { sequences, microBatches, contextLength, sequencesPerEpoch };
}
