/** The number of steps in epochs, in whole numbers. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { stepsOfEpochs } from "../../lib/train/epoch-steps.js";
import { mean } from "../../lib/ops/reduce.js";
import { TaskTrainer } from "../../lib/train/task-trainer.js";
import { tokenData } from "../../lib/data/token-data.js";
import { Trainer } from "../../lib/train/trainer.js";
import { tinyModel } from "./support.js";

const least = 2 ** 20;
/** Returns the smallest number of steps that read so many thousandths of an epoch. */
function exact(thousandths: number, items: number, perStep: number): number {
  const [read, step] = [BigInt(thousandths) * BigInt(items), BigInt(perStep)];
  const sequences = (read + 999n) / 1000n;
  return Math.max(1, Number((sequences + step - 1n) / step));
}

test("are the fewest that read all sequences of the epochs, for any sizes", () => {
  const sizes = [fc.integer({ min: 1, max: least }), fc.integer({ min: 1, max: 500 })] as const;
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1000 }), ...sizes, (epochs, items, perStep) => {
      expect(stepsOfEpochs(epochs, items, perStep)).toBe(exact(1000 * epochs, items, perStep));
    }),
    { numRuns: 2000 },
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20_000 }), ...sizes, (thousandths, items, perStep) => {
      expect(stepsOfEpochs(thousandths / 1000, items, perStep)).toBe(exact(thousandths, items, perStep));
    }),
    { numRuns: 2000 },
  );
  // Fractions that no decimal number is.
  for (const [part, whole] of [1, 2, 4, 5, 7].map((part) => [part, 3] as const))
    for (let items = whole; items < 300; items += whole)
      expect(stepsOfEpochs(part / whole, items, 1)).toBe((part * items) / whole);
});

test("5 epochs of 21 sequences at 5 × 3 are 7 steps", async () => {
  using model = tinyModel();
  const data = tokenData(new Uint8Array(21 * 8 + 1));
  using trainer = new Trainer({ model, data, batchSize: 5, gradientAccumulation: 3, epochs: 5 });
  const { step } = await trainer.train();
  expect(step).toBe(7);
});

test("batches that the caller makes count each", async () => {
  using model = tinyModel();
  const task = (): ReturnType<typeof mean> => mean(model.wte.weight);
  const data = Array.from({ length: 49 }, (_, i) => i);
  using trainer = new TaskTrainer({ model, task, data, gradientAccumulation: 49, epochs: 3 });
  expect((await trainer.train()).step).toBe(3);
});
