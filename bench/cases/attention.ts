import { device, noGrad, packedAttention, parameter, randn, scope, sum } from "heed";
import { type Case, expectClose } from "../case.js";

function attention(batch: number, heads: number, length: number, size: number, backward: boolean): Case {
  // Causal: half of the full square.
  const forward = (4 * batch * heads * length * length * size) / 2;
  return {
    name: backward ? "attention training" : "attention",
    shape: `B${batch} H${heads} T${length} D${size} causal`,
    dtype: "f32",
    work: { flops: backward ? 3.5 * forward : forward },
    peer: { name: "attention", batch, heads, length, size, backward: backward ? 1 : 0 },
    prepare() {
      const width = heads * size;
      const qkv = parameter(randn([batch, length, 3 * width], { seed: 1 }));
      const where = device("auto");
      return {
        run: async () => {
          scope(() => {
            if (!backward) return void noGrad(() => packedAttention(qkv, { heads, causal: true }));
            sum(packedAttention(qkv, { heads, causal: true })).backward();
            qkv.zeroGrad();
          });
          await where.synchronize();
        },
        verify: async () => {
          const out = noGrad(() => scope(() => packedAttention(qkv, { heads, causal: true })));
          const [x, y] = await Promise.all([qkv.data(), out.data()]);
          out.dispose();
          // The last query of the last head of the last sequence, in full.
          const base = (batch - 1) * length * 3 * width;
          const head = (heads - 1) * size;
          const at = (t: number, part: number, d: number): number => x[base + t * 3 * width + part * width + head + d]!;
          const scores = Array.from({ length }, (_, j) => {
            let s = 0;
            for (let d = 0; d < size; d++) s += at(length - 1, 0, d) * at(j, 1, d);
            return s / Math.sqrt(size);
          });
          const top = Math.max(...scores);
          const weights = scores.map((s) => Math.exp(s - top));
          const total = weights.reduce((a, b) => a + b);
          let expected = 0;
          weights.forEach((w, j) => (expected += (w / total) * at(j, 2, 0)));
          expectClose("attention", y[((batch - 1) * length + length - 1) * width + head]!, expected, 1e-4);
        },
        dispose: () => qkv.dispose(),
      };
    },
  };
}

export const attentionCases: Case[] = [
  attention(16, 6, 256, 64, false),
  attention(16, 6, 256, 64, true),
  attention(1, 12, 1024, 64, false),
  attention(1, 12, 1024, 64, true),
  attention(1, 12, 4096, 64, false),
];
