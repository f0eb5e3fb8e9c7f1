// Checkpoints are versions of a folder (formats/versioned-folder.ts), so that a complete one exists whenever the
// process is killed. Each holds the model in files that Hugging Face's transformers can read too (config.json and
// model.safetensors, f32), heed's tokenizer (heed-tokenizer.json), and the state from which training resumes
// (optimizer.safetensors and trainer.json), with the moving average of the weights (average.safetensors) if there is one.
// An adapter is saved in PEFT's layout. If nothing else is trained and the model came from elsewhere, the model itself is
// left out. Of a model that no config.json describes, the parameters alone are saved.
import path from "node:path";
import { activeAdapter, baseParameters, lorasOf } from "../adapters/adapters.js";
import type { Device } from "../core/device.js";
import { HeedError } from "../util/errors.js";
import { exists, ifThere, inFile, readJsonFile } from "../util/files.js";
import { type SafetensorsInput, writeSafetensors } from "../formats/safetensors.js";
import { listVersions, saveVersion } from "../formats/versioned-folder.js";
import { ops } from "../core/native.js";
import { unfreeze } from "../nn/freeze.js";
import type { Module, StateDict } from "../nn/module.js";
import { quantizationOf } from "../nn/quantization.js";
import { describe } from "../ops/check.js";
import type { QuantizeOptions } from "../ops/quantize.js";
import { type Optimizer, parameterOfState, type SavedState } from "../optim/optimizer.js";
import type { WeightAverage } from "../optim/weight-average.js";
import type { FamilySaving } from "../pretrained/families/family.js";
import { families, type PretrainedKinds } from "../pretrained/families/index.js";
import { savedPieces, savingOf } from "../pretrained/families/saving.js";
import { loadFolder } from "../pretrained/load-folder.js";
import { loadModel } from "../pretrained/load-model.js";
import { loadAdapter, readAdapterConfig, saveAdapter } from "../pretrained/peft.js";
import { partOfParameter, peftNames } from "../pretrained/peft-names.js";
import { averageFile, inModelsLayout, type LoadedTensors, readTensors } from "../pretrained/saved-tensors.js";
import { numel, sameShape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { readPieces } from "../core/tensor-pieces.js";
import { tokenizerFromFile, tokenizerToFile } from "../tokenizer/from-json.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { checkFinite, writeJsonFile } from "./checkpoint-files.js";
import { checkState, type SavedRun, type TrainerState, version } from "./trainer-state.js";

/** Contents of a checkpoint to save. */
export interface CheckpointContent {
  /** Model, whose family must be one that heed can save. */
  model: Module;
  /** Tokenizer that is saved with the model. @default null (none) */
  tokenizer?: Tokenizer | null;
  /** Optimiser, whose state is saved. */
  optimizer: Optimizer;
  /** @internal State tensors of the optimiser, if they are to be fetched. @default those of the optimiser */
  states?: readonly SavedState[];
  /** Moving average of the weights, which is saved too. @default null (none) */
  average?: WeightAverage | null;
  /** State of the run. */
  state: TrainerState;
  /**
   * Path, or name on the hub, of the model before training. If only an adapter is trained, the checkpoint refers to this
   * model and does not contain it. @default null (the checkpoint contains the model)
   */
  base?: string | null;
}

/** State of an optimiser, as `Optimizer.loadStateDict` takes it. */
export interface OptimizerState {
  /** State tensors of the parameters, by name. */
  moments: LoadedTensors;
  /** Number of steps that each parameter has taken, by its name. */
  steps: Record<string, number>;
}

/** Checkpoint that was loaded. */
export interface Checkpoint<M extends Module = PretrainedKinds["causal"]> {
  /** Folder of this checkpoint, inside the run's folder. */
  path: string;
  /** Model, in training mode, with the run's frozen parameters frozen. */
  model: M;
  /** Tokenizer; null if none was saved. */
  tokenizer: Tokenizer | null;
  /** State of the optimiser. */
  optimizer: OptimizerState;
  /** Moving average of the weights, by the names of the parameters; null if none was saved. */
  average: LoadedTensors | null;
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
  average: averageFile,
  trainer: "trainer.json",
} as const;

/**
 * Saves a checkpoint as the latest in a run's folder, deletes all but the newest `keep`, and resolves to its path.
 * `spoilt` lists the paths of incomplete checkpoints, which count as the oldest. Do not train the model until the
 * promise resolves. If it rejects, the earlier checkpoints stay. Of several adapters the active one is saved. `check` is
 * called before each change of the folder, such as `check()` of its lock.
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
  content: CheckpointContent,
  options: { keep?: number; spoilt?: readonly string[]; check?: (() => Promise<void>) | undefined } = {},
): Promise<string> {
  const { model, tokenizer = null, optimizer, states, average = null, state, base = null } = content;
  const { saving, config, kind } = formOf(model);
  const adapter = activeAdapter(model);
  const names = adapter === null ? null : peftNames("saveCheckpoint", model);
  const own = baseParameters(model);
  // Of the other kinds, the model before training may lack the head, which the checkpoint has then.
  const refers =
    kind === "causal" && adapter !== null && base !== null && Object.values(own).every(({ isFrozen }) => isFrozen);
  const baseDtype = refers ? Object.values(own)[0]!.modelDType : null;
  const baseQuantized = quantizationOf("saveCheckpoint", model);
  if (model.isQuantized && !refers)
    throw new HeedError(
      "ERR_ARGUMENT",
      "saveCheckpoint: expected a quantised model with an adapter, of which nothing else is trained, and the base that it was quantised from",
    );
  const saved = new Set([...Object.values(own), ...(adapter === null ? [] : adapterParameters(model, adapter))]);
  const moments = states ?? optimizer.savedStates();
  const name = `step-${String(state.step).padStart(8, "0")}`;
  const write = async (to: string): Promise<void> => {
    const asSaved: AsSaved = (name, tensor) => {
      const of = partOfParameter(name);
      if (of && names) return oneByOne(tensor, (values) => names.toFile(of.layer, of.part, values));
      return saving ? savedPieces(saving, model, name, tensor) : readPieces(tensor);
    };
    if (!refers) {
      // Hugging Face's loader requires the format entry.
      const nameInFile = (name: string): string => saving?.nameInFile?.(model, name) ?? name;
      await writeTensors(path.join(to, files.model), own, asSaved, { metadata: { format: "pt" }, nameInFile });
      if (config) await writeJsonFile(path.join(to, files.config), config);
    }
    if (adapter !== null) await saveAdapter(to, model, { name: adapter, base: refers ? base : null });
    // The state of a parameter is saved in the parameter's layout.
    await writeStates(path.join(to, files.optimizer), moments, asSaved);
    if (average) await writeTensors(path.join(to, files.average), average.stateDict(), asSaved);
    if (tokenizer) await writeJsonFile(path.join(to, files.tokenizer), tokenizerToFile(tokenizer));
    const { steps } = optimizer;
    const frozen = [...model.namedParameters()].flatMap(([name, tensor]) =>
      tensor.isFrozen && saved.has(tensor) ? [name] : [],
    );
    const run = { format: "heed-trainer", version, ...state, steps, frozen, adapter, baseDtype, baseQuantized, kind };
    await writeJsonFile(path.join(to, files.trainer), run);
  };
  const tensors = [...(refers ? [] : Object.values(own)), ...Object.values(average?.stateDict() ?? {}), ...moments];
  const bytes = 4 * tensors.reduce((sum, { shape }) => sum + numel(shape), 0);
  return saveVersion(folder, name, write, { ...options, bytes });
}

/** Form in which a model is saved: that of its family, with a config.json, or, if it has none, the parameters alone. */
interface Form {
  saving: FamilySaving | null;
  config: Record<string, unknown> | null;
  /** Kind as which the model is loaded again; null if the caller makes it. */
  kind: keyof PretrainedKinds | null;
}

function formOf(model: Module): Form {
  const none: Form = { saving: null, config: null, kind: null };
  const kind = (Object.keys(families) as (keyof PretrainedKinds)[]).find((name) =>
    families[name].some(({ saving }) => saving?.owns(model)),
  );
  if (kind === undefined) return none;
  const saving = savingOf("saveCheckpoint", model, { adapted: true });
  // The state of a parameter could not be split as the parameter is.
  if (saving.tensors) return none;
  try {
    return { saving, config: saving.toConfig(model), kind };
  } catch (error) {
    // Published models have no such form.
    if (error instanceof HeedError && error.code === "ERR_ARGUMENT" && kind !== "causal") return none;
    throw error;
  }
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
  {
    metadata = {},
    nameInFile = (name) => name,
  }: { metadata?: Record<string, string>; nameInFile?: (name: string) => string } = {},
): Promise<void> {
  const input = (name: string, tensor: FloatTensor): SafetensorsInput => ({
    name: nameInFile(name),
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

/** Writes the states of an optimiser to a file, each as soon as it has been fetched. */
async function writeStates(file: string, states: readonly SavedState[], asSaved: AsSaved): Promise<void> {
  const inputs = states.map((saved): SafetensorsInput => ({
    name: saved.name,
    dtype: "F32",
    shape: saved.shape,
    data: async function* () {
      const { name } = saved;
      using state = await saved.tensor();
      for await (const values of asSaved(parameterOfState(name), state)) yield checkFinite(name, values);
    },
  }));
  await writeSafetensors(file, inputs, {});
}

/** Options of `loadCheckpoint`. */
export interface LoadCheckpointOptions<M extends Module> {
  /** Device that holds the model. @default "auto" */
  device?: Device | string;
  /**
   * Model that gets the parameters of the checkpoint. It must be made as the saved one was, with the same adapters if it
   * has any. It is required for a `Module` of your own and for an `EncoderDecoder`.
   * @default a new model of the class that was saved
   */
  model?: M;
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
 * @throws ERR_ARGUMENT if the checkpoint is of a `Module` of your own and `model` is not given.
 * @throws ERR_IO if the folder holds no checkpoint, or files are missing or cannot be read.
 * @throws ERR_FORMAT if a file is spoilt and no earlier checkpoint is complete, or does not fit `model`. The message
 *   names the file.
 */
export async function loadCheckpoint<M extends Module = PretrainedKinds["causal"]>(
  folder: string,
  options: LoadCheckpointOptions<M> = {},
): Promise<Checkpoint<M>> {
  const found = await newest(folder, [], (at) => load(at, options));
  if (found) return found;
  const single = await Promise.all([files.trainer, files.config].map((file) => exists(path.join(folder, file))));
  if (single.includes(true)) return { ...(await load(folder, options)), skipped: [] };
  throw new HeedError("ERR_IO", `${folder}: expected a checkpoint or a folder of checkpoints, found neither`);
}

/**
 * Loads the newest complete checkpoint of a run, without those at the paths `except`, into the model of the run. Returns
 * null if there is none.
 *
 * @throws the errors of `loadCheckpoint`.
 */
export async function restoreCheckpoint<M extends Module>(
  folder: string,
  model: M,
  { except }: { except: readonly string[] },
): Promise<Checkpoint<M> | null> {
  return newest(folder, except, (at) => load(at, { model }));
}

/** Loads the newest complete version in a folder. Returns null if it has no versions. */
async function newest<M extends Module>(
  folder: string,
  except: readonly string[],
  loadAt: (at: string) => Promise<Omit<Checkpoint<M>, "skipped">>,
): Promise<Checkpoint<M> | null> {
  const skipped: { path: string; error: HeedError }[] = [];
  for (const at of await listVersions(folder)) {
    if (except.includes(at)) continue;
    try {
      return { ...(await loadAt(at)), skipped };
    } catch (error) {
      if (!isIncomplete(error)) throw error;
      skipped.push({ path: at, error });
    }
  }
  if (skipped.length > 0) throw skipped[0]!.error;
  return null;
}

async function load<M extends Module>(
  at: string,
  { device, model: given }: LoadCheckpointOptions<M>,
): Promise<Omit<Checkpoint<M>, "skipped">> {
  const trainer = path.join(at, files.trainer);
  const run = checkState(await readJsonFile(trainer), trainer);
  const { state, steps, frozen, adapter, kind } = run;
  if (kind === null && !given)
    throw new HeedError(
      "ERR_ARGUMENT",
      `loadCheckpoint: expected model, because ${at} is of a module that heed cannot make; got none`,
    );
  const optimizer = { moments: await readTensors(path.join(at, files.optimizer)), steps };
  let average = await ifThere(path.join(at, files.average), readTensors);
  const place = given ? { device: given.parameters()[0]!.device } : device === undefined ? {} : { device };
  // Decoders may have other layouts, and adapters are added. Every other model is filled by the names of its parameters.
  const filled = kind === null || (kind !== "causal" && adapter === null) ? (given ?? null) : null;
  const model = filled ?? (await modelOf(at, { ...place, seed: state.dropoutSeed }, run, kind!));
  try {
    if (filled) await fill(filled, at);
    if (adapter !== null) {
      await loadAdapter(at, model, { name: adapter });
      unfreeze(model);
      optimizer.moments = inModelsLayout(optimizer.moments, model, parameterOfState);
      average &&= inModelsLayout(average, model);
    }
    model.train();
    freezeNamed(model, frozen, trainer);
    const { vocabularySize = Infinity } = (model as { config?: { vocabularySize?: number } } & Module).config ?? {};
    const tokenizer = await loadTokenizer(at, vocabularySize);
    if (given && model !== given) takeOver(given, model, at);
    return { path: at, model: given ?? (model as M), tokenizer, optimizer, average, state };
  } catch (error) {
    if (model !== given) model.dispose();
    throw error;
  }
}

/** Fills a model with the parameters in the folder of a checkpoint. */
async function fill(model: Module, at: string): Promise<void> {
  const file = path.join(at, files.model);
  const tensors = await readTensors(file);
  const { saving } = formOf(model);
  const byName = new Map(
    Object.keys(model.stateDict()).map((name) => [saving?.nameInFile?.(model, name) ?? name, name]),
  );
  const own = Object.entries(tensors).map(([name, tensor]) => [byName.get(name) ?? name, tensor] as const);
  await inFile(file, () => model.loadStateDict(Object.fromEntries(own)));
}

/** Copies the parameters of a model that was loaded to one that was given, and disposes the first. */
function takeOver(given: Module, loaded: Module, at: string): void {
  const [to, from] = [given.stateDict(), loaded.stateDict()];
  const differs = Object.keys({ ...to, ...from }).find(
    (name) => !to[name] || !from[name] || !sameShape(to[name].shape, from[name].shape),
  );
  if (differs !== undefined)
    throw new HeedError("ERR_FORMAT", `${at}: expected the parameters of the model that was given; ${differs} differs`);
  for (const [name, tensor] of Object.entries(to)) {
    ops.copy({ out: tensor, inp: from[name]! });
    tensor.overwritten();
    if (from[name]!.isFrozen) tensor.requiresGrad = false;
  }
  loaded.dispose();
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
  { baseDtype, baseQuantized }: SavedRun,
  kind: keyof PretrainedKinds,
): Promise<Module> {
  if (baseDtype === null) return (await loadFolder(at, kind, options)).model;
  const { base } = await readAdapterConfig(at);
  if (base === null)
    throw new HeedError("ERR_FORMAT", `${at}: expected base_model_name_or_path in adapter_config.json, got none`);
  return (await loadModel(base, { ...options, dtype: baseDtype, ...(baseQuantized && { quantize: baseQuantized }) }))
    .model;
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
