import { noGrad } from "../core/autograd.js";
import { checkInteger, checkObject } from "../util/check.js";
import { tensor } from "../core/creation.js";
import { HeedError } from "../util/errors.js";
import type { Hook } from "../nn/observer.js";
import { checkFloat } from "../ops/check.js";
import { sum } from "../ops/reduce.js";
import { reshape } from "../ops/views.js";
import { Permutation } from "../util/permutation.js";
import { scope } from "../core/scope.js";
import { formatShape, sameShape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { activationsOf, type CorpusOptions, rowsAt, type StackHookName, type TokenSequences } from "./corpus.js";
import { type EditPlace, replaceWith } from "./edits.js";
import { type HookSelection, type InspectedStack, selectNames } from "./hook-names.js";
import { NamedTensors } from "./named-tensors.js";

/** Options of `meanActivations`. */
export interface MeanOptions extends CorpusOptions {
  /** Values whose means are computed. */
  names: HookSelection<StackHookName>;
}

/**
 * Resolves to the means of values over all tokens of a corpus, f32 [D], one number for each element that a token has.
 * Sums are kept in f64, so that memory and error do not grow with the corpus. Dispose the result.
 *
 * To ablate a part by its mean, replace its value by `reshape(mean, shape)`, where the shape is that of a token's part,
 * such as [H, D] for `attn.hook_z` and [C] for the residual stream.
 *
 * @example
 * const name = "blocks.0.hook_mlp_out";
 * using means = await meanActivations(gpt, [[72, 101], [108, 108, 111]], { names: name });
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * noGrad(() => run(gpt, ids, { hooks: { [name]: replaceWith(means.get(name)) } })).shape; // [1, 3, 256]
 *
 * @throws ERR_ARGUMENT if the corpus is empty, or a value is not one of tokens; the errors of `run`.
 */
export async function meanActivations(
  model: InspectedStack,
  corpus: TokenSequences,
  options: MeanOptions,
): Promise<NamedTensors<StackHookName>> {
  const op = "meanActivations";
  checkObject(op, "options", options);
  const { names: selection, batch } = options;
  const names = selectNames(op, model, selection);
  const sums = new Map<StackHookName, Float64Array>();
  let count = 0;
  for await (const { rows } of activationsOf(op, model, corpus, { names, batch })) {
    const reads = [...rows].map(async ([name, x]) => [name, await totals(x)] as const);
    for (const [name, total] of await Promise.all(reads)) {
      const all = sums.get(name) ?? new Float64Array(total.length);
      for (const [i, x] of total.entries()) all[i]! += x;
      sums.set(name, all);
    }
    count += rows.get(names[0]!)?.shape[0] ?? 0;
  }
  if (count === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected a corpus with sequences and names, got none`);
  const means = [...sums].map(([name, all]) => {
    const mean = all.map((x) => x / count);
    return [name, tensor(mean, [mean.length], { device: model.device })] as const;
  });
  return new NamedTensors(new Map(means));
}

function totals(x: FloatTensor): Promise<Float32Array> {
  return noGrad(() => scope(() => ({ read: sum(x, { axes: [0] }).data() }))).read;
}

/** Options of `resampleFrom`. */
export interface ResampleOptions extends EditPlace {
  /** Seed of the choice of sequences. @default 0 */
  seed?: number;
}

/**
 * Returns a hook that replaces a value by that of other sequences, drawn at random: resample ablation. Unlike a mean, the
 * replacement is a value that the model does compute.
 *
 * @param values value of N sequences, [N, T, …], as `runWithCache` gives it; T is that of the run
 *
 * @example
 * const name = "blocks.0.hook_mlp_out";
 * const others = tensor([[97, 98, 99], [100, 101, 102]], [2, 3], { dtype: "i32" });
 * using cache = runWithCache(gpt, others, { names: name });
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const hooks = { [name]: resampleFrom(cache.get(name), { seed: 1 }) };
 * noGrad(() => run(gpt, ids, { hooks })).shape; // [1, 3, 256]
 *
 * @throws ERR_SHAPE, when the hook runs, if a sequence's value has another shape; otherwise the errors of `replaceWith`.
 * @see Chan et al. 2022, "Causal Scrubbing".
 */
export function resampleFrom(values: FloatTensor, options: ResampleOptions = {}): Hook {
  const op = "resampleFrom";
  checkFloat(op, "values", values);
  checkObject(op, "options", options);
  const { seed = 0, ...place } = options;
  checkInteger(op, "seed", seed, 0);
  return (value, name) => {
    const [count, ...each] = values.shape as [number, ...number[]];
    const [batch, ...own] = value.shape as [number, ...number[]];
    if (count === 0 || !sameShape(each, own))
      throw new HeedError(
        "ERR_SHAPE",
        `${op}: expected values [N, ${own.join(", ")}] for ${name}, got ${formatShape(values.shape)}`,
      );
    return scope(() => {
      const order = new Permutation(count, seed, 0);
      const rows = Array.from({ length: batch }, (_, b) => order.at(b % count));
      const drawn = noGrad(() => reshape(rowsAt(reshape(values, [count, -1]), rows), value.shape));
      return replaceWith(drawn, place)(value, name);
    });
  };
}
