import type { GradConfig, Tensor } from "@tensorflow/tfjs-core";
import { checkInteger, checkNumber, largestFloat } from "../../util/check.js";
import { describe, HeedError } from "../../util/errors.js";
import type { AttentionAttributes, NormAttributes } from "./kernels/transformer.js";
import type { TensorFlow } from "./types.js";

/** Options of `attention`. */
export interface AttentionOptions {
  /** Hides the keys after each query. @default false */
  causal?: boolean;
  /** Number of keys up to the query that it sees, or on both sides if it is not causal; 0 sets no limit. @default 0 */
  window?: number;
  /** Bound of the scores: s becomes softcap · tanh(s / softcap); 0 sets no bound. @default 0 */
  softcap?: number;
  /** Factor of the scores. @default 1/√D */
  scale?: number;
}

/** Operations of heed for transformers that are written in TensorFlow.js. They have gradients. */
export interface TransformerOperations {
  /**
   * Returns attention softmax(scale · q·kᵀ)·v, computed tile by tile, without a matrix of scores in memory.
   *
   * @param q queries, float32 [B, Tq, H, D]
   * @param k keys, float32 [B, Tk, Hkv, D]; groups of H / Hkv heads of queries share a head
   * @param v values, float32 [B, Tk, Hkv, D]
   * @returns float32 [B, Tq, H, D]
   * @throws ERR_DTYPE or ERR_SHAPE if the tensors do not fit; ERR_RANGE or ERR_ARGUMENT for a bad option.
   */
  attention: (q: Tensor, k: Tensor, v: Tensor, options?: AttentionOptions) => Tensor;
  /**
   * Returns the layer norm (x − mean) / √(variance + eps) · weight + bias over the last dimension.
   *
   * @param x float32 [..., C]
   * @param weight float32 [C]
   * @param bias float32 [C]
   * @param eps number that is added to the variance, by default 1e-5
   * @throws ERR_DTYPE or ERR_SHAPE if the tensors do not fit.
   */
  layerNorm: (x: Tensor, weight: Tensor, bias: Tensor, eps?: number) => Tensor;
  /**
   * Returns the RMS norm x / √(mean(x²) + eps) · weight over the last dimension.
   *
   * @param x float32 [..., C]
   * @param weight float32 [C]
   * @param eps number that is added to the mean of the squares, by default 1e-5
   * @throws ERR_DTYPE or ERR_SHAPE if the tensors do not fit.
   */
  rmsNorm: (x: Tensor, weight: Tensor, eps?: number) => Tensor;
}

/** Registers the gradients of heed's own kernels. */
export function registerGradients(tf: TensorFlow): void {
  const run = (name: string, inputs: object, attrs: object): Tensor[] =>
    tf.engine().runKernel(name, inputs as never, attrs as never);
  // The gradients are computed at once, in the scope of the whole backward pass: each of the functions that return them
  // runs in a scope that would free the others.
  const gradients: GradConfig[] = [
    {
      kernelName: "HeedAttention",
      inputsToSave: ["q", "k", "v"],
      outputsToSave: [true, true],
      gradFunc: (douts, [q, k, v, out, lse], attrs) => {
        const [dout] = douts as Tensor[];
        const [dq, dk, dv] = run("HeedAttentionGradient", { dout, q, k, v, out, lse }, attrs);
        return { q: () => dq!, k: () => dk!, v: () => dv! };
      },
    },
    {
      kernelName: "HeedNorm",
      inputsToSave: ["x", "weight"],
      outputsToSave: [false, true, true],
      gradFunc: (douts, [x, weight, rstd, mean], attrs) => {
        const [dout] = douts as Tensor[];
        const statistics = mean ? { rstd, mean } : { rstd };
        const [dinp, dweight, dbias] = run("HeedNormGradient", { dout, x, weight, ...statistics }, attrs);
        return { x: () => dinp!, weight: () => dweight!, ...(dbias && { bias: () => dbias }) };
      },
    },
  ];
  for (const gradient of gradients) tf.registerGradient(gradient);
}

/** Returns the operations for the tensors of a copy of TensorFlow.js. */
export function transformerOperations(tf: TensorFlow): TransformerOperations {
  const first = (name: string, inputs: Record<string, Tensor>, attrs: object): Tensor => {
    if (tf.getBackend() !== "heed")
      throw new HeedError(
        "ERR_ARGUMENT",
        `expected heed to be TensorFlow.js' backend, got ${describe(tf.getBackend())}; call await tf.setBackend("heed")`,
      );
    return tf.tidy(() => tf.engine().runKernel<Tensor[]>(name, inputs as never, attrs as never)[0]!);
  };
  const norm = (op: string, inputs: Record<string, Tensor>, eps: number, rms: boolean): Tensor => {
    for (const [name, tensor] of Object.entries(inputs)) checkTensor(op, name, tensor);
    checkNumber(op, "eps", eps, 0, largestFloat);
    if (inputs.x!.rank < 1)
      throw new HeedError("ERR_SHAPE", `${op}: expected x with at least 1 dimension, got shape []`);
    return first("HeedNorm", inputs, { eps, rms } satisfies NormAttributes);
  };
  return {
    attention(q, k, v, options = {}) {
      for (const [name, tensor] of Object.entries({ q, k, v })) {
        checkTensor("attention", name, tensor);
        if (tensor.rank !== 4)
          throw new HeedError(
            "ERR_SHAPE",
            `attention: expected ${name} with 4 dimensions, got shape [${tensor.shape.join(", ")}]`,
          );
      }
      const { causal = false, window = 0, softcap = 0, scale = 1 / Math.sqrt(q.shape[3]!) } = options;
      if (typeof causal !== "boolean")
        throw new HeedError("ERR_ARGUMENT", `attention: expected causal to be true or false, got ${describe(causal)}`);
      checkInteger("attention", "window", window, 0);
      checkNumber("attention", "softcap", softcap, 0, largestFloat);
      checkNumber("attention", "scale", scale);
      return first("HeedAttention", { q, k, v }, { causal, window, softcap, scale } satisfies AttentionAttributes);
    },
    layerNorm: (x, weight, bias, eps = 1e-5) => norm("layerNorm", { x, weight, bias }, eps, false),
    rmsNorm: (x, weight, eps = 1e-5) => norm("rmsNorm", { x, weight }, eps, true),
  };
}

function checkTensor(op: string, name: string, tensor: unknown): void {
  const { dtype } = (tensor ?? {}) as Partial<Tensor>;
  if (dtype === undefined)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected ${name} to be a tensor of TensorFlow.js, got ${describe(tensor)}`,
    );
  if (dtype !== "float32") throw new HeedError("ERR_DTYPE", `${op}: expected ${name} of dtype float32, got ${dtype}`);
}
