/** The activations that TensorFlow.js' fused kernels name. */
import { HeedError } from "../../../util/errors.js";
import type { Tensor } from "../../../core/tensor.js";
import type { TensorInfo } from "../types.js";
import type { Work } from "../work.js";

/** Activation of a fused kernel, with the slope of leakyrelu and the weights of prelu. */
export interface FusedActivation {
  activation: string;
  alpha?: number | undefined;
  prelu?: TensorInfo | undefined;
}

/**
 * Returns the activation of x.
 *
 * @throws ERR_ARGUMENT for an unknown activation
 */
export function activated(work: Work, x: Tensor, { activation, alpha = 0.2, prelu }: FusedActivation): Tensor {
  const slope = (below: Tensor | number): Tensor =>
    work.binary("add", work.unary("relu", x), work.binary("mul", work.binary("minimum", x, 0), below));
  switch (activation) {
    case "linear":
      return x;
    case "relu":
      return work.unary("relu", x);
    case "elu":
      return work.unary("elu", x);
    case "sigmoid":
      return work.unary("sigmoid", x);
    case "relu6":
      return work.unary("relu6", x);
    case "leakyrelu":
      return slope(alpha);
    case "prelu":
      return slope(work.input(prelu!));
    default:
      throw new HeedError(
        "ERR_ARGUMENT",
        `expected an activation of linear, relu, elu, sigmoid, relu6, leakyrelu or prelu, got ${activation}`,
      );
  }
}
