import { add, mul, sub } from "../ops/binary.js";
import { sum } from "../ops/reduce.js";
import { reshape } from "../ops/views.js";
import { tensor } from "../core/creation.js";
import type { FloatTensor } from "../core/tensor.js";
import type { Linear } from "./linear.js";
import type { Observer } from "./observer.js";

/**
 * Returns the output projection of attention, projection(z) + residual: z [B, T, H·D] → [B, T, C].
 *
 * An observer of the attention sees hook_result [B, T, H, C]: what each head adds to the output, without the bias.
 */
export function projectHeads(
  z: FloatTensor,
  projection: Linear,
  {
    heads,
    residual,
    observer,
  }: { heads: number; residual: FloatTensor | null; observer?: Observer | null | undefined },
): FloatTensor {
  if (!observer?.wants("hook_result")) return projection.forward(z, { residual });
  const out = sum(observer.see("hook_result", results(z, projection, heads)), { axes: [2] }); // [B, T, C]
  const { bias } = projection;
  const biased = bias ? add(out, bias.to(out.dtype)) : out;
  return residual ? add(residual, biased) : biased;
}

/**
 * Returns what each head adds, [B, T, H, C]. Each head is projected in a row of its own in which the other heads are
 * zeros, so that the projection may have any layout, a quantised weight or an adapter.
 */
function results(z: FloatTensor, projection: Linear, heads: number): FloatTensor {
  const { device, dtype } = z;
  const [batch, tokens, width] = z.shape as [number, number, number];
  const own = Float32Array.from({ length: heads * heads }, (_, i) => Number(i % (heads + 1) === 0));
  const apart = mul(reshape(z, [batch, tokens, 1, heads, -1]), tensor(own, [heads, heads, 1], { device, dtype }));
  const out = projection.forward(reshape(apart, [batch, tokens, heads, width])); // [B, T, H, C]
  return projection.bias ? sub(out, projection.bias.to(dtype)) : out;
}
