import type { Matrix } from "ml-matrix";
import { noGrad } from "../core/autograd.js";
import { checkBoolean, checkChoice, checkInteger, checkObject } from "../util/check.js";
import { optionalPackage } from "../util/optional-package.js";
import { contiguous, narrow, reshape, transpose } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor } from "../core/tensor.js";
import type { InspectedModel } from "./hook-names.js";
import { type AttentionPlace, headMatrices } from "./module-weights.js";

const circuits = ["qk", "ov"] as const;

/** Head whose circuit is wanted. */
export interface CircuitOptions extends AttentionPlace {
  /** Index of the head. */
  head: number;
  /**
   * "qk": which tokens a head attends to, x·W_Q·W_Kᵀ·yᵀ for a query at x and a key at y. "ov": what it writes about a token
   * that it attends to, x·W_V·W_O.
   */
  circuit: (typeof circuits)[number];
  /**
   * True if the weight of the norm before the head, and a layer norm's subtraction of the mean, are part of the matrices.
   *
   * @default false
   */
  foldNorm?: boolean;
}

/** Circuit of a head as a product of two thin matrices; their product is [C, C]. It owns them; dispose it. */
export interface HeadCircuit extends Disposable {
  /** Left factor, f32 [C, D]: W_Q or W_V. */
  readonly left: FloatTensor;
  /** Right factor, f32 [D, C]: W_Kᵀ or W_O. */
  readonly right: FloatTensor;
  /** Frees both factors. */
  dispose(): void;
}

class Factors implements HeadCircuit {
  constructor(
    readonly left: FloatTensor,
    readonly right: FloatTensor,
  ) {}

  dispose(): void {
    this.left.dispose();
    this.right.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Returns the QK or the OV circuit of a head, without biases, positions and scale. Heads that share keys and values share
 * W_K and W_V.
 *
 * @example
 * using circuit = headCircuit(gpt, { circuit: "ov", layer: 1, head: 0 });
 * matmul(circuit.left, circuit.right).shape; // [16, 16]
 *
 * @throws ERR_RANGE if there is no such block or head; ERR_ARGUMENT if the model has no such stack or attention.
 * @see Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
 */
export function headCircuit(model: InspectedModel, options: CircuitOptions): HeadCircuit {
  const op = "headCircuit";
  checkObject(op, "options", options);
  const { head, circuit, foldNorm = false, ...place } = options;
  checkChoice(op, "circuit", circuit, circuits);
  checkBoolean(op, "foldNorm", foldNorm);
  return noGrad(() =>
    scope(() => {
      const { q, k, v, o } = headMatrices(op, model, place, foldNorm);
      checkInteger(op, "head", head, 0, q.shape[0]! - 1);
      const of = (matrices: FloatTensor): FloatTensor => reshape(narrow(matrices, 0, head, 1), matrices.shape.slice(1));
      const [left, right] = circuit === "qk" ? [of(q), transpose(of(k))] : [of(v), of(o)];
      return new Factors(keep(contiguous(left)), keep(contiguous(right)));
    }),
  );
}

/** Singular value decomposition of a circuit: Σ values[i] · left[i]ᵀ · right[i], with D terms. */
export interface CircuitSvd {
  /** Singular values, from the largest to the smallest. */
  values: Float64Array;
  /** Directions that are read: those of queries or, for "ov", of the tokens attended to. Each has C numbers. */
  left: Float64Array[];
  /** Directions that are matched or written: those of keys or, for "ov", of the output. Each has C numbers. */
  right: Float64Array[];
}

/**
 * Resolves to the singular value decomposition of a head's QK or OV circuit, in f64. It is computed from the thin factors,
 * so that its cost grows with C·D² and not with C³.
 *
 * @example
 * const { values, left, right } = await circuitSvd(gpt, { circuit: "qk", layer: 0, head: 1, foldNorm: true });
 * values.length; // 8: the head size
 *
 * @throws the errors of `headCircuit`; ERR_IO if the package ml-matrix is not installed.
 * @see Millidge & Black 2022, "The Singular Value Decompositions of Transformer Weight Matrices are Highly
 *   Interpretable".
 */
export async function circuitSvd(model: InspectedModel, options: CircuitOptions): Promise<CircuitSvd> {
  const { QrDecomposition, SingularValueDecomposition } = await matrices("circuitSvd");
  using circuit = headCircuit(model, options);
  const [left, right] = await Promise.all([matrixFrom(circuit.left), matrixFrom(circuit.right)]);
  // With L = Q₁·R₁ and Rᵀ = Q₂·R₂, L·R = Q₁·(R₁·R₂ᵀ)·Q₂ᵀ, of which only the small matrix in the middle is decomposed.
  const [first, second] = [new QrDecomposition(left), new QrDecomposition(right.transpose())];
  const middle = first.upperTriangularMatrix.mmul(second.upperTriangularMatrix.transpose());
  const svd = new SingularValueDecomposition(middle, { autoTranspose: true });
  const values = Float64Array.from(svd.diagonal);
  const columns = (basis: Matrix, vectors: Matrix): Float64Array[] => {
    const product = basis.mmul(vectors);
    return Array.from(values, (_, i) => Float64Array.from(product.getColumn(i)));
  };
  return {
    values,
    left: columns(first.orthogonalMatrix, svd.leftSingularVectors),
    right: columns(second.orthogonalMatrix, svd.rightSingularVectors),
  };
}

/**
 * @internal Resolves to the package that decomposes matrices.
 *
 * @throws ERR_IO if ml-matrix is not installed.
 */
export async function matrices(op: string) {
  return await optionalPackage("ml-matrix", op, () => import("ml-matrix"));
}

/** @internal Resolves to a matrix on the host. */
export async function matrixFrom(x: FloatTensor): Promise<Matrix> {
  const [rows, columns] = x.shape as [number, number];
  const { Matrix } = await import("ml-matrix");
  return Matrix.from1DArray(rows, columns, await x.data());
}
