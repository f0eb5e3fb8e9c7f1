import { addLayerNorm, type FloatTensor, layerNorm, narrow, noGrad, parameter, randn, scope, sum } from "heed";
import { bytesOf, type Case, expectClose, type Setting, tolerances } from "../case.js";

type Pass = "forward" | "add + forward" | "backward";

/** The backward pass is timed with its forward, as it runs in training, and with a sum in between. */
export function norm(setting: Setting, rows: number, width: number, pass: Pass): Case {
  // The bytes that fused kernels must move: x (and the residual) in, y (and the sum) out; for the backward pass y in and
  // dy out, x and dy in and dx out.
  const tensors = { forward: 2, "add + forward": 4, backward: 7 }[pass];
  return {
    ...setting,
    name: { forward: "layer norm", "add + forward": "add + layer norm", backward: "layer norm training" }[pass],
    shape: `${rows}×${width}`,
    work: { bytes: tensors * rows * width * bytesOf[setting.dtype] },
    peer: { name: "layer_norm", rows, width, pass },
    prepare() {
      const { device } = setting;
      const x = randn([rows, width], { ...setting, seed: 1 });
      const r = randn([rows, width], { ...setting, seed: 2 });
      x.requiresGrad = pass === "backward";
      const weight = parameter(randn([width], { device, seed: 3, mean: 1 }));
      const bias = parameter(randn([width], { device, seed: 4 }));
      const forward = (): FloatTensor =>
        pass === "add + forward" ? addLayerNorm(x, r, { weight, bias }).out : layerNorm(x, { weight, bias });
      return {
        run: () =>
          scope(() => {
            if (pass !== "backward") return void noGrad(forward);
            sum(forward()).backward();
            for (const tensor of [x, weight, bias]) tensor.zeroGrad();
          }),
        verify: async () => {
          const first = async (tensor: FloatTensor): Promise<ArrayLike<number>> => {
            using row = noGrad(() => scope(() => narrow(tensor, 0, 0, 1)));
            return await row.data();
          };
          using out = noGrad(() => scope(forward));
          const [a, b, y, w, c] = await Promise.all([first(x), first(r), first(out), weight.data(), bias.data()]);
          const row = Array.from({ length: width }, (_, i) => a[i]! + (pass === "add + forward" ? b[i]! : 0));
          const mean = row.reduce((s, v) => s + v, 0) / width;
          const variance = row.reduce((s, v) => s + (v - mean) ** 2, 0) / width;
          for (const i of [0, width - 1]) {
            const expected = ((row[i]! - mean) / Math.sqrt(variance + 1e-5)) * w[i]! + c[i]!;
            expectClose("layer norm", y[i]!, expected, tolerances[setting.dtype]);
          }
        },
        dispose: () => {
          for (const tensor of [x, r, weight, bias]) tensor.dispose();
        },
      };
    },
  };
}
