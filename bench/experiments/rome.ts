// The edit of rank one of ROME (Meng et al. 2022, arXiv:2202.05262, equation 2).

/**
 * Returns the weight [hidden, C] after an edit of rank one: the key [hidden] is mapped to its old image plus `change`
 * [C], and the mean square of what other inputs notice is least for their second moment [hidden · hidden].
 */
export function rankOneUpdate(
  weight: Float32Array,
  key: Float32Array,
  change: Float32Array,
  moment: Float64Array,
): Float32Array {
  const direction = solve(moment, key);
  const scale = direction.reduce((sum, value, i) => sum + value * key[i]!, 0);
  const width = change.length;
  return weight.map((value, at) => value + (direction[Math.floor(at / width)]! / scale) * change[at % width]!);
}

/**
 * Returns the solution x of (A + εI) x = b for a symmetric positive semidefinite A [n · n], by Cholesky's decomposition.
 * ε is a thousandth of the mean of A's diagonal, since there may be fewer inputs than dimensions.
 */
function solve(matrix: Float64Array, b: Float32Array): Float64Array {
  const n = b.length;
  const lower = Float64Array.from(matrix);
  let trace = 0;
  for (let i = 0; i < n; i++) trace += matrix[i * n + i]!;
  for (let i = 0; i < n; i++) lower[i * n + i]! += (1e-3 * trace) / n;
  for (let j = 0; j < n; j++) {
    for (let k = 0; k < j; k++) {
      const factor = lower[j * n + k]!;
      for (let i = j; i < n; i++) lower[i * n + j]! -= lower[i * n + k]! * factor;
    }
    const root = Math.sqrt(lower[j * n + j]!);
    for (let i = j; i < n; i++) lower[i * n + j]! /= root;
  }
  const x = Float64Array.from(b);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) x[i]! -= lower[i * n + k]! * x[k]!;
    x[i]! /= lower[i * n + i]!;
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) x[i]! -= lower[k * n + i]! * x[k]!;
    x[i]! /= lower[i * n + i]!;
  }
  return x;
}
