// How the rounding error of one weight is made up for by the weights that are rounded after it (GPTQ).
//
// A row w of a weight [out, in] is to become ŵ such that (w - ŵ) H (w - ŵ)ᵀ is small, where H is the sum of x xᵀ over the
// inputs x. With H = U D Uᵀ, U unit upper triangular and D diagonal, this is Σ D_j (v_j - ŵ_j)² for
//
//   v_j = w_j + Σ (w_k - ŵ_k) U_kj over k < j,
//
// so that ŵ_j is v_j rounded. These are the numbers that GPTQ computes from the Cholesky factor of H⁻¹, which is U⁻¹ up to
// the scales of its rows, without the inverse (Chee et al. 2023, "QuIP", theorem 6, https://arxiv.org/abs/2307.13304).
import { HeedError } from "../../util/errors.js";
import type { Steps } from "../../util/turns.js";

/** Factors of the second moments of a layer's inputs. */
export interface Feedback {
  /** Number of inputs. */
  readonly inputs: number;
  /** Strict upper triangle of U [in, in]; all other elements are 0. */
  readonly factor: Float32Array;
  /** D [in]. */
  readonly weights: Float64Array;
}

/** Share of the mean second moment that is added to all of them, so that rare inputs are not ignored. */
const damping = 0.001;

/**
 * Factorises the second moments [in, in] of a layer's inputs, of which only the upper triangle is read.
 *
 * @throws ERR_RANGE if they are not finite.
 */
export function* feedbackOf(moments: Float32Array | Float64Array, inputs: number): Steps<Feedback> {
  const n = inputs;
  let trace = 0;
  for (let i = 0; i < n; i++) trace += moments[i * n + i]!;
  if (!Number.isFinite(trace))
    throw new HeedError("ERR_RANGE", "quantizeBySearch: expected finite activations for the texts, got others");
  const least = (damping * trace) / n || 1;
  const u = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    u.set(moments.subarray(i * n, (i + 1) * n), i * n);
    yield;
  }
  const weights = new Float64Array(n);
  const scaled = new Float64Array(n);
  for (let j = n - 1; j >= 0; j--) {
    const row = j * n;
    let d = u[row + j]! + least;
    for (let k = j + 1; k < n; k++) {
      scaled[k] = u[row + k]! * weights[k]!;
      d -= u[row + k]! * scaled[k]!;
    }
    // H is at least `least`, and so is D; only rounding can make it less.
    weights[j] = d = Math.max(d, least / 2);
    for (let i = 0; i < j; i++) {
      const other = i * n;
      u[other + j] = (u[other + j]! - dot(u, other, scaled, j + 1, n)) / d;
      if ((i & 63) === 63) yield;
    }
    yield;
  }
  const factor = new Float32Array(n * n);
  for (let i = 0; i < n; i++) {
    factor.set(u.subarray(i * n + i + 1, (i + 1) * n), i * n + i + 1);
    yield;
  }
  return { inputs, factor, weights };
}

/** Returns the sum of a[first + k] · b[k] for k from `begin` to before `end`. */
function dot(a: Float64Array, first: number, b: Float64Array, begin: number, end: number): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  let k = begin;
  for (; k + 3 < end; k += 4) {
    s0 += a[first + k]! * b[k]!;
    s1 += a[first + k + 1]! * b[k + 1]!;
    s2 += a[first + k + 2]! * b[k + 2]!;
    s3 += a[first + k + 3]! * b[k + 3]!;
  }
  for (; k < end; k++) s0 += a[first + k]! * b[k]!;
  return s0 + s1 + (s2 + s3);
}
