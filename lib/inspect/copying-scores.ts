import type { EigenvalueDecomposition } from "ml-matrix";
import { noGrad } from "../core/autograd.js";
import { checkBoolean, checkObject } from "../util/check.js";
import { matmul } from "../ops/matmul.js";
import { narrow, reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import { matrices, matrixFrom } from "./head-circuits.js";
import type { InspectedDecoder } from "./hook-names.js";
import { embeddingMatrix, headMatrices, unembeddingMatrix, withNorm } from "./module-weights.js";

/** Options of `copyingScores`. */
export interface CopyingOptions {
  /** True if the weights of the norms before the head and before the logits are part of the circuit. @default true */
  foldNorm?: boolean;
}

/**
 * Resolves to a score for each head, `scores[layer][head]`, from −1 to 1: how much attending to a token raises the logit
 * of the same token rather than lowering it. It is Σ λ / Σ |λ| over the eigenvalues λ of the full OV circuit
 * W_E·W_V·W_O·W_U, a matrix [V, V] of rank D whose other eigenvalues are 0. Heads that copy have scores near 1.
 *
 * @example
 * const scores = await copyingScores(gpt);
 * scores[1]![0]; // of head 0 of the second block
 *
 * @throws ERR_ARGUMENT if an option has a wrong type; ERR_IO if the package ml-matrix is not installed.
 * @see Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
 */
export async function copyingScores(model: InspectedDecoder, options: CopyingOptions = {}): Promise<number[][]> {
  const op = "copyingScores";
  checkObject(op, "options", options);
  const { foldNorm = true } = options;
  checkBoolean(op, "foldNorm", foldNorm);
  const { EigenvalueDecomposition } = await matrices(op);
  const eigenvalues = async (core: FloatTensor): Promise<EigenvalueDecomposition> =>
    new EigenvalueDecomposition(await matrixFrom(core), { assumeSymmetric: false });
  const scores: number[][] = [];
  for (let layer = 0; layer < model.config.layers; layer++) {
    const cores = noGrad(() => scope(() => coresOf(op, model, layer, foldNorm)));
    scores.push(await Promise.all(cores.map(async (core) => score(await eigenvalues(core)))));
    for (const core of cores) core.dispose();
  }
  return scores;
}

/** Returns (W_O·W_U)·(W_E·W_V) for each head, [D, D]. It has the eigenvalues of the circuit that are not 0. */
function coresOf(op: string, model: InspectedDecoder, layer: number, foldNorm: boolean): FloatTensor[] {
  const { v, o } = headMatrices(op, model, { layer }, foldNorm);
  const embed = embeddingMatrix(model); // [V, C]
  const unembed = unembeddingMatrix(model); // [C, V]
  const logits = foldNorm ? withNorm(unembed, model.finalNorm) : unembed;
  const cores = matmul(matmul(o, matmul(logits, embed)), v); // [H, D, D]
  const [heads, size] = cores.shape as [number, number];
  return Array.from({ length: heads }, (_, h) => reshape(narrow(cores, 0, h, 1), [size, size]));
}

function score({ realEigenvalues: real, imaginaryEigenvalues: imaginary }: EigenvalueDecomposition): number {
  let [total, size] = [0, 0];
  for (const [i, x] of real.entries()) {
    total += x;
    size += Math.hypot(x, imaginary[i]!);
  }
  return size === 0 ? 0 : total / size;
}
