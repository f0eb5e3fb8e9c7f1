import { addLayerNorm, device, layerNorm, noGrad, ones, randn, scope, zeros } from "heed";
import { type Case, expectClose } from "../case.js";

function norm(rows: number, width: number, residual: boolean): Case {
  return {
    name: residual ? "add + layer norm" : "layer norm",
    shape: `${rows}×${width}`,
    dtype: "f32",
    // The bytes a fused kernel must move: x (and the residual) in, y (and the sum) out.
    work: { bytes: (residual ? 4 : 2) * rows * width * 4 },
    peer: { name: "layer_norm", rows, width, residual: residual ? 1 : 0 },
    prepare() {
      const x = randn([rows, width], { seed: 1 });
      const r = randn([rows, width], { seed: 2 });
      const weight = ones([width]);
      const bias = zeros([width]);
      const where = device("auto");
      const forward = () => (residual ? addLayerNorm(x, r, { weight, bias }).out : layerNorm(x, { weight, bias }));
      return {
        run: async () => {
          noGrad(() => scope(() => void forward()));
          await where.synchronize();
        },
        verify: async () => {
          const out = noGrad(() => scope(forward));
          const [a, b, y] = await Promise.all([x.data(), r.data(), out.data()]);
          out.dispose();
          const row = Array.from({ length: width }, (_, i) => a[i]! + (residual ? b[i]! : 0));
          const mean = row.reduce((s, v) => s + v, 0) / width;
          const variance = row.reduce((s, v) => s + (v - mean) ** 2, 0) / width;
          expectClose("layer norm", y[0]!, (row[0]! - mean) / Math.sqrt(variance + 1e-5), 1e-4);
        },
        dispose: () => {
          for (const tensor of [x, r, weight, bias]) tensor.dispose();
        },
      };
    },
  };
}

export const layerNormCases: Case[] = [norm(4096, 768, false), norm(4096, 768, true), norm(4096, 384, true)];
