import { Lion, Muon, parameter, tensor } from "heed";
import { type Case, expectClose, type Setting } from "../case.js";

const learningRates = { Lion: 1e-4, Muon: 0.02 } as const;
/** Number of elements at the start of each parameter that are compared. */
const compared = 8;

/**
 * Returns the case of one step of Lion or Muon over the parameters of some layers of GPT-2. Muon's iterations run in the
 * setting's dtype; parameters and moments are f32.
 */
export function lionOrMuon(setting: Setting, name: "Lion" | "Muon", layers: number, width: number): Case {
  const matrices = [
    [width, 3 * width],
    [width, width],
    [width, 4 * width],
    [4 * width, width],
  ] as const;
  const shapes = Array.from({ length: layers }, () => [...matrices, [width]]).flat();
  const count = shapes.reduce((total, shape) => total + shape.reduce((a, b) => a * b), 0);
  const flops = layers * matrices.reduce((sum, [rows, columns]) => sum + newtonSchulzFlops(rows, columns), 0);
  const { device, dtype } = setting;
  return {
    ...setting,
    name,
    shape: `${(count / 1e6).toFixed(1)}M parameters`,
    // A step of Lion reads the parameter, the gradient and the moment, and writes all but the gradient.
    work: name === "Lion" ? { bytes: 5 * count * 4 } : { flops },
    peer: { name: name.toLowerCase(), layers, width },
    prepare() {
      const parameters = shapes.map((shape, k) => {
        const made = parameter(tensor(pattern(shape, 2 * k), shape, { device }));
        made.grad = tensor(pattern(shape, 2 * k + 1), shape, { device });
        return made;
      });
      const named = parameters.map((one, i): [string, typeof one] => [`p${i}`, one]);
      const lr = learningRates[name];
      const optimizer =
        name === "Lion" ? new Lion(named, { lr }) : new Muon(named, { lr, dtype: dtype === "bf16" ? "bf16" : "f32" });
      let first: number[] = [];
      return {
        run: () => optimizer.step(),
        verify: async () => {
          optimizer.step();
          const after = await parameters[0]!.data();
          const [before, gradient] = [pattern(shapes[0]!, 0), pattern(shapes[0]!, 1)];
          first = [];
          for (const one of parameters.slice(0, 5)) first.push(...(await one.data()).subarray(0, compared));
          if (name === "Lion")
            // The first step is the learning rate, against the sign of the gradient.
            for (let i = 0; i < compared; i++)
              expectClose("Lion", after[i]!, before[i]! - lr * Math.sign(gradient[i]!), 1e-6);
          else {
            // The step is nearly orthogonal: its rows have lengths of about one, as singular values from 0.7 to 1.2 give.
            const squares = after.reduce((sum, value, i) => sum + ((value - before[i]!) / lr) ** 2, 0);
            expectClose("Muon: mean square of the singular values", squares / width, 0.9, 0.45);
          }
        },
        verifyPeer: (theirs) => {
          // In bf16 the iterations round differently; a step's elements are about lr / √width.
          const tolerance = name === "Lion" ? 1e-6 : (lr / Math.sqrt(width)) * (dtype === "bf16" ? 0.2 : 0.01);
          for (const [i, value] of first.entries()) expectClose(`${name}, element ${i}`, theirs[i]!, value, tolerance);
          return Promise.resolve();
        },
        dispose: () => {
          optimizer.dispose();
          for (const one of parameters) one.dispose();
        },
      };
    },
  };
}

/** Returns the number of operations of five Newton–Schulz iterations. */
function newtonSchulzFlops(rows: number, columns: number): number {
  const [short, long] = [Math.min(rows, columns), Math.max(rows, columns)];
  return 5 * 2 * (2 * short ** 2 * long + short ** 3);
}

/** Returns numbers from −0.5 to 0.5 that look random. torch_peer.py makes the same ones. */
function pattern(shape: readonly number[], seed: number): Float32Array {
  const size = shape.reduce((a, b) => a * b);
  return Float32Array.from({ length: size }, (_, i) => {
    let x = Math.imul(i + 1 + seed * 0x1000003, 0x9e3779b1);
    x = Math.imul(x ^ (x >>> 15), 0x85ebca77);
    return ((x ^ (x >>> 13)) >>> 0) / 2 ** 32 - 0.5;
  });
}
