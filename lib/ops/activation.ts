import { describe, HeedError } from "../errors.js";
import type { FloatTensor } from "../tensor.js";
import { checkFloat } from "./check.js";
import { gelu, relu, sigmoid, silu, unaryBackward } from "./unary.js";

/** Activations that matrix products fuse, in the order of `Activation` in native/core/params.h after "none". */
export const activations = ["none", "relu", "gelu", "geluErf", "silu", "sigmoid"] as const;

/** "gelu" is the tanh approximation of GPT-2, "geluErf" the exact one. */
export type Activation = (typeof activations)[number];

/** @internal The activation's number on the native side. */
export function activationIndex(op: string, activation: Activation): number {
  const index = activations.indexOf(activation);
  if (index < 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected activation ${activations.join(", ")}, got ${describe(activation)}`,
    );
  return index;
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

/** @internal The gradient before the activation, from that after it; in no scope. */
export function activationBackward(dout: FloatTensor, preact: FloatTensor, activation: Activation): FloatTensor {
  switch (activation) {
    case "relu":
      return unaryBackward("relu", dout, preact);
    case "gelu":
      return unaryBackward("geluTanh", dout, preact);
    case "geluErf":
      return unaryBackward("geluErf", dout, preact);
    case "silu":
    case "sigmoid":
      return unaryBackward(activation, dout, preact);
    case "none":
      return dout.alias();
  }
}
