import { checkChoice } from "../util/check.js";
import { nativeActivations } from "../core/native-kinds.js";
import type { FloatTensor } from "../core/tensor.js";
import { checkFloat } from "./check.js";
import { gelu, relu, sigmoid, silu, unaryBackward, unaryOf } from "./unary.js";

/**
 * Name of each activation on the native side, for fused and for elementwise operations. Matrix products fuse all of
 * them.
 */
const nativeNames = {
  none: "none",
  relu: "relu",
  gelu: "geluTanh",
  geluErf: "geluErf",
  silu: "silu",
  sigmoid: "sigmoid",
} as const;

/**
 * Activation function. "gelu" is the tanh approximation of GPT-2, "geluErf" the exact function, and "none" the
 * identity.
 */
export type Activation = keyof typeof nativeNames;

/** Names of all activations. */
export const activations = Object.keys(nativeNames) as Activation[];

/**
 * @internal Returns the number of an activation on the native side.
 *
 * @throws ERR_ARGUMENT for an unknown activation.
 */
export function activationIndex(op: string, activation: Activation): number {
  checkChoice(op, "activation", activation, activations);
  return nativeActivations[nativeNames[activation]];
}

/**
 * Applies an activation to each element, as a separate operation: tests compare fused activations with it. The result
 * has the shape of `x`; "none" returns `x` itself.
 *
 * @example
 * const y = activate(x, "silu");
 *
 * @throws ERR_ARGUMENT for an unknown activation.
 */
export function activate(x: FloatTensor, activation: Activation): FloatTensor {
  activationIndex("activate", activation);
  checkFloat("activate", "x", x);
  switch (activation) {
    case "relu":
      return relu(x);
    case "gelu":
      return gelu(x, "tanh");
    case "geluErf":
      return gelu(x, "erf");
    case "silu":
      return silu(x);
    case "sigmoid":
      return sigmoid(x);
    case "none":
      return x;
  }
}

/** @internal Applies an activation without recording it; the result is in no scope. */
export function activated(preact: FloatTensor, activation: Activation): FloatTensor {
  return activation === "none" ? preact.alias() : unaryOf(nativeNames[activation], preact);
}

/** @internal Returns the gradient before the activation, from the gradient after it; the result is in no scope. */
export function activationBackward(dout: FloatTensor, preact: FloatTensor, activation: Activation): FloatTensor {
  return activation === "none" ? dout.alias() : unaryBackward(nativeNames[activation], dout, preact);
}
