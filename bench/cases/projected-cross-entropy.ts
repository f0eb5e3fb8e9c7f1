import { type FloatTensor, linearCrossEntropy, parameter, randn, scope, tensor } from "heed";
import { type Case, expectClose, type Goals, type Setting } from "../case.js";

/** Returns the case of x [rows, C] projected to V logits: the loss, and the gradients of x and of the projection. */
export function projectedCrossEntropy(
  setting: Setting,
  rows: number,
  width: number,
  vocabulary: number,
  goals: Goals = {},
): Case {
  return {
    ...setting,
    name: "projection + cross-entropy",
    shape: `${rows}×${width}→${vocabulary}`,
    // There is one product forward and there are two backward.
    work: { flops: 6 * rows * width * vocabulary },
    bound: "compute",
    goals,
    memory: "step",
    peer: { name: "projected_cross_entropy", rows, width, vocabulary },
    prepare() {
      const { device } = setting;
      const x = parameter(randn([rows, width], { ...setting, seed: 1 }));
      const weight = parameter(randn([vocabulary, width], { ...setting, seed: 2, std: 0.02 }));
      const targets = tensor(
        Int32Array.from({ length: rows }, (_, i) => (i * 7919) % vocabulary),
        [rows],
        { device },
      );
      const loss = (): FloatTensor => linearCrossEntropy(x, weight, targets);
      return {
        run: () =>
          scope(() => {
            loss().backward();
            x.zeroGrad();
            weight.zeroGrad();
          }),
        verify: async () => {
          // Logits are about normally distributed, with a variance of 0.02² · C.
          using value = scope(loss);
          expectClose("loss", await value.item(), Math.log(vocabulary) + (0.02 ** 2 * width) / 2, 0.005);
        },
        dispose: () => {
          for (const tensor of [x, weight, targets]) tensor.dispose();
        },
      };
    },
  };
}
