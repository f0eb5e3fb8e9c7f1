// How many operations training takes, and how many a card can do, for the share of them that a run uses (MFU).
import { type Device, devices } from "../core/device.js";
import type { FloatDType } from "../core/dtype.js";
import { Linear } from "../nn/linear.js";
import type { Module } from "../nn/module.js";
import type { FloatTensor } from "../core/tensor.js";

/**
 * Returns the floating-point operations that training takes per token, without those of recomputed activations: 2 for
 * each number of a matrix in the forward pass, 2 in the backward pass, and 2 more for its gradient if it is trained, and
 * 12 · layers · width · T for attention (Chowdhery et al. 2022, "PaLM", appendix B, arXiv:2204.02311).
 *
 * @param head matrix that projects to logits and is no `Linear`, such as a tied embedding
 */
export function trainingFlops(
  model: Module,
  { layers, width, contextLength }: { layers: number; width: number; contextLength: number },
  head: FloatTensor | null,
): number {
  let [used, trained] = [0, 0];
  const count = (matrix: FloatTensor): void => {
    used += matrix.size;
    if (matrix.requiresGrad) trained += matrix.size;
  };
  for (const [, layer] of model.modules()) if (layer instanceof Linear && !layer.quantized) count(layer.weight);
  if (head) count(head);
  return 4 * used + 2 * trained + 12 * layers * width * contextLength;
}

/**
 * Peaks of cards in 10¹² operations per second, as NVIDIA's data sheets give them for dense matrices: f32 without tensor
 * cores, and 16 bits with them (f16 and bf16 with sums in f32).
 */
const peaks: readonly (readonly [name: RegExp, f32: number, short: number])[] = [
  [/\bH(100|200)\b(?!.*(PCIe|NVL))/, 67, 989],
  [/\bH100\b.*PCIe/, 51, 756],
  [/\bH(100|200)\b.*NVL/, 60, 835],
  [/\bA100\b/, 19.5, 312],
  [/\bA10G\b/, 31.2, 70],
  [/\bL40S\b/, 91.6, 362],
  [/\bL4\b/, 30.3, 121],
  [/\bRTX 4090\b/, 82.6, 165],
  [/\bRTX 3090\b(?! Ti)/, 35.6, 71],
];

/** Returns the operations per second that a device can do in a dtype, or null if heed does not know. */
export function peakOf(device: Device, dtype: FloatDType): number | null {
  const description = devices().find(({ name }) => name === device.name)?.description ?? "";
  const found = device.kind === "cuda" ? peaks.find(([name]) => name.test(description)) : undefined;
  return found ? (dtype === "f32" ? found[1] : found[2]) * 1e12 : null;
}
