import { describe, expect, test } from "vitest";
import { detach, noGrad } from "../lib/core/autograd.js";
import { gradientCheckpoint } from "../lib/core/gradient-checkpoint.js";
import { device } from "../lib/core/device.js";
import { GPT } from "../lib/models/gpt.js";
import { Llama } from "../lib/models/llama.js";
import { add, mul } from "../lib/ops/binary.js";
import { dropout } from "../lib/ops/dropout.js";
import { layerNorm } from "../lib/ops/layer-norm.js";
import { linear } from "../lib/ops/linear.js";
import { sum } from "../lib/ops/reduce.js";
import { square, tanh } from "../lib/ops/unary.js";
import { scope } from "../lib/core/scope.js";
import { randn, tensor } from "../lib/core/creation.js";
import type { FloatTensor, Tensor } from "../lib/core/tensor.js";
import { expectError } from "./support/errors.js";
import { collectGarbage } from "./support/gc.js";
import { onEachDevice } from "./support/targets.js";

onEachDevice(() => {
  const live = (): number => device().memory().live;
  const leaf = (shape: number[], seed: number): FloatTensor => {
    const x: FloatTensor = randn(shape, { seed });
    x.requiresGrad = true;
    return x;
  };
  const gradients = async (leaves: readonly FloatTensor[]): Promise<(number[] | null)[]> =>
    await Promise.all(leaves.map(async ({ grad }) => grad && [...(await grad.data())]));

  describe("gradientCheckpoint", () => {
    const width = 24;
    const layer = (x: FloatTensor, w: FloatTensor, seed: number): FloatTensor =>
      add(x, dropout(linear(layerNorm(x), w, { activation: "gelu" }), 0.3, seed));

    test("a parameter must not be overwritten before the second run", async () => {
      using x = leaf([3, width], 1);
      using w = leaf([width, width], 2);
      for (const short of [false, true]) {
        using loss = scope(() => sum(gradientCheckpoint((x) => layer(short ? x.to("bf16") : x, w, 1), [x]).to("f32")));
        using other = detach(w);
        other.set(new Float32Array(width * width));
        expectError(
          () => loss.backward(),
          "ERR_AUTOGRAD",
          /expected the tensors that gradientCheckpoint saved .+ to be unchanged, .+ overwritten/,
        );
        expect(await gradients([x, w]), "nothing was added").toEqual([null, null]);
      }
    });

    test("gradients are the same to the bit, and the graph keeps only the inputs", async () => {
      await collectGarbage();
      const run = async (plain: boolean) => {
        const x = leaf([33, width], 1);
        const weights = [2, 3, 4].map((seed) => leaf([width, width], seed));
        const before = live();
        using loss = scope(() => {
          let h: FloatTensor = x;
          for (const [i, w] of weights.entries()) {
            const run = (h: FloatTensor): FloatTensor => scope(() => layer(layer(h, w, 2 * i), w, 2 * i + 1));
            h = plain ? run(h) : gradientCheckpoint(run, [h]);
          }
          return sum(square(h));
        });
        const kept = live() - before;
        loss.backward();
        const got = await gradients([x, ...weights]);
        for (const t of [x, ...weights]) t.dispose();
        return { kept, loss: await loss.item(), got };
      };
      const [plain, again] = [await run(true), await run(false)];
      expect(again.got).toEqual(plain.got);
      expect(again.loss).toBe(plain.loss);
      // The memory of the three outputs and the loss.
      expect(again.kept).toBe(3 * 33 * width * 4 + 4);
      expect(plain.kept).toBeGreaterThan(2 * again.kept);
    });

    test("several inputs, one of them used elsewhere too, one not wanted, one of integers and one absent", async () => {
      const [x, y] = [leaf([3, 4], 1), leaf([3, 4], 2)];
      using fixed = randn([3, 4], { seed: 3 });
      const f = (a: Tensor, b: Tensor, c: Tensor, scale: Tensor | null, absent: null): FloatTensor => {
        expect([scale?.dtype, absent]).toEqual(["i32", null]);
        return add(mul(tanh(a as FloatTensor), b as FloatTensor), mul(c as FloatTensor, scale!.to("f32")));
      };
      const run = async (by: typeof gradientCheckpoint): Promise<(number[] | null)[]> => {
        using loss = scope(() => {
          const scale = tensor(Int32Array.of(3), [1]);
          const h = mul(x, 2);
          return sum(mul(by(f, [h, y, fixed, scale, null]), h));
        });
        loss.backward();
        const got = await gradients([x, y, fixed]);
        x.zeroGrad();
        y.zeroGrad();
        return got;
      };
      const plain = await run(((fn: (...inputs: never[]) => FloatTensor, inputs: never[]) => fn(...inputs)) as never);
      expect(await run(gradientCheckpoint)).toEqual(plain);
      expect(plain[2]).toBeNull();
    });

    test("nested checkpoints, and only parameters that require gradients", async () => {
      using x = randn([5, width], { seed: 1 });
      const run = async (outer: boolean, inner: boolean): Promise<(number[] | null)[]> => {
        const [w, v] = [leaf([width, width], 2), leaf([width, width], 3)];
        const first = (x: FloatTensor): FloatTensor => tanh(linear(x, w));
        const all = (x: FloatTensor): FloatTensor => linear(inner ? gradientCheckpoint(first, [x]) : first(x), v);
        using loss = scope(() => sum(square(outer ? gradientCheckpoint(all, [x]) : all(x))));
        loss.backward();
        return await gradients([w, v]);
      };
      const plain = await run(false, false);
      for (const [outer, inner] of [
        [true, false],
        [false, true],
        [true, true],
      ] as const)
        expect(await run(outer, inner)).toEqual(plain);
    });

    test("records nothing if nothing requires a gradient, or recording is off", () => {
      using x = randn([3], { seed: 1 });
      using y = gradientCheckpoint((x: FloatTensor) => tanh(x), [x]);
      expect(y.requiresGrad).toBe(false);
      const z = leaf([3], 1);
      using out = noGrad(() => gradientCheckpoint((z: FloatTensor) => tanh(z), [z]));
      expect(out.requiresGrad).toBe(false);
      using detached = gradientCheckpoint((z: FloatTensor) => tanh(detach(z)), [z]);
      expect(detached.requiresGrad).toBe(false);
    });

    test("throws for functions that it cannot run again", () => {
      const x = leaf([3], 1);
      const make = (fn: unknown, inputs: unknown = [x]) => gradientCheckpoint(fn as () => FloatTensor, inputs as []);
      expectError(() => make(3), "ERR_ARGUMENT", /expected a function/);
      expectError(() => make(() => tanh(x), x), "ERR_ARGUMENT", /inputs/);
      expectError(() => make(() => tanh(x), [3]), "ERR_ARGUMENT", /tensors or null, got 3/);
      expectError(() => make((x: FloatTensor) => x), "ERR_ARGUMENT", /returns a new tensor/);
      expectError(() => make(() => 3), "ERR_ARGUMENT", /returns a new tensor, got 3/);
      expectError(() => make(async () => await Promise.resolve(tanh(x))), "ERR_ARGUMENT", /synchronous/);
      using h = tanh(x);
      expectError(
        () => make((x: FloatTensor) => add(x, h)),
        "ERR_AUTOGRAD",
        /gradientCheckpoint: .* only leaves and its inputs/,
      );
      let times = 0;
      using y = sum(make((x: FloatTensor) => (times++ ? sum(x) : tanh(x))));
      expectError(() => y.backward(), "ERR_SHAPE", /the same shape in the backward pass/);
    });
  });

  const sizes = { vocabularySize: 31, contextLength: 24, layers: 3, heads: 2, width: 16, dropout: 0.2 };
  const models = {
    GPT: () => new GPT({ ...sizes, positions: "learned" }, { seed: 1 }),
    "GPT of other parts": () =>
      new GPT({ ...sizes, positions: "rotary", normalization: "rms", gated: true, qkNorm: true }, { seed: 1 }),
    Llama: () => new Llama({ ...sizes, feedForwardWidth: 40, kvHeads: 1 }, { seed: 1 }),
  };
  for (const [name, create] of Object.entries(models))
    for (const dtype of ["f32", "bf16"] as const)
      test(`${name} in ${dtype}, with dropout and packed documents: the same loss and gradients to the bit`, async () => {
        const ids = tensor(
          Int32Array.from({ length: 48 }, (_, i) => (i * 7) % 31),
          [2, 24],
        );
        const run = async (gradientCheckpointing: boolean) => {
          using model = create();
          model.dtype = dtype;
          model.gradientCheckpointing = gradientCheckpointing;
          const losses: number[] = [];
          // A second pass continues with the seeds where the first ended, however often they were drawn.
          for (let pass = 0; pass < 2; pass++) {
            using loss = scope(() => {
              const loss = model.loss(ids, ids, { documents: [[10, 14], [24]] });
              loss.backward();
              return loss;
            });
            losses.push(await loss.item());
          }
          const parameters = [...model.namedParameters()];
          const got = await gradients(parameters.map(([, parameter]) => parameter));
          return { losses, gradients: Object.fromEntries(parameters.map(([name], i) => [name, got[i]])) };
        };
        expect(await run(true)).toEqual(await run(false));
        ids.dispose();
      });
});
