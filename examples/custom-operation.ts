// An operation of one's own, in TypeScript: GeGLU with a learned temperature, made of heed's operations. It has gradients
// without a line for them, since each operation that it calls knows its own.
//
//   node examples/custom-operation.ts
import { activate, type FloatTensor, linear, mul, parameter, randn, scope, sum } from "heed";

/**
 * Returns gelu(temperature · (x Wᵀ)) ⊙ (x Vᵀ).
 *
 * @param x [..., C]
 * @param w [H, C]
 * @param v [H, C]
 * @param temperature a scalar, []
 */
function geglu(x: FloatTensor, w: FloatTensor, v: FloatTensor, temperature: FloatTensor): FloatTensor {
  // Results between the operations are freed at once, unless the backward pass needs them.
  return scope(() => mul(activate(mul(linear(x, w), temperature), "gelu"), linear(x, v)));
}

using x = randn([4, 8], { seed: 1 });
using w = parameter(randn([16, 8], { seed: 2 }));
using v = parameter(randn([16, 8], { seed: 3 }));
using temperature = parameter(randn([], { seed: 4 }));
scope(() => sum(geglu(x, w, v, temperature)).backward());

// Compare the gradient with a difference quotient.
const at = async (shift: number): Promise<number> => {
  using moved = scope(() => sum(geglu(x, w, v, mul(temperature, 1 + shift))));
  return await moved.item();
};
const step = 1e-2;
const value = await temperature.item();
const quotient = ((await at(step)) - (await at(-step))) / (2 * step * value);
console.log(`gradient ${(await temperature.grad!.item()).toFixed(3)}, difference quotient ${quotient.toFixed(3)}`);
