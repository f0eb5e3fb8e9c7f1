import { describe, HeedError } from "../errors.js";
import { nativeActivations } from "../native-kinds.js";
import type { FloatTensor } from "../tensor.js";
import { checkFloat } from "./check.js";
import { gelu, relu, sigmoid, silu, unaryBackward, unaryOf } from "./unary.js";

/** The activations that matrix products fuse, and what the native side calls them: fused, and elementwise. */
const nativeNames = {
  none: "none",
  relu: "relu",
  gelu: "geluTanh",
  geluErf: "geluErf",
  silu: "silu",
  sigmoid: "sigmoid",
} as const;

/** "gelu" is the tanh approximation of GPT-2, "geluErf" the exact one. */
export type Activation = keyof typeof nativeNames;

export const activations = Object.keys(nativeNames) as Activation[];

/** @internal The activation's number on the native side. */
export function activationIndex(op: string, activation: Activation): number {
  if (!activations.includes(activation))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected activation ${activations.join(", ")}, got ${describe(activation)}`,
    );
  return nativeActivations[nativeNames[activation]];
}

/** The activation as an operation of its own: what the fused form is compared with. */
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

/** @internal The same without a graph, as a tensor in no scope. */
export function activated(preact: FloatTensor, activation: Activation): FloatTensor {
  return activation === "none" ? preact.alias() : unaryOf(nativeNames[activation], preact);
}

/** @internal The gradient before the activation, from that after it; in no scope. */
export function activationBackward(dout: FloatTensor, preact: FloatTensor, activation: Activation): FloatTensor {
  return activation === "none" ? dout.alias() : unaryBackward(nativeNames[activation], dout, preact);
}
