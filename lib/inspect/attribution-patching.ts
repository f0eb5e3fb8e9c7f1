import { noGrad } from "../core/autograd.js";
import { checkChoice, checkFunction, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { mul, sub } from "../ops/binary.js";
import { sum } from "../ops/reduce.js";
import { scope } from "../core/scope.js";
import { formatShape, sameShape } from "../core/shape.js";
import type { FloatTensor } from "../core/tensor.js";
import { checkOfTokens } from "./corpus.js";
import { type GradientOptions, runWithGradients } from "./gradients.js";
import { type HookNameOf, type HookSelection, type InspectedModel, selectNames } from "./hook-names.js";
import { measure } from "./measure.js";
import { type CacheOptions, type InputOf, type RunOptions, runWithCache } from "./run.js";

const places = ["position", "head"] as const;

/** Options of `attributionPatching`. */
export type AttributionPatchingOptions<M extends InspectedModel> = RunOptions<M> & {
  /** Input of the run whose values would be restored. */
  clean: InputOf<M>;
  /** Returns what is measured, a tensor of one element, from the output. */
  metric: (output: FloatTensor) => FloatTensor;
  /** Values that would be patched, each a row of the grid. */
  names: HookSelection<HookNameOf<M>>;
  /** Columns of the grid: positions of tokens, or heads for values that have them. @default "position" */
  by?: (typeof places)[number];
};

/** Estimates of what a patch of each place would add to a metric. */
export interface AttributionGrid<Name extends string> {
  /** Metric of the clean run. */
  clean: number;
  /** Metric of the corrupted run. */
  corrupted: number;
  /** Values, in the order of the rows. */
  names: Name[];
  /** `attributions[i][j]`: estimate for place j of value names[i], to be added to `corrupted`. */
  attributions: number[][];
}

/**
 * Resolves to what `activationPatching` would find, estimated for all places at once: the difference between the clean
 * and the corrupted value of a place, times the gradient of the metric in the corrupted run. It takes two passes forward
 * and one backward, however many places there are. It is exact where the metric is linear in the value, and best for
 * small differences. The hooks of the options belong to the corrupted run.
 *
 * @param corrupted input of the corrupted run, of the same shape as the clean one
 *
 * @example
 * const ids = (text: string) => tensor(tokenizer.encode(text), [1, text.length]);
 * const metric = (logits: FloatTensor) => logitDifference(logits, [97], [98]);
 * const options = { clean: ids("abab"), metric, names: /attn.hook_z$/, by: "head" } as const;
 * const { attributions } = await attributionPatching(gpt, ids("cbcb"), options); // 2 blocks · 2 heads
 *
 * @throws the errors of `runWithGradients`; ERR_SHAPE if the runs differ in shape; ERR_ARGUMENT if values have no
 *   heads or are not those of tokens.
 * @see Nanda 2023, "Attribution Patching"; Syed et al. 2023, arXiv:2310.10348.
 */
export async function attributionPatching<M extends InspectedModel>(
  model: M,
  corrupted: InputOf<M>,
  options: AttributionPatchingOptions<M>,
): Promise<AttributionGrid<HookNameOf<M>>> {
  const op = "attributionPatching";
  checkObject(op, "options", options);
  const { clean, metric, names, by = "position", hooks, ...rest } = options;
  checkFunction(op, metric);
  checkChoice(op, "by", by, places);
  const rows = selectNames(op, model, names);
  for (const name of rows) checkOfTokens(op, name);
  if (rows.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected names of values, got none`);
  const passOptions = { ...rest, names: rows };
  using restored = runWithCache(model, clean, passOptions as unknown as CacheOptions<M>);
  const hooked = { ...passOptions, ...(hooks ? { hooks } : {}) };
  using run = runWithGradients(model, corrupted, metric, hooked as unknown as GradientOptions<M>);
  const grids = rows.map((name) => {
    const value = run.values.get(name);
    checkSame(op, name, restored.get(name), value);
    const axis = axisOf(op, name, value, by);
    if (!run.gradients.has(name)) return Promise.resolve(new Float32Array(value.shape[axis]!));
    return read(() => products(restored.get(name), value, run.gradients.get(name), axis));
  });
  const [whole, broken, ...attributions] = await Promise.all([
    measure(op, () => metric(restored.output)),
    run.metric.item(),
    ...grids,
  ]);
  return { clean: whole, corrupted: broken, names: rows, attributions: attributions.map((row) => [...row]) };
}

function checkSame(op: string, name: string, clean: FloatTensor, corrupted: FloatTensor): void {
  if (sameShape(clean.shape, corrupted.shape)) return;
  throw new HeedError(
    "ERR_SHAPE",
    `${op}: expected a clean ${name} of shape ${formatShape(corrupted.shape)}, got ${formatShape(clean.shape)}`,
  );
}

/** Returns the dimension of a value [B, T, …] or [B, T, H, …] along which the places are. */
function axisOf(op: string, name: string, { shape }: FloatTensor, by: (typeof places)[number]): number {
  if (by === "position") return 1;
  if (shape.length === 4) return 2;
  throw new HeedError("ERR_ARGUMENT", `${op}: expected values that have heads, got ${name}`);
}

/** Returns the sums of (clean − corrupted) · gradient over all dimensions but one. */
function products(clean: FloatTensor, corrupted: FloatTensor, gradient: FloatTensor, axis: number): FloatTensor {
  const difference = sub(clean.to("f32"), corrupted.to("f32"));
  const axes = [...clean.shape.keys()].filter((each) => each !== axis);
  return sum(mul(difference, gradient.to("f32")), { axes });
}

function read(body: () => FloatTensor): Promise<Float32Array> {
  return noGrad(() => scope(() => ({ values: body().data() }))).values;
}
