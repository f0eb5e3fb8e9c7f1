// Checkpoints: versions of a folder (formats/versioned-folder.ts), so that a complete one is there whenever the process
// is killed. Each holds what inference needs, readable by Hugging Face's transformers as well (config.json and
// model.safetensors, f32), heed's tokenizer, and what going on needs (optimizer.safetensors,
// trainer.json).
import path from "node:path";
import type { Device } from "../device.js";
import { HeedError } from "../errors.js";
import { exists, readJsonFile } from "../files.js";
import { readSafetensors, type SafetensorsInput, writeSafetensors } from "../formats/safetensors.js";
import { listVersions, saveVersion } from "../formats/versioned-folder.js";
import type { Module, StateDict } from "../nn/module.js";
import { describe } from "../ops/check.js";
import type { AdamW } from "../optim/adamw.js";
import type { PretrainedKinds } from "../pretrained/families/index.js";
import { savedPieces, savingOf } from "../pretrained/families/saving.js";
import { loadFolder } from "../pretrained/load-folder.js";
import type { Shape } from "../shape.js";
import type { FloatTensor } from "../tensor.js";
import { tokenizerFromFile, tokenizerToFile } from "../tokenizer/from-json.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { checkFinite, writeJsonFile } from "./checkpoint-files.js";
import type { DataPosition } from "./position.js";

/** Where a run stood. Everything random follows from the seeds and the step. */
export interface TrainerState {
  /** Steps taken. */
  step: number;
  /** Seconds they took, over all sessions. */
  seconds: number;
  /** Of the order of the data. */
  seed: number;
  /** Of the dropout masks. */
  dropoutSeed: number;
  /** Where in the data; a checkpoint without it is none that `Trainer` goes on from with the same data. */
  position?: DataPosition | null;
  /** The last step whose model was evaluated on held-out tokens. @default null, for none */
  evaluated?: number | null;
  /** The run's options, as its owner wants to find them again. */
  options: Record<string, unknown>;
}

/** Describes what trainer.json holds beside the state. */
interface SavedRun {
  state: TrainerState;
  steps: OptimizerState["steps"];
  /** Names of the parameters that were not trained; a file without them is of a model that was trained whole. */
  frozen: readonly string[];
}

export interface CheckpointContent {
  model: Module;
  tokenizer?: Tokenizer | null;
  optimizer: AdamW;
  state: TrainerState;
}

/** Of trainer.json. */
const version = 2;

/** Tensors as they are read from a file. */
export type LoadedTensors = Record<string, { shape: Shape; values: Float32Array }>;

/** What `AdamW.loadStateDict` takes. */
export interface OptimizerState {
  moments: LoadedTensors;
  /** How many steps each parameter has taken, by its name. */
  steps: Record<string, number>;
}

export interface Checkpoint {
  /** The folder of this very checkpoint. */
  path: string;
  model: PretrainedKinds["causal"];
  tokenizer: Tokenizer | null;
  optimizer: OptimizerState;
  state: TrainerState;
  /** Newer checkpoints of the run that are not whole, and what is wrong with each; empty where this is the newest. */
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
 * Adds a checkpoint to a run's folder, makes it the latest, and keeps the newest `keep`; `spoilt` are the paths of those
 * that are not whole and count as the oldest. Resolves to its path. The model must not be trained until then. Throws
 * ERR_DIVERGED where a parameter is not finite, ERR_IO where the folder cannot be written; the checkpoints there are stay.
 */
export async function saveCheckpoint(
  folder: string,
  { model, tokenizer = null, optimizer, state }: CheckpointContent,
  options: { keep?: number; spoilt?: readonly string[] } = {},
): Promise<string> {
  const saving = savingOf("saveCheckpoint", model);
  const config = saving.toConfig(model);
  const name = `step-${String(state.step).padStart(8, "0")}`;
  const write = async (to: string): Promise<void> => {
    const asSaved: AsSaved = (name, tensor) => savedPieces(saving, model, name, tensor);
    // The format entry is what Hugging Face's loader asks for.
    await writeTensors(path.join(to, files.model), model.stateDict(), asSaved, { format: "pt" });
    // The moments of a parameter are put in the order that it is saved in.
    const momentAsSaved: AsSaved = (name, moment) => asSaved(name.replace(/^[mv]\./, ""), moment);
    await writeTensors(path.join(to, files.optimizer), optimizer.stateDict(), momentAsSaved, {});
    await writeJsonFile(path.join(to, files.config), config);
    if (tokenizer) await writeJsonFile(path.join(to, files.tokenizer), tokenizerToFile(tokenizer));
    const { steps } = optimizer;
    const frozen = [...model.namedParameters()].flatMap(([name, { isFrozen }]) => (isFrozen ? [name] : []));
    await writeJsonFile(path.join(to, files.trainer), { format: "heed-trainer", version, ...state, steps, frozen });
  };
  const tensors = [...Object.values(model.stateDict()), ...Object.values(optimizer.stateDict())];
  const bytes = 4 * tensors.reduce((sum, { size }) => sum + size, 0);
  return saveVersion(folder, name, write, { ...options, bytes });
}

/** The numbers of a named tensor as a file has them, in pieces. */
type AsSaved = (name: string, tensor: FloatTensor) => AsyncIterable<Float32Array>;

/** The tensors' values are read when their turn to be written comes, so that one at a time is in memory. */
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
 * Loads a checkpoint to go on from: a run's newest that is whole, or the one whose folder is given. What was frozen in
 * the run is so in the model. Throws ERR_IO or
 * ERR_FORMAT, naming the file, where it is missing or none is whole.
 */
export async function loadCheckpoint(folder: string, options: { device?: Device | string } = {}): Promise<Checkpoint> {
  const versions = await listVersions(folder);
  if (versions.length === 0) {
    if (await exists(path.join(folder, files.config))) return { ...(await load(folder, options)), skipped: [] };
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
  const { state, steps, frozen } = checkState(await readJsonFile(trainer), trainer);
  const optimizer = { moments: await readTensors(path.join(at, files.optimizer)), steps };
  const { model } = await loadFolder(at, "causal", { ...options, seed: state.dropoutSeed });
  try {
    model.train();
    freeze(model, frozen, trainer);
    return { path: at, model, tokenizer: await loadTokenizer(at, model.config.vocabularySize), optimizer, state };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** Whether an error says that files are missing or spoilt; one that may not be read, or not now, is another matter. */
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
    `${at}: expected a vocabulary of at most the model's ${vocabularySize}, got a tokenizer of ${tokenizer.vocabularySize}`,
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

function freeze(model: Module, names: readonly string[], file: string): void {
  const parameters = new Map(model.namedParameters());
  for (const name of names) {
    const parameter = parameters.get(name);
    if (!parameter)
      throw new HeedError(
        "ERR_FORMAT",
        `${file}: expected frozen to name the model's parameters, got ${describe(name)}`,
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
  } = content;
  const position = positionIn(content.position);
  const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
  const fault = (what: string, got: unknown): HeedError =>
    new HeedError("ERR_FORMAT", `${file}: expected ${what}, got ${describe(got)}`);
  if (format !== "heed-trainer") throw fault('"format": "heed-trainer"', format);
  if (written !== version) throw fault(`version ${version}`, written);
  for (const [name, value] of Object.entries({ step, seed, dropoutSeed, evaluated: evaluated ?? 0, ...position }))
    if (!Number.isSafeInteger(value) || (value as number) < 0) throw fault(`${name} to be an integer from 0`, value);
  if (typeof seconds !== "number" || !(seconds >= 0)) throw fault("seconds to be a number from 0", seconds);
  if (!isObject(options)) throw fault("options in an object", options);
  if (!isObject(steps)) throw fault("the optimiser's steps in an object", steps);
  if (!Array.isArray(frozen)) throw fault("frozen to be a list of parameters", frozen);
  for (const [name, count] of Object.entries(steps as object))
    if (!Number.isSafeInteger(count) || count < 0) throw fault(`steps of ${name} to be an integer from 0`, count);
  const state = { step, seconds, seed, dropoutSeed, evaluated, position, options } as TrainerState;
  return { state, steps: steps as Record<string, number>, frozen: frozen as string[] };
}

/** What a file says of a position, to be checked; null where it says nothing. */
function positionIn(json: unknown): Record<keyof DataPosition, unknown> | null {
  if (json === undefined || json === null) return null;
  const { sequences, microBatches, contextLength, sequencesPerEpoch } = json as Record<keyof DataPosition, unknown>;
  return { sequences, microBatches, contextLength, sequencesPerEpoch };
}
