import { crossEntropy, type FloatTensor, narrow, noGrad, randn, scope, tensor } from "heed";
import { bytesOf, type Case, expectClose, type Setting, tolerances } from "../case.js";

/** Returns the case of the loss of logits [rows, V] and its gradient. */
export function crossEntropyCase(setting: Setting, rows: number, vocabulary: number): Case {
  return {
    ...setting,
    name: "cross-entropy",
    shape: `${rows}×${vocabulary}`,
    // The logits are read and their gradient is written.
    work: { bytes: 2 * rows * vocabulary * bytesOf[setting.dtype] },
    peer: { name: "cross_entropy", rows, vocabulary },
    prepare() {
      const { device } = setting;
      const logits = randn([rows, vocabulary], { ...setting, seed: 1 });
      logits.requiresGrad = true;
      const target = (i: number): number => (i * 7919) % vocabulary;
      const targets = tensor(
        Int32Array.from({ length: rows }, (_, i) => target(i)),
        [rows],
        { device },
      );
      return {
        run: () =>
          scope(() => {
            crossEntropy(logits, targets).backward();
            logits.zeroGrad();
          }),
        verify: async () => {
          scope(() => crossEntropy(logits, targets).backward());
          const first = async (tensor: FloatTensor): Promise<ArrayLike<number>> => {
            using row = noGrad(() => scope(() => narrow(tensor, 0, 0, 1)));
            return await row.data();
          };
          const [x, d] = await Promise.all([first(logits), first(logits.grad!)]);
          logits.zeroGrad();
          const total = Array.from(x).reduce((sum, value) => sum + Math.exp(value), 0);
          for (const v of [target(0), 1, vocabulary - 1]) {
            const expected = (Math.exp(x[v]!) / total - (v === target(0) ? 1 : 0)) / rows;
            expectClose("gradient of cross-entropy", d[v]!, expected, tolerances[setting.dtype], 1e-7 / rows);
          }
        },
        dispose: () => {
          logits.dispose();
          targets.dispose();
        },
      };
    },
  };
}
