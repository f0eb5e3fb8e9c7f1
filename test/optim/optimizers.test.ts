import { describe, expect, test } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { GPT } from "../../lib/models/gpt.js";
import { freeze, unfreeze } from "../../lib/nn/freeze.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { hiddenMatrices } from "../../lib/optim/hidden-matrices.js";
import { Lion } from "../../lib/optim/lion.js";
import { Muon } from "../../lib/optim/muon.js";
import { newtonSchulz } from "../../lib/optim/newton-schulz.js";
import type { Optimizer, OptimizerOptions } from "../../lib/optim/optimizer.js";
import { SGD } from "../../lib/optim/sgd.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectError } from "../support/errors.js";
import { Random } from "../support/random.js";
import { oneDevice, testUnless } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";

type Named = [string, FloatTensor][];

const optimizers = {
  adamw: (of: Named, options: OptimizerOptions) => new AdamW(of, options),
  sgd: (of: Named, options: OptimizerOptions) => new SGD(of, { momentum: 0.9, ...options }),
  lion: (of: Named, options: OptimizerOptions) => new Lion(of, options),
  muon: (of: Named, options: OptimizerOptions) => new Muon(of, options),
};
const kinds = Object.keys(optimizers) as (keyof typeof optimizers)[];

onEachDevice((device) => {
  const random = new Random(5);
  const start = Array.from({ length: 12 }, () => random.normal());
  /** Returns a matrix and a vector, with gradients. */
  const parameters = (): Named => {
    const named: Named = [
      ["w", tensor(start, [3, 4])],
      ["b", tensor(start.slice(0, 3), [3])],
    ];
    for (const [, parameter] of named) parameter.requiresGrad = true;
    return named;
  };
  const slopes = (named: Named, step: number): void => {
    for (const [, parameter] of named)
      parameter.grad = tensor(
        Array.from({ length: parameter.size }, (_, i) => Math.sin(7 * step + i)),
        parameter.shape,
      );
  };
  const data = async (named: Named): Promise<Float32Array[]> => Promise.all(named.map(([, p]) => p.data()));

  test("AdamW corrects its moments for the steps that it took: PyTorch's rule, in float64", async () => {
    const [lr, beta1, beta2, eps] = [0.05, 0.9, 0.999, 1e-8];
    const named: Named = [["w", tensor(start, [12])]];
    named[0]![1].requiresGrad = true;
    using optimizer = new AdamW(named, { lr, beta1, beta2, eps, weightDecay: 0, maxNorm: Infinity });
    const [w, m, v] = [Float64Array.from(start), new Float64Array(12), new Float64Array(12)];
    let taken = 0;
    for (let step = 0; step < 9; step++) {
      const scale = 2 ** (10 - step);
      const gradient = Array.from({ length: 12 }, (_, i) => Math.sin(7 * step + i));
      const overflows = step % 3 !== 2;
      named[0]![1].grad = tensor(overflows ? [Infinity, ...gradient.slice(1)] : gradient.map((x) => x * scale), [12]);
      optimizer.step({ lossScale: scale });
      expect(await optimizer.settle()).toBe(!overflows);
      if (overflows) continue;
      taken++;
      for (const [i, g] of gradient.entries()) {
        m[i] = beta1 * m[i]! + (1 - beta1) * g;
        v[i] = beta2 * v[i]! + (1 - beta2) * g * g;
        w[i]! -= (lr * (m[i] / (1 - beta1 ** taken))) / (Math.sqrt(v[i] / (1 - beta2 ** taken)) + eps);
      }
    }
    for (const [i, value] of (await named[0]![1].data()).entries()) expect(value).toBeCloseTo(w[i]!, 5);
  });

  describe.each(kinds)("%s", (kind) => {
    test("continues bit for bit from a saved state", async () => {
      const run = async (stop: number | null): Promise<Float32Array[]> => {
        const named = parameters();
        let optimizer: Optimizer = optimizers[kind](named, { lr: 0.05, maxNorm: 1, weightDecay: 0.1 });
        for (let step = 0; step < 6; step++) {
          if (step === stop) {
            const { steps } = optimizer;
            const saved: Record<string, { shape: readonly number[]; values: Float32Array }> = {};
            for (const [name, state] of Object.entries(optimizer.stateDict()))
              saved[name] = { shape: state.shape, values: await state.data() };
            optimizer.dispose();
            optimizer = optimizers[kind](named, { lr: 0.05, maxNorm: 1, weightDecay: 0.1 });
            optimizer.loadStateDict(saved, steps);
          }
          slopes(named, step);
          optimizer.step();
          optimizer.zeroGrad();
        }
        optimizer.dispose();
        return await data(named);
      };
      expect(await run(3)).toEqual(await run(null));
    });

    test("a norm that is not finite changes nothing; a scaled loss has the same step", async () => {
      const after = async (scale: number, bad: number | null): Promise<Float32Array[]> => {
        const named = parameters();
        using optimizer = optimizers[kind](named, { lr: 0.05, maxNorm: 1 });
        for (let step = 0; step < 2; step++) {
          slopes(named, step);
          for (const [, parameter] of named) {
            const values = (await parameter.grad!.data()).map((x) => x * scale);
            if (bad !== null) values[1] = bad;
            parameter.grad!.set(values);
          }
          optimizer.step({ lossScale: scale });
          optimizer.zeroGrad();
        }
        return await data(named);
      };
      const before = await data(parameters());
      for (const bad of [NaN, Infinity]) expect(await after(1, bad)).toEqual(before);
      const usual = await after(1, null);
      expect(usual).not.toEqual(before);
      expect(await after(1024, null)).toEqual(usual);
    });

    test.each([null, { rank: 0, size: 2 }, { rank: 1, size: 2 }])(
      "a skipped step leaves no trace, not even in the counts, with the share %o",
      async (shard) => {
        /** Runs steps 1 to 4, before which steps with the slope `bad` are skipped `skips` times each. */
        const after = async (skips: number, bad = NaN): Promise<Float32Array[]> => {
          const named = parameters();
          using optimizer = optimizers[kind](named, { lr: 0.05, maxNorm: 1, ...(shard && { shard }) });
          for (let step = 1; step <= 4; step++) {
            for (let skip = skips; skip >= 0; skip--) {
              slopes(named, step);
              if (skip > 0) named[1]![1].grad!.set([bad, 1, 2]);
              optimizer.step();
              optimizer.zeroGrad();
              expect(await optimizer.settle()).toBe(skip === 0);
              expect(await optimizer.settle()).toBe(skip === 0);
            }
            expect(optimizer.steps).toEqual({ w: step, b: step });
          }
          return await data(named);
        };
        const usual = await after(0);
        expect(await after(1, Infinity)).toEqual(usual);
        expect(await after(3)).toEqual(usual);
      },
    );

    // The software device is slow, and nothing here depends on it.
    testUnless(device !== "cpu" && oneDevice)(
      "a frozen parameter has no state and does not change until trained",
      async () => {
        using model = new GPT({ vocabularySize: 5, contextLength: 4, layers: 1, heads: 1, width: 4 }, { seed: 1 });
        freeze(model, "h.0.mlp");
        using optimizer = optimizers[kind]([...model.namedParameters()], { lr: 0.01 });
        const ids = tensor([1, 2, 3], [1, 3], { dtype: "i32" });
        const step = (): void => {
          optimizer.zeroGrad();
          model.loss(ids, ids).backward();
          optimizer.step();
        };
        const frozen = model.h[0]!.mlp.c_fc.weight;
        const before = await frozen.data();
        step();
        expect(await frozen.data()).toEqual(before);
        expect(Object.keys(optimizer.stateDict()).some((name) => name.includes(".mlp."))).toBe(false);
        unfreeze(model);
        step();
        expect(await frozen.data()).not.toEqual(before);
        expect(Object.keys(optimizer.stateDict()).some((name) => name.includes(".mlp."))).toBe(true);
      },
    );

    test("groups have learning rates and weight decays of their own", async () => {
      const named = parameters();
      const groups = [
        { names: "w", lrScale: 0 },
        { names: /^b$/, weightDecay: 0.5 },
      ];
      using optimizer = optimizers[kind](named, { lr: 0.1, groups });
      const before = await data(named);
      slopes(named, 1);
      optimizer.step();
      const [w, b] = await data(named);
      expect(w).toEqual(before[0]);
      expect(b).not.toEqual(before[1]);
      expectError(() => optimizers[kind](named, { groups: [{ names: "x" }] }), "ERR_ARGUMENT", /names such as w, b/);
      expectError(() => optimizers[kind](named, { groups: [{ names: "w", lrScale: -1 }] }), "ERR_RANGE", /lrScale/);
    });
  });

  test("weight decay of a group replaces that of the optimiser", async () => {
    const named = parameters();
    using optimizer = new SGD(named, { lr: 0.1, weightDecay: 0.1, groups: [{ names: "b", weightDecay: 0.5 }] });
    for (const [, parameter] of named) parameter.grad = tensor(new Float32Array(parameter.size), parameter.shape);
    optimizer.step();
    const [w, b] = await data(named);
    w!.forEach((x, i) => expect(x).toBeCloseTo(start[i]! * 0.99, 6));
    b!.forEach((x, i) => expect(x).toBeCloseTo(start[i]! * 0.95, 6));
  });

  test("SGD without momentum has no state", () => {
    using optimizer = new SGD(parameters(), { lr: 0.1 });
    expect(optimizer.stateDict()).toEqual({});
    expectError(() => new SGD(parameters(), { nesterov: true }), "ERR_ARGUMENT", /momentum above 0 with nesterov/);
  });

  test.each([
    [6, 4],
    [4, 6],
    [5, 5],
    [1, 7],
  ])("Newton–Schulz brings the singular values of [%i, %i] near 1, in any batch", async (rows, columns) => {
    const values = (count: number): Float32Array =>
      Float32Array.from({ length: count * rows * columns }, () => random.normal());
    const [first, others] = [values(1), values(2)];
    using alone = newtonSchulz(tensor(first, [1, rows, columns]), 5);
    using together = newtonSchulz(tensor([...others, ...first], [3, rows, columns]), 5);
    const x = await alone.data();
    expect((await together.data()).slice(2 * rows * columns)).toEqual(x);
    // Of X·Xᵀ, the squares of the singular values are the eigenvalues; their sum is the trace.
    const trace = x.reduce((sum, value) => sum + value * value, 0);
    const rank = Math.min(rows, columns);
    expect(trace / rank).toBeGreaterThan(0.4);
    expect(trace / rank).toBeLessThan(1.45);
  });

  test("Muon takes the matrices of the blocks, and knows which are transposed", () => {
    using model = new GPT(
      { vocabularySize: 5, contextLength: 4, layers: 1, heads: 1, width: 4, tied: false },
      { seed: 1 },
    );
    const { has, isTransposed } = hiddenMatrices(model);
    const names = [...model.namedParameters()].filter(([name, tensor]) => has(name, tensor)).map(([name]) => name);
    expect(names).toEqual(["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"].map((name) => `h.0.${name}.weight`));
    expect(isTransposed(model.h[0]!.mlp.c_fc.weight)).toBe(true);
    using optimizer = new Muon(model);
    const states = Object.keys(optimizer.stateDict());
    expect(states).toContain("m.h.0.mlp.c_fc.weight");
    expect(states).not.toContain("v.h.0.mlp.c_fc.weight");
    expect(states).toContain("v.wte.weight");
    expectError(() => new Muon(model, { dtype: "f16" as never }), "ERR_ARGUMENT", /dtype to be f32 or bf16/);
    expectError(() => new Muon(model, { adamw: { lrScale: -1 } }), "ERR_RANGE", /adamw.lrScale/);
  });

  test("Muon in bf16 takes nearly the same step", async () => {
    const gradient = Array.from({ length: 12 }, () => random.normal());
    const stepped = async (dtype: "f32" | "bf16"): Promise<Float32Array> => {
      const [[name, w]] = parameters() as [[string, FloatTensor]];
      using optimizer = new Muon([[name, w]], { dtype, lr: 1 });
      w.grad = tensor(gradient, [3, 4]);
      optimizer.step();
      return await w.data();
    };
    const [exact, rounded] = [await stepped("f32"), await stepped("bf16")];
    // Five iterations of products with 8 bits.
    exact.forEach((x, i) => expect(Math.abs(x - rounded[i]!)).toBeLessThan(0.05));
    expect(rounded).not.toEqual(exact);
  });
});
