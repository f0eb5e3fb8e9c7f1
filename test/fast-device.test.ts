/**
 * A device may be faster than the host, as with a small model: what a step has computed is then always there when the
 * host asks for it. The event loop has to turn nonetheless, so that a server reads requests and timers run.
 */
import { test } from "vitest";
import { Engine } from "../lib/engine/engine.js";
import { generateTokens } from "../lib/generate/generate-tokens.js";
import { tokenData } from "../lib/data/token-data.js";
import { Trainer } from "../lib/train/trainer.js";
import { smallGpt } from "./generate/models.js";
import { expectNoPause } from "./support/pauses.js";
import { busy } from "./support/turns.js";

/** Works as a slow host would in each step. */
const slowly = (): void => busy(2);

/** Without a pause, they take 400 ms. */
const steps = 200;

test("tokens of a model", async () => {
  using model = smallGpt("cpu", { contextLength: steps });
  const options = { maxTokens: steps - 1, seed: 1, onToken: slowly };
  await expectNoPause(() => generateTokens(model, [[1]], options));
});

test.for([steps - 1, 3])("tokens of an engine, %i of each request", async (maxTokens) => {
  using model = smallGpt("cpu", { contextLength: steps });
  await using engine = new Engine(model);
  const read = async (): Promise<void> => {
    for (let generated = 0; generated < steps - 1; generated += maxTokens)
      for await (const _ of engine.generate({ tokens: [1], maxTokens, seed: 1 })) slowly();
  };
  await expectNoPause(read);
});

test("steps of a training run", async () => {
  using model = smallGpt("cpu");
  const data = tokenData(Uint16Array.from({ length: 99 }, (_, i) => i % 61));
  await expectNoPause(async () => {
    using trainer = new Trainer({ model, data, steps, batchSize: 1 });
    await trainer.train({ onStep: slowly });
  });
});
