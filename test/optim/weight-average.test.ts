import { expect, test } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { freeze } from "../../lib/nn/freeze.js";
import { WeightAverage } from "../../lib/optim/weight-average.js";
import { expectError, expectRejection } from "../support/errors.js";
import { onEachDevice } from "../support/targets.js";
import { tinyModel, values } from "../train/support.js";

onEachDevice(() => {
  test.each([
    { options: { decay: 0.9, warmup: false }, decay: () => 0.9 },
    { options: { decay: 0.999 }, decay: (t: number) => (1 + t) / (10 + t) },
    { options: { decay: 0.3 }, decay: (t: number) => Math.min(0.3, (1 + t) / (10 + t)) },
    { options: { decay: 0 }, decay: () => 0 },
  ])("an average with $options is that of its formula, and equal weights stay equal to the bit", async (given) => {
    using model = tinyModel();
    const bias = model.h[0]!.mlp.c_fc.bias!;
    using average = new WeightAverage(model, given.options);
    const { size } = bias;
    let expected = 0;
    for (let step = 1; step <= 5; step++) {
      bias.set(new Float32Array(size).fill(step));
      average.update();
      expected += (1 - given.decay(step)) * (step - expected);
    }
    expect(average.updates).toBe(5);
    const averages = await values(average);
    averages["h.0.mlp.c_fc.bias"]!.forEach((x) => expect(x).toBeCloseTo(expected, 6));
    const weights = await values(model);
    expect(averages["wte.weight"]).toEqual(weights["wte.weight"]);
    // A step that was skipped does not count.
    average.update({ norm: tensor([NaN], []) });
    average.uncount();
    expect(await values(average)).toEqual(averages);
    expect(average.updates).toBe(5);
  });

  test("the number of updates is loaded with the average; without it the decay is constant", async () => {
    using model = tinyModel();
    const bias = model.h[0]!.mlp.c_fc.bias!;
    bias.set(new Float32Array(bias.size).fill(1));
    for (const [updates, decay] of [
      [3, 5 / 14],
      [undefined, 0.75],
      [null, 0.75],
    ] as const) {
      using average = new WeightAverage(model, { decay: 0.75 });
      const zeros = Object.entries(average.stateDict()).map(
        ([name, { shape, size }]) => [name, { shape, values: new Float32Array(size) }] as const,
      );
      await average.load(Object.fromEntries(zeros), updates);
      expect(average.updates).toBe(updates ?? null);
      average.update();
      const [first] = (await values(average))["h.0.mlp.c_fc.bias"]!;
      expect(first).toBeCloseTo(1 - decay, 6);
      average.restart();
      expect([await values(average), average.updates]).toEqual([await values(model), 0]);
    }
  });

  test("the model has the averages while they are used, and its own weights afterwards, to the bit", async () => {
    using model = tinyModel();
    freeze(model, "wpe");
    using average = new WeightAverage(model, { decay: 0.5 });
    expect(Object.keys(average.stateDict())).not.toContain("wpe.weight");
    model.wte.weight.set(new Float32Array(model.wte.weight.size).fill(1 / 3));
    average.update();
    const [own, averaged] = [await values(model), await values(average)];
    await average.use(async () => {
      expect((await values(model))["wte.weight"]).toEqual(averaged["wte.weight"]);
      expectError(() => average.update(), "ERR_ARGUMENT", /await use\(\) first/);
      await expectRejection(
        average.use(() => 1),
        "ERR_ARGUMENT",
      );
    });
    expect(await values(model)).toEqual(own);
    expect(await values(average)).toEqual(averaged);
    await expect(average.use(() => Promise.reject(new Error("no")))).rejects.toThrow("no");
    expect(await values(model)).toEqual(own);
  });

  test("is loaded as it was saved; a state that does not fit changes nothing", async () => {
    using model = tinyModel();
    using average = new WeightAverage(model);
    const shapes = average.stateDict();
    const saved = Object.fromEntries(
      Object.entries(shapes).map(([name, { shape, size }]) => [
        name,
        { shape, values: new Float32Array(size).fill(0.25) },
      ]),
    );
    await average.load(saved);
    for (const numbers of Object.values(await values(average))) expect(numbers.every((x) => x === 0.25)).toBe(true);
    const { "wte.weight": gone, ...missing } = saved;
    await expectRejection(average.load(missing), "ERR_FORMAT", /expected wte.weight in the state/);
    await expectRejection(average.load({ ...saved, "wte.weight": { ...gone!, shape: [1] } }), "ERR_SHAPE");
    expectError(() => new WeightAverage(model, { decay: 1 }), "ERR_RANGE", /decay/);
    await expectRejection(average.load(saved, 0.5), "ERR_RANGE", /updates/);
    expectError(() => new WeightAverage(model, { warmup: 1 as never }), "ERR_ARGUMENT", /warmup/);
    expectError(() => new WeightAverage({} as never), "ERR_ARGUMENT", /expected a model/);
  });
});
