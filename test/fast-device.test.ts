/**
 * A device may be faster than the host, as with a small model: what a step has computed is then always there when the
 * host asks for it. The event loop has to turn nonetheless, so that a server reads requests and timers run.
 */
import { expect, test } from "vitest";
import { Engine } from "../lib/engine/engine.js";
import { generateTokens } from "../lib/generate/generate-tokens.js";
import { tokenData } from "../lib/train/token-data.js";
import { Trainer } from "../lib/train/trainer.js";
import { smallGpt } from "./generate/models.js";

/** Works for 2 ms, as a slow host would in each step. */
function slowly(): void {
  for (const end = performance.now() + 2; performance.now() < end;);
}

/** Returns how often the event loop turns while `work` runs. */
async function turns(work: () => Promise<unknown>): Promise<number> {
  let [count, running] = [0, true];
  const turn = (): void => {
    count++;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  running = false;
  return count;
}

const steps = 200;
/** The steps take 400 ms, and a turn of the event loop about 10 ms of them. */
const least = 20;

test("tokens of a model", async () => {
  using model = smallGpt("cpu", { contextLength: steps });
  const options = { maxTokens: steps - 1, seed: 1, onToken: slowly };
  expect(await turns(() => generateTokens(model, [[1]], options))).toBeGreaterThan(least);
});

test.for([steps - 1, 3])("tokens of an engine, %i of each request", async (maxTokens) => {
  using model = smallGpt("cpu", { contextLength: steps });
  await using engine = new Engine(model);
  const read = async (): Promise<void> => {
    for (let generated = 0; generated < steps - 1; generated += maxTokens)
      for await (const _ of engine.generate({ tokens: [1], maxTokens, seed: 1 })) slowly();
  };
  expect(await turns(read)).toBeGreaterThan(least);
});

test("steps of a training run", async () => {
  using model = smallGpt("cpu");
  const data = tokenData(Uint16Array.from({ length: 99 }, (_, i) => i % 61));
  using trainer = new Trainer({ model, data, steps, batchSize: 1 });
  expect(await turns(() => trainer.train({ onStep: slowly }))).toBeGreaterThan(least);
});
