import { ops } from "../core/native.js";
import { add, div, mul } from "../ops/binary.js";
import { sum } from "../ops/reduce.js";
import { sqrt, square } from "../ops/unary.js";
import { transpose } from "../ops/views.js";
import { scope } from "../core/scope.js";
import { allocate, type FloatTensor } from "../core/tensor.js";

/** Coefficients of the polynomial a·x + b·x³ + c·x⁵, which Keller Jordan chose for a steep slope at 0. */
const [a, b, c] = [3.4445, -4.775, 2.0315] as const;

/** Returns left · right + added, [n, M, N], for left [n, M, K] and right [n, K, N]. */
function product(left: FloatTensor, right: FloatTensor, added: FloatTensor | null = null): FloatTensor {
  const shape = [...left.shape.slice(0, -1), right.shape.at(-1)!];
  const out: FloatTensor = allocate(shape, left.dtype, left.device);
  ops.gemm({ out, a: left, b: right, residual: added });
  return out;
}

/**
 * Returns matrices [n, M, N] with nearly the same singular vectors as those given, and singular values near 1 (from 0.7
 * to 1.2): the Newton–Schulz iteration of Muon. The order of all sums is fixed, so that the result is the same to the
 * bit wherever the matrices lie in the batch.
 *
 * @see Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
 *   https://kellerjordan.github.io/posts/muon/; Bernstein & Newhouse 2024, "Old Optimizer, New Norm", arXiv:2409.20325.
 */
export function newtonSchulz(matrices: FloatTensor, steps: number): FloatTensor {
  return scope(() => {
    const [, rows, columns] = matrices.shape as [number, number, number];
    // The Gram matrix X·Xᵀ is smaller if X is wide.
    const tall = rows > columns;
    const wide = tall ? transpose(matrices) : matrices;
    // The Frobenius norm is at least the largest singular value. Squares are summed in f32.
    const norm = sqrt(sum(square(wide.to("f32")), { axes: [1, 2], keepDims: true })); // [n, 1, 1]
    let x = div(wide, add(norm, 1e-7).to(wide.dtype));
    for (let step = 0; step < steps; step++)
      x = scope(() => {
        const gram = product(x, transpose(x)); // [n, R, R]
        const polynomial = product(mul(gram, c), gram, mul(gram, b));
        return product(polynomial, x, mul(x, a));
      });
    return tall ? transpose(x) : x;
  });
}
