/** Compares the gradients of all activations with slopes of the passes that hooks.test.ts compares with PyTorch. */
import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import {
  type GradientOptions,
  hookNames,
  type HooksOf,
  type InspectedModel,
  run,
  runWithGradients,
} from "../../lib/inspect/index.js";
import { add, mul } from "../../lib/ops/binary.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";
import { onEachFamily } from "./models.js";

const lengthOf = (values: ArrayLike<number>): number => Math.hypot(...Array.from(values));
/** Returns the root mean square of the finite numbers; scores of hidden keys are not. */
function sizeOf(values: ArrayLike<number>): number {
  const finite = Array.from(values).filter(Number.isFinite);
  return Math.sqrt(finite.reduce((total, x) => total + x * x, 0) / finite.length);
}

onEachDevice((device) => {
  onEachFamily(device, (subject) => {
    test("the gradient of a metric by every activation is its slope", async () => {
      const { model, input, options, logits } = subject();
      const random = new Random(11);
      const factors = Float32Array.from({ length: logits.shape.reduce((a, b) => a * b) }, () => random.normal());
      const metric = (out: FloatTensor): FloatTensor => sum(mul(out, tensor(factors, out.shape, { device })));
      // The software device is slow: it computes a few of them.
      const names = hookNames(model).filter((_, i) => device === "cpu" || i % 17 === 5);
      const wanted = { ...options, names } as unknown as GradientOptions<InspectedModel>;
      using found = runWithGradients(model, input, metric, wanted);
      expect([...found.gradients.names].sort()).toEqual([...names].sort());

      for (const name of names) {
        const value = found.values.get(name);
        const gradient = await found.gradients.get(name).data();
        const steepness = lengthOf(gradient);
        expect(steepness, name).toBeGreaterThan(0);
        // A direction between the gradient's and a random one, along which the slope is not small.
        const noise = Float32Array.from(gradient, () => random.normal());
        const chance = lengthOf(noise);
        const mixed = Array.from(gradient, (g, i) => g / steepness + noise[i]! / chance);
        const direction = Float32Array.from(mixed, (x) => x / lengthOf(mixed));
        /** Resolves to the metric, added up in f64, after a step in the direction. */
        const after = async (step: number): Promise<number> => {
          const moved = direction.map((x) => step * x);
          const hooks = {
            [name]: (x: FloatTensor) => add(x, tensor(moved, x.shape, { device })),
          } as HooksOf<InspectedModel>;
          using out = noGrad(() => scope(() => run<InspectedModel>(model, input, { ...options, hooks })));
          return (await out.data()).reduce((total, x, i) => total + x * factors[i]!, 0);
        };
        const central = async (step: number): Promise<number> =>
          ((await after(step)) - (await after(-step))) / (2 * step);
        const step = 0.05 * Math.max(0.05, sizeOf(await value.data()));
        // Two steps remove the error of the third derivative (Richardson).
        const slope = (4 * (await central(step / 2)) - (await central(step))) / 3;
        const expected = gradient.reduce((total, g, i) => total + g * direction[i]!, 0);
        expect(Math.abs(slope - expected), name).toBeLessThan(5e-3 * steepness);
      }
    });
  });
});
