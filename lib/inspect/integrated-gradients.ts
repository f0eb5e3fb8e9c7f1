import { noGrad } from "../core/autograd.js";
import { checkInteger, checkObject } from "../util/check.js";
import { add, mul, sub } from "../ops/binary.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { replaceWith } from "./edits.js";
import { type GradientOptions, runWithGradients } from "./gradients.js";
import type { HookNameOf, InspectedModel } from "./hook-names.js";
import { type CacheOptions, type HooksOf, type InputOf, type RunOptions, runWithCache } from "./run.js";

/** Options of `integratedGradients`. */
export type IntegratedGradientsOptions<M extends InspectedModel> = RunOptions<M> & {
  /** Value whose elements are attributed, such as the embeddings. */
  name: HookNameOf<M>;
  /** Value from which the path begins: a number, or a tensor of a shape that broadcasts to the value's. @default 0 */
  baseline?: FloatTensor | number;
  /** Number of points on the path from the baseline to the value. @default 32 */
  steps?: number;
};

/**
 * Returns how much each element of a value contributes to a metric, in the shape of the value: (value − baseline) times
 * the mean gradient on the straight path between them (midpoint rule). With many steps, the contributions add up to the
 * metric of the value minus that of the baseline. Dispose the result.
 *
 * @example
 * const ids = tensor([[72, 101, 108]], [1, 3], { dtype: "i32" });
 * const metric = (logits: FloatTensor) => logitDifference(logits, [108]);
 * const shares = integratedGradients(gpt, ids, metric, { name: "hook_embed", steps: 8 }); // [1, 3, 16]
 *
 * @throws the errors of `runWithGradients`; ERR_RANGE if `steps` is not an integer of at least 1.
 * @see Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", arXiv:1703.01365.
 */
export function integratedGradients<M extends InspectedModel>(
  model: M,
  input: InputOf<M>,
  metric: (output: FloatTensor) => FloatTensor,
  options: IntegratedGradientsOptions<M>,
): FloatTensor {
  const op = "integratedGradients";
  checkObject(op, "options", options);
  const { name, baseline = 0, steps = 32, ...rest } = options;
  checkInteger(op, "steps", steps, 1);
  const passOptions = rest as unknown as RunOptions<M>;
  return scope(() => {
    const cache = runWithCache(model, input, { ...passOptions, names: name } as CacheOptions<M>);
    const value = cache.get(name);
    const difference = noGrad(() => sub(value, baseline));
    let total: FloatTensor | null = null;
    for (let step = 0; step < steps; step++) {
      const next = scope(() => {
        const point = noGrad(() => sub(value, mul(difference, 1 - (step + 0.5) / steps)));
        const hooks = { ...passOptions.hooks, [name]: replaceWith(point) } as HooksOf<M>;
        using run = runWithGradients(model, input, metric, {
          ...passOptions,
          hooks,
          names: name,
        } as unknown as GradientOptions<M>);
        const gradient = run.gradients.get(name).to("f32");
        return noGrad(() => (total ? add(total, gradient) : mul(gradient, 1)));
      });
      total?.dispose();
      total = next;
    }
    const result = noGrad(() => mul(mul(total!, 1 / steps), difference.to("f32")));
    cache.dispose();
    return result;
  });
}
