import { contiguous, mul, narrow, noGrad, packedAttention, parameter, randn, scope, sum, tensor } from "heed";
import { type Case, expectClose, type Goals, type Setting, tolerances } from "../case.js";

export interface AttentionShape {
  batch: number;
  heads: number;
  length: number;
  size: number;
  causal: boolean;
  /** True to run the backward pass as well. */
  backward: boolean;
  /**
   * Standard deviation of queries and keys. With 8, scores differ by so much that many probabilities are below the
   * smallest normal number.
   *
   * @default 1
   */
  deviation?: number;
}

/** Returns the case of packed attention, forward or forward and backward. */
export function attention(
  setting: Setting,
  shape: AttentionShape,
  { goals = {}, scaling = false }: { goals?: Goals; scaling?: boolean } = {},
): Case {
  const { batch, heads, length, size, causal, backward, deviation = 1 } = shape;
  const forward = (4 * batch * heads * length * length * size) / (causal ? 2 : 1);
  return {
    ...setting,
    name: backward ? "attention training" : "attention",
    shape: `B${batch} H${heads} T${length} D${size}${causal ? " causal" : ""}${deviation === 1 ? "" : ` σ${deviation}`}`,
    work: { flops: backward ? 3.5 * forward : forward },
    bound: "compute",
    goals,
    scaling,
    memory: "step",
    // ONNX Runtime keeps all scores in memory and has no backward pass. Its inputs have a deviation of their own.
    ...(backward || length > 4096 || deviation !== 1 ? { peers: ["PyTorch"] } : {}),
    peer: {
      ...{ name: "attention", batch, heads, length, size },
      ...{ causal: causal ? 1 : 0, backward: backward ? 1 : 0, deviation },
    },
    prepare() {
      const width = heads * size;
      const factors = Float32Array.from({ length: 3 * width }, (_, i) => (i < 2 * width ? deviation : 1));
      const qkv = parameter(
        scope(() =>
          mul(randn([batch, length, 3 * width], { ...setting, seed: 1 }), tensor(factors, [3 * width], setting)),
        ),
      );
      return {
        run: () =>
          scope(() => {
            if (!backward) return void noGrad(() => packedAttention(qkv, { heads, causal }));
            sum(packedAttention(qkv, { heads, causal })).backward();
            qkv.zeroGrad();
          }),
        verify: async () => {
          // This computes the last query of the last head of the last sequence in full.
          using inputs = noGrad(() => scope(() => contiguous(narrow(qkv, 0, batch - 1, 1))));
          using out = noGrad(() =>
            scope(() => contiguous(narrow(packedAttention(qkv, { heads, causal }), 0, batch - 1, 1))),
          );
          const [x, y] = await Promise.all([inputs.data(), out.data()]);
          const head = (heads - 1) * size;
          const at = (t: number, part: number, d: number): number => x[t * 3 * width + part * width + head + d]!;
          const scores = Array.from({ length }, (_, j) => {
            let s = 0;
            for (let d = 0; d < size; d++) s += at(length - 1, 0, d) * at(j, 1, d);
            return s / Math.sqrt(size);
          });
          const top = Math.max(...scores);
          const weights = scores.map((s) => Math.exp(s - top));
          const total = weights.reduce((a, b) => a + b);
          for (const d of [0, size - 1]) {
            let expected = 0;
            weights.forEach((w, j) => (expected += (w / total) * at(j, 2, d)));
            const got = y[(length - 1) * width + head + d]!;
            // An average of n values with equal weights is √n times smaller than the values; this is that factor for
            // any weights.
            const scale = Math.sqrt(weights.reduce((a, w) => a + (w / total) ** 2, 0));
            expectClose("attention", got, expected, tolerances[setting.dtype], scale);
          }
        },
        dispose: () => qkv.dispose(),
      };
    },
  };
}
