import { describe, expect, test } from "vitest";
import { infer } from "../../lib/generate/causal-model.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { score } from "../../lib/generate/score.js";
import type { GPT } from "../../lib/models/gpt.js";
import { tensor } from "../../lib/core/creation.js";
import { logSoftmax } from "../support/functions.js";
import { circle, devices, RoteModel, smallGpt, someTokens } from "./models.js";

/** Returns the log softmax, in float64, of one token from the last logits after a context. */
async function logProbability(model: GPT, context: number[], token: number): Promise<number> {
  const logits = infer(model, () => {
    const ids = tensor(Int32Array.from(context), [1, context.length], { device: model.device });
    return model.forward(ids, { lastOnly: true });
  });
  const row = logSoftmax(await logits.data());
  logits.dispose();
  return row[token]!;
}

describe.for(devices)("score on %s", (device) => {
  // Lengths below, at and beyond the context of 24, whose later half is kept when it is full.
  test.for([2, 9, 24, 25, 26, 37, 38, 80])("%i tokens give the model's log-probabilities", async (length) => {
    using model = smallGpt(device);
    const tokens = someTokens(length, length);
    const { live, tensors } = model.device.memory();
    const { logProbabilities, total, perplexity } = await score(model, tokens);
    expect(model.device.memory()).toMatchObject({ live, tensors });
    expect(logProbabilities.length).toBe(length - 1);
    let start = 0;
    let sum = 0;
    for (let i = 1; i < length; i++) {
      if (i - start > 24) start = i - 12;
      const expected = await logProbability(model, tokens.slice(start, i), tokens[i]!);
      // Logits of up to 5 have an error of up to 64 u (see cache.test.ts).
      expect(Math.abs(logProbabilities[i - 1]! - expected), `token ${i}`).toBeLessThan(64 * 5 * 2 ** -24);
      sum += expected;
    }
    expect(total).toBeCloseTo(sum, 3);
    expect(perplexity).toBeCloseTo(Math.exp(-sum / (length - 1)), 3);
    expect(model.training).toBe(true);
  });

  test("agrees with the loss, in a context longer than one computation", async () => {
    using model = smallGpt(device, { contextLength: 300 }).eval();
    const tokens = Int32Array.from(someTokens(301, 1));
    using ids = tensor(tokens.subarray(0, 300), [1, 300], { device });
    using targets = tensor(tokens.subarray(1), [1, 300], { device });
    using loss = infer(model, () => model.loss(ids, targets));
    const { total } = await score(model, tokens);
    expect(total / 300).toBeCloseTo(-(await loss.item()), 5);
  });

  test("scores generated tokens as generation does, beyond the context too", async () => {
    using model = smallGpt(device);
    const prompt = someTokens(3, 2);
    const [result] = await generateTokens(model, [prompt], { maxTokens: 60, temperature: 0 });
    const { logProbabilities } = await score(model, [...prompt, ...result!.tokens]);
    // If the contexts are the same, the likeliest of 61 tokens has a probability of more than 1/61.
    for (const value of logProbabilities.subarray(2)) expect(value).toBeGreaterThan(-Math.log(61));
  });

  test("a perplexity is a number of choices", async () => {
    using sure = new RoteModel(circle(8), device);
    expect(await score(sure, [0, 1, 2, 3, 4])).toMatchObject({ perplexity: 1 });
    using model = smallGpt(device, { vocabularySize: 50 });
    model.wte.weight.set(new Float32Array(model.wte.weight.size));
    expect((await score(model, someTokens(20, 1, 50))).perplexity).toBeCloseTo(50, 3);
  });

  test("refuses invalid input", async () => {
    using model = smallGpt(device);
    await expect(score(model, [1])).rejects.toMatchObject({
      code: "ERR_ARGUMENT",
      message: "score: expected at least two tokens, got 1",
    });
    await expect(score(model, [1, 61])).rejects.toMatchObject({
      code: "ERR_RANGE",
      message: "score: expected tokens[1] to be an integer from 0 to 60, got 61",
    });
    await expect(score(model, "text" as never)).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    await expect(score({} as never, [1, 2])).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    await expect(score(model, [1, 2], null as never)).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    await expect(score(model, [1, 2], { signal: 1 as never })).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
  });

  test("can be aborted", async () => {
    using model = smallGpt(device);
    const { live, tensors } = model.device.memory();
    const reason = new Error("gone");
    await expect(score(model, [1, 2], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const running = score(model, someTokens(1000, 1), { signal: controller.signal });
    setImmediate(() => controller.abort(reason));
    await expect(running).rejects.toBe(reason);
    expect(model.device.memory()).toMatchObject({ live, tensors });
  });
});
