import { device, matmul, randn, scope, type FloatTensor, transpose } from "heed";
import { type Case, expectClose } from "../case.js";

/** c[M, N] = a[M, K] · b[K, N]; in "tn" a lies transposed, in "nt" b. */
function gemm(m: number, k: number, n: number, layout: "nn" | "nt" | "tn" = "nn"): Case {
  return {
    name: "gemm",
    shape: `${m}×${k}×${n} ${layout}`,
    dtype: "f32",
    work: { flops: 2 * m * k * n },
    peer: { name: "gemm", m, k, n, layout },
    prepare() {
      const a = randn(layout === "tn" ? [k, m] : [m, k], { seed: 1 });
      const b = randn(layout === "nt" ? [n, k] : [k, n], { seed: 2 });
      const product = (): FloatTensor => matmul(layout === "tn" ? transpose(a) : a, layout === "nt" ? transpose(b) : b);
      const where = device("auto");
      return {
        run: async () => {
          scope(() => void product());
          await where.synchronize();
        },
        verify: async () => {
          const c = scope(product);
          const [x, y, z] = await Promise.all([a.data(), b.data(), c.data()]);
          c.dispose();
          for (const [i, j] of [
            [0, 0],
            [m - 1, n - 1],
            [m >> 1, n >> 1],
            [m - 1, 0],
          ] as const) {
            let sum = 0;
            for (let p = 0; p < k; p++)
              sum +=
                (layout === "tn" ? x[p * m + i]! : x[i * k + p]!) * (layout === "nt" ? y[j * k + p]! : y[p * n + j]!);
            expectClose(`gemm element ${i}, ${j}`, z[i * n + j]!, sum, 1e-3);
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

export const gemmCases: Case[] = [
  gemm(512, 512, 512),
  gemm(1024, 1024, 1024),
  gemm(2048, 2048, 2048),
  // The products of a 384-wide GPT's training step: forward, and the gradients of the input and of the weight.
  gemm(4096, 384, 1536),
  gemm(4096, 1536, 384, "nt"),
  gemm(384, 4096, 1536, "tn"),
  // Decoding: one row.
  gemm(1, 768, 3072),
  gemm(1, 768, 50257, "nt"),
];
