import { describe, HeedError } from "../errors.js";
import type { FloatTensor } from "../tensor.js";
import { checkFloat } from "./check.js";
import { gelu, relu, sigmoid, silu, unaryBackward, unaryOf } from "./unary.js";

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

/** What each is called among the elementwise operations. */
const unaryNames = { relu: "relu", gelu: "geluTanh", geluErf: "geluErf", silu: "silu", sigmoid: "sigmoid" } as const;

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
  return activation === "none" ? preact.alias() : unaryOf(unaryNames[activation], preact);
}

/** @internal The gradient before the activation, from that after it; in no scope. */
export function activationBackward(dout: FloatTensor, preact: FloatTensor, activation: Activation): FloatTensor {
  return activation === "none" ? dout.alias() : unaryBackward(unaryNames[activation], dout, preact);
}
