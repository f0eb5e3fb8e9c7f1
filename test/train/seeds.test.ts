import { describe, expect, test } from "vitest";
import { DropoutSeeds } from "../../lib/nn/dropout.js";
import { tinyModel } from "./support.js";

// The largest possible seeds, and one like the result of Date.now().
describe.for([0, 1, 2 ** 20 - 1, 1_790_000_000_001, Number.MAX_SAFE_INTEGER])("seed %d", (seed) => {
  test("every use of dropout has a seed of its own, the same one whenever its step is run", () => {
    const draw = (): number[] => {
      const seeds = new DropoutSeeds(seed);
      return Array.from({ length: 100 }, (_, step) => {
        seeds.step = step;
        return Array.from({ length: 10 }, () => seeds.next());
      }).flat();
    };
    expect(new Set(draw()).size).toBe(1000);
    expect(draw()).toEqual(draw());
    for (const value of draw()) expect(Number.isSafeInteger(value) && value >= 0).toBe(true);
  });

  test("no two layers start with the same weights", async () => {
    using model = tinyModel({ seed });
    const [a, b] = await Promise.all(model.h.map((block) => block.attn.c_attn.weight.data()));
    expect(a!.some((x, i) => x !== b![i])).toBe(true);
  });
});
