import { add, mul, sub } from "../../ops/binary.js";
import { mean, sum } from "../../ops/reduce.js";
import { exp, relu, square } from "../../ops/unary.js";
import { scope } from "../../core/scope.js";
import type { FloatTensor } from "../../core/tensor.js";
import { countAbove, jumpRelu, topKRelu } from "./activations.js";
import type { SparseAutoencoder } from "./sparse-autoencoder.js";

/** Settings of a loss. */
export interface SaeLossOptions {
  /** Factor of the penalty: of Σ features for "standard", of the number of active features for "jumprelu". */
  sparsity: number;
  /** Width of the window in which thresholds get gradients. */
  bandwidth: number;
  /** Logarithms of the thresholds, [F], which are trained in their place; null without thresholds. */
  logThreshold: FloatTensor | null;
}

/** Loss of a batch, and what else is known of it. */
export interface SaeLoss {
  /** Squared error plus penalty, f32 []. */
  loss: FloatTensor;
  /** Squared error of each row, f32 [N]. */
  errors: FloatTensor;
  /** Features, f32 [N, F]. */
  features: FloatTensor;
}

/** Returns the loss of rows x f32 [N, C]: the mean over rows of ‖x − x̂‖² plus the penalty. */
export function saeLoss(sae: SparseAutoencoder, x: FloatTensor, options: SaeLossOptions): SaeLoss {
  const { sparsity, bandwidth, logThreshold } = options;
  return scope(() => {
    const pre = sae.preactivations(x);
    const threshold = logThreshold && exp(logThreshold);
    const features = threshold
      ? jumpRelu(pre, threshold, bandwidth)
      : sae.config.architecture === "topk"
        ? topKRelu(pre, sae.config.k)
        : relu(pre);
    const errors = sum(square(sub(sae.decode(features), x)), { axes: [-1] });
    const error = mean(errors);
    if (sae.config.architecture === "topk") return { loss: error, errors, features };
    // The decoder's rows have length 1, so that the features alone measure what they add.
    const active = threshold ? countAbove(pre, threshold, bandwidth) : sum(features, { axes: [-1] });
    return { loss: add(error, mul(mean(active), sparsity)), errors, features };
  });
}
