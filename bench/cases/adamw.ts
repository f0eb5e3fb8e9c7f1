import { AdamW, parameter, randn, scope, sum } from "heed";
import { type Case, expectClose, type Setting } from "../case.js";

/** Returns the case of one AdamW step over the parameters of some layers of GPT-2. */
export function adamw(setting: Setting, layers: number, width: number): Case {
  const shapes = Array.from({ length: layers }, () => [
    [width, 3 * width],
    [width, width],
    [width, 4 * width],
    [4 * width, width],
    [width],
  ]).flat();
  const count = shapes.reduce((total, shape) => total + shape.reduce((a, b) => a * b), 0);
  return {
    ...setting,
    name: "AdamW",
    shape: `${(count / 1e6).toFixed(1)}M parameters`,
    // A step reads the parameter, the gradient and two moments, and writes all but the gradient.
    work: { bytes: 7 * count * 4 },
    peer: { name: "adamw", layers, width },
    prepare() {
      const { device } = setting;
      const parameters = shapes.map((shape, i) => parameter(randn(shape, { device, seed: i, std: 0.02 })));
      const named = parameters.map((tensor, i): [string, typeof tensor] => [`p${i}`, tensor]);
      const optimizer = new AdamW(named, { lr: 1e-3, weightDecay: 0 });
      scope(() => {
        for (const tensor of parameters) sum(tensor).backward();
      });
      return {
        run: () => optimizer.step(),
        verify: async () => {
          // If all gradients are one, the first step is the learning rate, whatever the factors of the moments are.
          const read = async (): Promise<number> => (await parameters.at(-1)!.data())[width - 1]!;
          const before = await read();
          optimizer.step();
          expectClose("AdamW", await read(), before - 1e-3, 1e-6);
        },
        dispose: () => {
          optimizer.dispose();
          for (const tensor of parameters) tensor.dispose();
        },
      };
    },
  };
}
