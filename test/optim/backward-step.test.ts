import { afterEach, describe, expect, test } from "vitest";
import { detach, parameter } from "../../lib/core/autograd.js";
import { withFinalGradients } from "../../lib/core/final-gradients.js";
import { randn, tensor, zeros } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { gradientCheckpoint } from "../../lib/core/gradient-checkpoint.js";
import { GPT } from "../../lib/models/gpt.js";
import { freeze } from "../../lib/nn/freeze.js";
import { add, mul } from "../../lib/ops/binary.js";
import { embedding } from "../../lib/ops/embedding.js";
import { linear } from "../../lib/ops/linear.js";
import { mean } from "../../lib/ops/reduce.js";
import { square } from "../../lib/ops/unary.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { Lion } from "../../lib/optim/lion.js";
import { Muon } from "../../lib/optim/muon.js";
import type { Optimizer } from "../../lib/optim/optimizer.js";
import { SGD } from "../../lib/optim/sgd.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor, Tensor } from "../../lib/core/tensor.js";
import { expectError } from "../support/errors.js";
import { onEachDevice } from "../support/targets.js";

type Named = [string, FloatTensor][];

const optimizers = {
  adamw: (of: Named) => new AdamW(of, { lr: 0.01, weightDecay: 0.1 }),
  sgd: (of: Named) => new SGD(of, { lr: 0.01, momentum: 0.9 }),
  lion: (of: Named) => new Lion(of, { lr: 0.01 }),
  muon: (of: Named) => new Muon(of, { lr: 0.01 }),
};

/** Computes the same update by the three calls that `backwardStep` stands for. */
function apart(optimizer: Optimizer, loss: FloatTensor, scale = 1): void {
  loss.backward(scale);
  optimizer.step();
  optimizer.zeroGrad();
}
function together(optimizer: Optimizer, loss: FloatTensor, scale = 1): void {
  optimizer.backwardStep(loss, { scale });
}

onEachDevice((device) => {
  const ids = [1, 2, 3, 4, 0, 2];
  const config = { vocabularySize: 5, contextLength: 3, layers: 2, heads: 2, width: 8 };

  /** Returns parameters and losses of some steps of a model that `prepare` changes first. */
  async function trained(
    step: typeof apart,
    create: (of: Named) => Optimizer,
    prepare: (model: GPT) => void = () => undefined,
    microBatches = 1,
  ): Promise<Record<string, Float32Array | number[]>> {
    using model = new GPT(config, { seed: 1 });
    prepare(model);
    const named = [...model.namedParameters()];
    using optimizer = create(named);
    using input = tensor(ids, [2, 3], { dtype: "i32" });
    const losses: number[] = [];
    for (let i = 0; i < 3; i++) {
      using loss = scope(() => {
        for (let micro = 1; micro < microBatches; micro++) model.loss(input, input).backward(1 / microBatches);
        const loss = model.loss(input, input);
        step(optimizer, loss, 1 / microBatches);
        return loss;
      });
      expect(named.every(([, { grad }]) => grad === null)).toBe(true);
      losses.push(await loss.item());
    }
    const values = await Promise.all(named.map(async ([name, p]) => [name, await p.data()] as const));
    return { losses, steps: Object.values(optimizer.steps), ...Object.fromEntries(values) };
  }

  describe.each(Object.entries(optimizers))("%s", (_, create) => {
    test.each(["f32", "bf16"] as const)("has the bits of backward(), step() and zeroGrad() in %s", async (dtype) => {
      const prepare = (model: GPT): void => void (model.dtype = dtype);
      expect(await trained(together, create, prepare)).toEqual(await trained(apart, create, prepare));
    });
  });

  const { adamw } = optimizers;
  const kinds: Record<string, [(model: GPT) => void, number?]> = {
    "several micro-batches": [() => undefined, 3],
    "checkpointed blocks": [(model) => void (model.gradientCheckpointing = true)],
    "frozen layers": [(model) => freeze(model, ["wte", "h.1.mlp"])],
  };
  test.for(Object.entries(kinds))("has the same bits with %s", async ([, [prepare, microBatches]]) => {
    expect(await trained(together, adamw, prepare, microBatches)).toEqual(
      await trained(apart, adamw, prepare, microBatches),
    );
  });

  describe("with losses of its own", () => {
    const kept: FloatTensor[] = [];
    const leaf = (seed: number): FloatTensor => {
      const made = parameter(randn([3, 3], { seed }));
      kept.push(made);
      return made;
    };
    afterEach(() => {
      for (const tensor of kept.splice(0)) tensor.dispose();
    });

    /** Returns the parameters after a step with the loss of `of`. */
    async function after(step: typeof apart, of: (a: FloatTensor, b: FloatTensor) => FloatTensor): Promise<unknown> {
      const [a, b] = [leaf(1), leaf(2)];
      using optimizer = new SGD(
        [
          ["a", a],
          ["b", b],
        ],
        { lr: 0.5 },
      );
      scope(() => step(optimizer, of(a, b)));
      return await Promise.all([a.data(), b.data()]);
    }

    const losses: Record<string, (a: FloatTensor, b: FloatTensor) => FloatTensor> = {
      // The gradient of a is complete first, and that of b needs the old numbers of a.
      "numbers that an earlier operation reads through detach()": (a, b) => {
        const product = mul(b, detach(a));
        return mean(square(add(mul(product, product), a)));
      },
      "a parameter that is used again and again": (a, b) => mean(square(linear(linear(linear(a, b), a), b))),
      "a checkpoint beside other uses": (a, b) =>
        mean(
          square(
            add(
              gradientCheckpoint((x) => linear(x, a), [b]),
              mul(a, b),
            ),
          ),
        ),
    };
    test.for(Object.entries(losses))("has the same bits with %s", async ([, of]) => {
      expect(await after(together, of)).toEqual(await after(apart, of));
    });

    // The optimiser updates small parameters together, later than it could.
    test.for(Object.entries(losses))("a leaf may be overwritten once it is final, with %s", async ([, of]) => {
      const gradients = async (listener: (leaf: Tensor) => void): Promise<unknown> => {
        const leaves = [leaf(1), leaf(2)] as const;
        scope(() => {
          const loss = of(...leaves);
          withFinalGradients(listener, () => loss.backward());
        });
        return Promise.all(leaves.map(({ grad }) => grad!.data()));
      };
      const final: Tensor[] = [];
      const expected = await gradients(() => undefined);
      const got = await gradients((leaf) => {
        final.push(leaf);
        leaf.set(new Float32Array(9).fill(NaN));
      });
      expect(got).toEqual(expected);
      expect(final.map((leaf) => kept.indexOf(leaf as FloatTensor)).toSorted()).toEqual([2, 3]);
    });

    test("updates what earlier passes left a gradient for, and only what is trained", async () => {
      const [a, b, c] = [leaf(1), leaf(2), leaf(3)];
      const before = await c.data();
      const of: Named = [
        ["a", a],
        ["b", b],
        ["c", c],
      ];
      using optimizer = new SGD(of, { lr: 0.5 });
      scope(() => mean(square(a)).backward());
      scope(() => optimizer.backwardStep(mean(square(b))));
      expect(optimizer.steps).toEqual({ a: 1, b: 1, c: 0 });
      expect(await c.data()).toEqual(before);
      expect([a.grad, b.grad]).toEqual([null, null]);
      // A loss that nothing is trained by, and graphs that are used up, change nothing.
      expectError(
        () => scope(() => optimizer.backwardStep(mean(square(leaf(4))))),
        "ERR_AUTOGRAD",
        /SGD\.backwardStep: expected a loss that depends on a parameter/,
      );
      using loss = scope(() => mean(square(c)));
      optimizer.backwardStep(loss);
      expectError(() => optimizer.backwardStep(loss), "ERR_AUTOGRAD", /no earlier backward\(\) has freed/);
      expect(optimizer.steps).toEqual({ a: 1, b: 1, c: 1 });
    });

    test("a parameter that was overwritten since the forward pass changes nothing", async () => {
      const [a, b] = [leaf(1), leaf(2)];
      const of: Named = [
        ["a", a],
        ["b", b],
      ];
      using optimizer = new SGD(of, { lr: 0.5 });
      using loss = scope(() => mean(square(mul(a, b))));
      b.set(new Float32Array(9));
      const before = await a.data();
      expectError(() => optimizer.backwardStep(loss), "ERR_AUTOGRAD", /has been overwritten/);
      expect(await a.data()).toEqual(before);
      expect(optimizer.steps).toEqual({ a: 0, b: 0 });
    });

    test("refuses what needs all gradients at once, and bad arguments", () => {
      const a = leaf(1);
      const of: Named = [["a", a]];
      using loss = scope(() => mean(square(a)));
      using clipping = new AdamW(of, { maxNorm: 1 });
      expectError(() => clipping.backwardStep(loss), "ERR_ARGUMENT", /AdamW\.backwardStep: .* without maxNorm/);
      using divided = new AdamW(of, { shard: { rank: 0, size: 2 } });
      expectError(() => divided.backwardStep(loss), "ERR_ARGUMENT", /AdamW\.backwardStep: .* without shard/);
      using optimizer = new AdamW(of);
      expectError(() => optimizer.backwardStep(1 as never), "ERR_ARGUMENT", /backwardStep: expected loss/);
      expectError(() => optimizer.backwardStep(loss, { scale: NaN }), "ERR_RANGE", /scale/);
      optimizer.lr = -1;
      expectError(() => optimizer.backwardStep(loss), "ERR_RANGE", /lr/);
      expect(a.grad).toBeNull();
    });
  });

  test("gradients of different layers do not exist at the same time", async () => {
    // A gradient is as large as what is updated together, and activations are small beside it.
    const [rows, width, tables] = [2 ** 17, 16, 4];
    const weights = Array.from({ length: tables }, () => parameter(zeros([rows, width])));
    using optimizer = new SGD(weights.map((weight, i) => [`${i}`, weight]));
    using tokens = tensor(ids, [6], { dtype: "i32" });
    const most = (step: typeof apart): number => {
      const { live } = deviceOf().memory();
      deviceOf().resetPeak();
      scope(() => {
        const losses = weights.map((weight) => mean(square(embedding(tokens, weight))));
        step(
          optimizer,
          losses.reduce((sum, loss) => add(sum, loss)),
        );
      });
      return (deviceOf().memory().peak - live) / (4 * rows * width);
    };
    expect(most(apart)).toBeGreaterThanOrEqual(tables);
    expect(most(together)).toBeLessThan(1.1);
    await deviceOf().synchronize();
    for (const weight of weights) weight.dispose();
  });

  test("a step in 16 bits keeps rounded copies of its weights on CUDA, and none on the CPU", async () => {
    const weight = parameter(randn([64, 512], { seed: 1 }));
    using x = randn([2, 64], { seed: 2, dtype: "bf16" });
    const { live } = deviceOf().memory();
    using y = linear(x, weight, { layout: "io" });
    const bytes = deviceOf().memory().live - live;
    expect(bytes - 2 * y.size).toBe(device === "cpu" ? 0 : 2 * weight.size);
    await deviceOf().synchronize();
    weight.dispose();
  });
});
