import { detach, noGrad } from "../core/autograd.js";
import { checkInteger, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import type { EncoderForwardOptions } from "../models/encoder.js";
import { SequenceToSequence, type PairOptions } from "../models/sequence-to-sequence.js";
import type { SequenceMaskOptions } from "../models/sequence-mask.js";
import { type Hook, Observer } from "../nn/observer.js";
import { enterScope, keep, scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { ActivationCache } from "./activation-cache.js";
import {
  checkNames,
  type HookNameOf,
  hookNames,
  type HookSelection,
  type InspectedDecoder,
  type InspectedEncoder,
  type InspectedModel,
  selectNames,
} from "./hook-names.js";

/** Input of a model of type M: ids i32 [B, T], or the ids of sources [B, S] and of targets [B, T]. */
export type InputOf<M extends InspectedModel> = M extends InspectedDecoder | InspectedEncoder
  ? IntTensor
  : { source: IntTensor; target: IntTensor };

/** Options of a pass of a model of type M, such as the lengths of padded sequences. */
type PassOf<M extends InspectedModel> = M extends InspectedDecoder
  ? SequenceMaskOptions
  : M extends InspectedEncoder
    ? Omit<EncoderForwardOptions, "observer">
    : Omit<PairOptions, "observer">;

/** Hooks by the names of the values that they listen to. */
export type HooksOf<M extends InspectedModel> = Partial<Readonly<Record<HookNameOf<M>, Hook>>>;

/** Options of `run`. */
export type RunOptions<M extends InspectedModel> = PassOf<M> & {
  /** Hooks of the pass. Each receives a value and may return the tensor to continue with. @default {} */
  hooks?: HooksOf<M>;
  /**
   * Number of blocks after which the pass stops; the output is then the residual stream [B, T, C]. Only for models of one
   * stack of blocks.
   *
   * @default the whole model
   */
  stopAtLayer?: number;
};

/** Options of `runWithCache`. */
export type CacheOptions<M extends InspectedModel> = RunOptions<M> & {
  /** Values that the cache keeps: names, a pattern that names match, or a function. */
  names: HookSelection<HookNameOf<M>>;
};

/** Thrown by the hook at which a pass stops. */
class Stop extends Error {
  constructor(readonly value: FloatTensor) {
    super("the pass has stopped");
  }
}

/**
 * Runs a model with hooks, with dropout off, and returns its output: logits, or the states of a `Bert`. Operations are
 * recorded as in `model.forward`, so wrap the call in `noGrad` if you need no gradients.
 *
 * A hook that returns nothing only reads. It receives a value that the pass frees; `keep(detach(value))` holds on to it.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const hooks = { "blocks.0.hook_mlp_out": replaceWith(0) };
 * noGrad(() => run(gpt, ids, { hooks })).shape; // [1, 3, 256], without the first block's feed-forward
 *
 * @throws ERR_ARGUMENT if the model has no value of a hook's name, or a hook is not a function.
 * @throws ERR_SHAPE, ERR_DTYPE or ERR_DEVICE if a hook returns a tensor that does not fit.
 */
export function run<M extends InspectedModel>(model: M, input: InputOf<M>, options?: RunOptions<M>): FloatTensor {
  return pass("run", model, input, options ?? ({} as RunOptions<M>), new Map());
}

/**
 * Runs a model and returns the values that `names` selects, as they are after the hooks, with the output of the pass.
 * Nothing is recorded for gradients, and dropout is off. Dispose the result.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * using cache = runWithCache(gpt, ids, { names: ["blocks.0.hook_resid_post", "blocks.1.attn.hook_pattern"] });
 * await cache.get("blocks.1.attn.hook_pattern").data();
 *
 * @throws the errors of `run`; ERR_ARGUMENT if `names` names a value that the model does not have.
 */
export function runWithCache<M extends InspectedModel>(
  model: M,
  input: InputOf<M>,
  options: CacheOptions<M>,
): ActivationCache<HookNameOf<M>> {
  const op = "runWithCache";
  checkObject(op, "options", options);
  const { names, ...rest } = options;
  const values = new Map<HookNameOf<M>, FloatTensor>();
  const readers = selectNames(op, model, names).map((name) => {
    const reader: Hook = (value) => void values.set(name, keep(detach(value)));
    return [name, reader] as const;
  });
  try {
    const output = noGrad(() => pass(op, model, input, rest as unknown as RunOptions<M>, new Map(readers)));
    return new ActivationCache(keep(output), values);
  } catch (error) {
    for (const value of values.values()) value.dispose();
    throw error;
  }
}

/** @internal Runs a model with the hooks of the options, each followed by the reader of the same value. */
export function pass<M extends InspectedModel>(
  op: string,
  model: M,
  input: InputOf<M>,
  options: RunOptions<M>,
  readers: ReadonlyMap<string, Hook>,
): FloatTensor {
  checkObject(op, "options", options);
  const { hooks = {}, stopAtLayer, ...rest } = options;
  checkObject(op, "hooks", hooks);
  const names = hookNames(model);
  checkNames(op, Object.keys(hooks), names);
  const all = new Map<string, Hook>(Object.entries<Hook>(hooks));
  for (const [name, reader] of readers) all.set(name, inTurn(all.get(name), reader));
  if (stopAtLayer !== undefined) stopAfter(op, model, stopAtLayer, all);
  return inEvaluation(model, () =>
    untilStopped(() => forward(op, model, input, { ...rest, observer: new Observer(all) })),
  );
}

/** @internal Returns a hook that passes a value to two hooks, one after the other. */
export function inTurn(first: Hook | undefined, second: Hook): Hook {
  if (!first) return second;
  return (value, name) => {
    const replaced = first(value, name);
    return second(replaced ?? value, name) ?? replaced;
  };
}

/** Adds the hook that stops the pass after this number of blocks. */
function stopAfter(op: string, model: InspectedModel, layers: number, hooks: Map<string, Hook>): void {
  if (model instanceof SequenceToSequence)
    throw new HeedError("ERR_ARGUMENT", `${op}: expected stopAtLayer for a model of one stack, got an encoder–decoder`);
  const names = hookNames(model) as string[];
  checkInteger(op, "stopAtLayer", layers, 0, names.filter((name) => name.endsWith("hook_resid_pre")).length);
  const stop: Hook = (value) => {
    throw new Stop(keep(value));
  };
  if (layers === 0) return void hooks.set("blocks.0.hook_resid_pre", stop);
  const last = names.findLast((name) => name.startsWith(`blocks.${layers - 1}.`))!;
  hooks.set(last, inTurn(hooks.get(last), stop));
}

/** Returns what `body` returns, or the value at which it stopped. */
function untilStopped(body: () => FloatTensor): FloatTensor {
  return scope(() => {
    try {
      return body();
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      enterScope(error.value);
      return error.value;
    }
  });
}

/** Runs `body` with dropout off. */
function inEvaluation<T>(model: InspectedModel, body: () => T): T {
  const { training } = model;
  if (training) model.eval();
  try {
    return body();
  } finally {
    if (training) model.train();
  }
}

function forward<M extends InspectedModel>(op: string, model: M, input: InputOf<M>, options: object): FloatTensor {
  if (!(model instanceof SequenceToSequence)) return model.forward(input as IntTensor, options);
  checkObject(op, "input", input);
  const { source, target } = input as { source: IntTensor; target: IntTensor };
  return model.forward(source, target, options);
}
