import { describe, expect, test } from "vitest";
import { PromptBudget } from "../../lib/engine/prompt-budget.js";
import { devices, smallGpt, someTokens } from "../generate/models.js";
import { engineFor } from "./support.js";

test("a step has as many tokens as fit into the time, by the steps before", () => {
  const budget = new PromptBudget(250);
  expect(budget.beside(4)).toBe(128);
  budget.add(500, 1000); // 2 ms a token
  expect(budget.beside(4)).toBe(125);
  budget.add(31, 31_000); // too short to say anything
  expect(budget.beside(4)).toBe(125);
  for (let i = 0; i < 50; i++) budget.add(100, 100); // the machine has become twice as fast
  expect(budget.beside(4)).toBe(249);
  for (let i = 0; i < 50; i++) budget.add(100, 100_000);
  expect(budget.beside(4)).toBe(4 + 32);
});

test("a step without requests that generate, or with any time, has as many tokens as there are", () => {
  const budget = new PromptBudget(1);
  budget.add(100, 100_000);
  expect(budget.beside(0)).toBe(Infinity);
  expect(new PromptBudget(Infinity).beside(9)).toBe(Infinity);
});

describe.for(devices)("maxStepTime on %s", (device) => {
  test("a prompt beside a request that generates is read in small pieces if time is short, with the same tokens", async () => {
    using model = smallGpt(device, { contextLength: 512 });
    const run = async (maxStepTime: number): Promise<{ steps: number; tokens: number[] }> => {
      const engine = engineFor(model, { maxStepTime });
      const running = engine.generate({ tokens: [1], maxTokens: 100, seed: 1 });
      const events = running[Symbol.asyncIterator]();
      await events.next();
      const before = engine.metrics.steps;
      const { tokens } = await engine.generate({ tokens: someTokens(400, 2), maxTokens: 1, seed: 2 });
      const { steps } = engine.metrics;
      await events.return();
      return { steps: steps - before, tokens };
    };
    const [short, any] = [await run(0), await run(Infinity)];
    expect(short.tokens).toEqual(any.tokens);
    // The first piece has 127 tokens, since nothing is known about the time yet; the others have 32.
    expect(short.steps).toBeGreaterThanOrEqual(1 + Math.ceil((400 - 127) / 32));
    expect(any.steps).toBeLessThan(8);
  });
});
