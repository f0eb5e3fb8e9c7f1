import { contiguous, type FloatTensor, matmul, narrow, noGrad, randn, scope, transpose } from "heed";
import { type Case, expectClose, type Goals, type Setting, tolerances } from "../case.js";

/** Returns the values of row or column `i` of a matrix. */
async function line(matrix: FloatTensor, axis: 0 | 1, i: number): Promise<ArrayLike<number>> {
  using values = noGrad(() => scope(() => contiguous(narrow(matrix, axis, i, 1))));
  return await values.data();
}

interface GemmOptions {
  /** "tn" means that a is stored transposed, "nt" that b is. @default "nn" */
  layout?: "nn" | "nt" | "tn";
  goals?: Goals;
  scaling?: boolean;
}

/** Returns the case of a product c[M, N] = a[M, K] · b[K, N]. */
export function gemm(
  setting: Setting,
  [m, k, n]: readonly [number, number, number],
  { layout = "nn", goals = {}, scaling = false }: GemmOptions = {},
): Case {
  return {
    ...setting,
    name: "gemm",
    shape: `${m}×${k}×${n} ${layout}`,
    work: { flops: 2 * m * k * n },
    bound: "compute",
    goals,
    peer: { name: "gemm", m, k, n, layout },
    // The other peers have no layouts of their own, and squares are enough to show their speed.
    ...(m === k && k === n ? {} : { peers: ["PyTorch"] }),
    scaling,
    prepare() {
      const a = randn(layout === "tn" ? [k, m] : [m, k], { ...setting, seed: 1 });
      const b = randn(layout === "nt" ? [n, k] : [k, n], { ...setting, seed: 2 });
      const product = (): FloatTensor => matmul(layout === "tn" ? transpose(a) : a, layout === "nt" ? transpose(b) : b);
      return {
        run: () => scope(() => void product()),
        verify: async () => {
          using c = scope(product);
          for (const [i, j] of [
            [0, 0],
            [m - 1, n - 1],
            [m >> 1, n >> 1],
            [m - 1, 0],
          ] as const) {
            const [x, y, z] = await Promise.all([
              line(a, layout === "tn" ? 1 : 0, i),
              line(b, layout === "nt" ? 0 : 1, j),
              line(c, 0, i),
            ]);
            let sum = 0;
            for (let p = 0; p < k; p++) sum += x[p]! * y[p]!;
            expectClose(`gemm element ${i}, ${j}`, z[j]!, sum, tolerances[setting.dtype], Math.sqrt(k));
          }
        },
        dispose: () => {
          a.dispose();
          b.dispose();
        },
      };
    },
  };
}
