import { expect, test } from "vitest";
import { tensor } from "../../lib/creation.js";
import { freeze } from "../../lib/nn/freeze.js";
import { WeightAverage } from "../../lib/optim/weight-average.js";
import { expectError, expectRejection } from "../support/errors.js";
import { onEachDevice } from "../support/targets.js";
import { tinyModel, values } from "../train/support.js";

onEachDevice(() => {
  test("an average is that of its formula, and equal weights stay equal to the bit", async () => {
    using model = tinyModel();
    const bias = model.h[0]!.mlp.c_fc.bias!;
    using average = new WeightAverage(model, { decay: 0.9 });
    const { size } = bias;
    let expected = 0;
    for (let step = 1; step <= 5; step++) {
      bias.set(new Float32Array(size).fill(step));
      average.update();
      expected = 0.9 * expected + 0.1 * step;
    }
    const averages = await values(average);
    averages["h.0.mlp.c_fc.bias"]!.forEach((x) => expect(x).toBeCloseTo(expected, 6));
    const weights = await values(model);
    expect(averages["wte.weight"]).toEqual(weights["wte.weight"]);
    // A step that was skipped does not count.
    average.update({ norm: tensor([NaN], []) });
    expect(await values(average)).toEqual(averages);
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
    expectError(() => new WeightAverage({} as never), "ERR_ARGUMENT", /expected a model/);
  });
});
