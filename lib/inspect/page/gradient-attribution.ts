// Attribution for models in which a part's output goes through norms and other parts before it reaches the logits: value
// times gradient, which estimates to first order what the part's removal takes away (Nanda 2023, "Attribution patching").
import { noGrad } from "../../core/autograd.js";
import { mul } from "../../ops/binary.js";
import { sum } from "../../ops/reduce.js";
import { scope } from "../../core/scope.js";
import type { FloatTensor } from "../../core/tensor.js";
import { runWithGradients } from "../gradients.js";
import type { HookName, InspectedModel } from "../hook-names.js";
import type { InputOf } from "../run.js";
import type { Part } from "./components.js";
import { inAttention, inBlock, type Stack } from "./stacks.js";

/** Resolves to the estimate for each part: the sum over positions of its value times the gradient of the objective. */
export async function gradientAttribution(
  model: InspectedModel,
  input: InputOf<InspectedModel>,
  objective: (output: FloatTensor) => FloatTensor,
  parts: readonly Part[],
): Promise<Float32Array> {
  const nameOf = ({ stack, layer, head }: Part): HookName => valueName(stack, layer, head !== null);
  const names = [...new Set(parts.map(nameOf))];
  using found = runWithGradients<InspectedModel>(model, input, objective, { names });
  const sums = new Map<HookName, Float32Array>();
  for (const name of names) {
    if (!found.gradients.has(name)) continue;
    const [value, gradient] = [found.values.get(name), found.gradients.get(name)];
    // A head's values are [1, T, H, D], a feed-forward layer's output is [1, T, C].
    const axes = value.shape.length === 4 ? [0, 1, 3] : [0, 1, 2];
    using products = noGrad(() => scope(() => sum(mul(value, gradient).to("f32"), { axes })));
    sums.set(name, await products.data());
  }
  return Float32Array.from(parts, (part) => sums.get(nameOf(part))?.[part.head ?? 0] ?? 0);
}

/** Returns the name of the values of a layer's heads, or of its feed-forward layer's output. */
export function valueName(stack: Stack, layer: number, ofHeads: boolean): HookName {
  return ofHeads ? inAttention(stack, layer, "hook_z") : inBlock(stack, layer, "hook_mlp_out");
}
