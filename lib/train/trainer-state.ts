// The state of a training run, and its form in the file trainer.json.
import { type FloatDType, isFloat } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { describe } from "../ops/check.js";
import { checkQuantizeOptions, type QuantizeOptions } from "../ops/quantize.js";
import { families, type PretrainedKinds } from "../pretrained/families/index.js";
import type { BestState } from "./best.js";
import type { LossScaleState } from "./loss-scale.js";
import type { BatchPosition, DataPosition } from "./position.js";
import type { SpikeState } from "./spikes.js";

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
  position?: DataPosition | BatchPosition | null;
  /**
   * Text that tells the order of the data apart from others; null if only the data's source knows it. A run resumes with
   * data of the same order. @default undefined (not saved: a checkpoint of an earlier version of heed)
   */
  order?: string | null;
  /** Last step whose model was evaluated on held-out tokens. @default null (none) */
  evaluated?: number | null;
  /** Number of updates of the moving average of the weights. @default null (no average, or an unknown number) */
  averageUpdates?: number | null;
  /** Best evaluation of the run. @default null (none) */
  best?: BestState | null;
  /** Scale of the loss, in f16. @default null (none) */
  lossScale?: LossScaleState | null;
  /** Statistics by which spikes in the loss are recognised. @default null (none) */
  spikes?: SpikeState | null;
  /** Options of the run that the caller wants to find again; `Trainer` does not read them. */
  options: Record<string, unknown>;
}

/** Version of the format of trainer.json. */
export const version = 2;

/** Contents of trainer.json. */
export interface SavedRun {
  state: TrainerState;
  /** Number of steps that each parameter has taken, by its name. */
  steps: Record<string, number>;
  /** Names of the parameters that were not trained; a file without the list belongs to a model without frozen ones. */
  frozen: readonly string[];
  /** Name of the adapter that is in the checkpoint; null if there is none. */
  adapter: string | null;
  /** Dtype of the model that the checkpoint refers to; null if it contains its model. */
  baseDtype: FloatDType | null;
  /** Options with which the model that the checkpoint refers to was quantised; null if it was not. */
  baseQuantized: Required<QuantizeOptions> | null;
  /** Kind as which the model is loaded; null if it is no model of heed, which the caller makes. */
  kind: keyof PretrainedKinds | null;
}

/**
 * Checks the contents of a file trainer.json.
 *
 * @throws ERR_FORMAT if they are not those of one; the message names the file.
 */
export function checkState(json: unknown, file: string): SavedRun {
  const content = (json ?? {}) as Record<string, unknown>;
  const {
    format,
    version: written,
    step,
    seconds,
    seed,
    dropoutSeed,
    evaluated = null,
    averageUpdates = null,
    order,
    options,
    steps,
    frozen = [],
    adapter = null,
    baseDtype = null,
    baseQuantized = null,
    kind = "causal",
    best = null,
    lossScale = null,
    spikes = null,
  } = content;
  const position = positionIn(content.position);
  const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);
  const fault = (what: string, got: unknown): HeedError =>
    new HeedError("ERR_FORMAT", `${file}: expected ${what}, got ${describe(got)}`);
  if (format !== "heed-trainer") throw fault('"format": "heed-trainer"', format);
  if (written !== version) throw fault(`version ${version}`, written);
  const counts = {
    step,
    seed,
    dropoutSeed,
    evaluated: evaluated ?? 0,
    averageUpdates: averageUpdates ?? 0,
    ...position,
  };
  for (const [name, value] of Object.entries(counts))
    if (!Number.isSafeInteger(value) || (value as number) < 0)
      throw fault(`${name} to be an integer of at least 0`, value);
  if (order !== undefined && order !== null && typeof order !== "string") throw fault("order to be a text", order);
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
  if (kind !== null && !Object.hasOwn(families, kind as string)) throw fault("kind to be a kind of model", kind);
  // Earlier versions wrote the loss of an evaluation without targets, which JSON has no number for.
  const { loss = null, counted = loss, last = 0 } = Object(best) as Partial<BestState>;
  for (const [name, numbers, keys] of [
    [
      "best",
      best && { ...best, loss: loss ?? 0, counted: counted ?? 0, last },
      ["loss", "step", "waited", "counted", "last"],
    ],
    ["lossScale", lossScale, ["scale", "good"]],
    ["spikes", spikes, ["mean", "variance", "count", "returns"]],
  ] as const)
    if (numbers !== null && !keys.every((key) => Number.isFinite((Object(numbers) as Record<string, unknown>)[key])))
      throw fault(`${name} to have the numbers ${keys.join(", ")}`, numbers);
  const state = {
    step,
    seconds,
    seed,
    dropoutSeed,
    evaluated,
    ...(averageUpdates !== null && { averageUpdates }),
    position,
    ...(order !== undefined && { order }),
    best,
    lossScale,
    spikes,
    options,
  } as TrainerState;
  return {
    state,
    steps: steps as Record<string, number>,
    frozen: frozen as string[],
    adapter,
    baseDtype: baseDtype as FloatDType | null,
    baseQuantized: quantizationIn(baseQuantized, fault),
    kind: kind as SavedRun["kind"],
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
function positionIn(json: unknown): Record<string, unknown> | null {
  if (json === undefined || json === null) return null;
  const { sequences, microBatches, contextLength, sequencesPerEpoch, epoch, batch } = Object(json) as Record<
    keyof DataPosition | keyof BatchPosition,
    unknown
  >;
  if (batch !== undefined) return { microBatches, epoch, batch };
  return { sequences, microBatches, contextLength, sequencesPerEpoch };
}
