/** Scores of known tokens by the engine: those of a slow computation, alone and in any batch. */
import { describe, expect, test } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { infer } from "../../lib/generate/causal-model.js";
import type { GPT } from "../../lib/models/gpt.js";
import { logSoftmax } from "../support/functions.js";
import { devices, smallGpt, someTokens } from "../generate/models.js";
import { Random } from "../support/random.js";
import { begun, engineFor } from "./support.js";

/** Returns the log-probability of each token from `first` on in float64, and whether each is the likeliest. */
async function slowly(model: GPT, tokens: number[], first: number): Promise<{ values: number[]; greedy: boolean }> {
  const logits = infer(model, () =>
    model.forward(tensor(Int32Array.from(tokens.slice(0, -1)), [1, tokens.length - 1], { device: model.device })),
  );
  const rows = await logits.data();
  logits.dispose();
  const { vocabularySize } = model.config;
  let greedy = true;
  const values = tokens.slice(first).map((token, i) => {
    const row = rows.subarray((first + i - 1) * vocabularySize, (first + i) * vocabularySize);
    greedy &&= row.indexOf(Math.max(...row)) === token;
    return logSoftmax(row)[token]!;
  });
  return { values, greedy };
}

describe.for(devices)("Engine.score on %s", (device) => {
  test("gives the model's log-probabilities, the same in every batch", async () => {
    using model = smallGpt(device, { contextLength: 40 });
    const random = new Random(3);
    const shared = someTokens(17, 1);
    const requests = Array.from({ length: device === "cpu" ? 20 : 4 }, (_, i) => {
      const own = someTokens(random.integer(20) + 2, i);
      const tokens = random.integer(2) ? [...shared, ...own] : own;
      return { tokens, first: i < 2 ? tokens.length - 1 : random.integer(tokens.length - 1) + 1 };
    });
    // A whole context, and the token after it.
    requests.push({ tokens: someTokens(41, 99), first: 1 });
    const alone = engineFor(model, { pageSize: 4 });
    const expected = [];
    for (const request of requests) expected.push(await alone.score(request));
    // Few and small pages: texts come in pieces, share their beginnings, and lose their pages to others.
    const kvMemory = 2 * model.config.layers * model.config.kvHeads * model.headSize * 4 * 11 * 4;
    const engine = engineFor(model, { pageSize: 4, kvMemory, maxBatchTokens: 11, maxSequences: 6 });
    const options = { tokens: [1, 2, 3], maxTokens: device === "cpu" ? 35 : 6, seed: 1 };
    // It begins first, so that the others give it their pages.
    const beside = await begun(engine.generate(options));
    const given = await Promise.all(requests.map((request) => engine.score(request)));
    for (const [i, { tokens, first }] of requests.entries()) {
      const { logProbabilities, total, greedy } = expected[i]!;
      const slow = await slowly(model, tokens, first);
      expect(greedy).toBe(slow.greedy);
      // Logits of up to 5 have an error of up to 64 u (see cache.test.ts).
      for (const [t, value] of slow.values.entries())
        expect(Math.abs(logProbabilities[t]! - value), `text ${i}, token ${first + t}`).toBeLessThan(64 * 5 * 2 ** -24);
      expect(total).toBeCloseTo(
        slow.values.reduce((sum, value) => sum + value, 0),
        3,
      );
      expect(given[i], `text ${i}`).toEqual(expected[i]);
    }
    const { tokens } = await beside.result;
    const { running, waiting, pagesUsed, cachedTokens, preemptions } = engine.metrics;
    expect({ running, waiting, pagesUsed }).toEqual({ running: 0, waiting: 0, pagesUsed: 0 });
    if (device === "cpu") expect(Math.min(cachedTokens, preemptions)).toBeGreaterThan(0);
    expect(tokens).toEqual((await alone.generate(options)).tokens);
  });
});

describe("Engine.score", () => {
  test("knows the tokens that the model would generate", async () => {
    using model = smallGpt("cpu", { contextLength: 40 });
    const engine = engineFor(model);
    const { tokens } = await engine.generate({ tokens: [5, 6], maxTokens: 9, temperature: 0 });
    const whole = [5, 6, ...tokens];
    expect((await engine.score({ tokens: whole, first: 2 })).greedy).toBe(true);
    whole[4] = (whole[4]! + 1) % 61;
    expect((await engine.score({ tokens: whole, first: 2 })).greedy).toBe(false);
  });

  test("begins again when the weights change", async () => {
    using model = smallGpt("cpu", { contextLength: 40 });
    const engine = engineFor(model, { maxBatchTokens: 8 });
    const tokens = someTokens(40, 1);
    const { weight } = model.wte;
    const larger = Float32Array.from(await weight.data(), (x: number) => 1.1 * x);
    const states = model.states.bind(model);
    let steps = 0;
    model.states = (...args) => {
      if (++steps === 3) weight.set(larger);
      return states(...args);
    };
    const after = await engine.score({ tokens });
    expect(after).toEqual(await engine.score({ tokens }));
  });

  test("refuses what it cannot score", async () => {
    using model = smallGpt("cpu");
    const engine = engineFor(model);
    const refused = (request: unknown): Promise<{ code: string; message: string }> =>
      engine.score(request as never).then(
        () => expect.fail("expected a rejection"),
        (error: unknown) => error as { code: string; message: string },
      );
    expect(await refused({ tokens: [1] })).toMatchObject({
      code: "ERR_ARGUMENT",
      message: "score: expected at least two tokens, got 1",
    });
    expect(await refused({ tokens: someTokens(26, 1) })).toMatchObject({
      code: "ERR_RANGE",
      message: "score: expected at most 25 tokens, one more than the context, got 26",
    });
    for (const first of [0, 2, 1.5])
      expect(await refused({ tokens: [1, 2], first })).toMatchObject({ code: "ERR_RANGE" });
    expect(await refused({ tokens: [1, 61] })).toMatchObject({ code: "ERR_RANGE" });
    expect(await refused({ tokens: "text" })).toMatchObject({ code: "ERR_ARGUMENT" });
    expect(await refused(null)).toMatchObject({ code: "ERR_ARGUMENT" });
    const reason = new Error("gone");
    expect(await refused({ tokens: [1, 2], signal: AbortSignal.abort(reason) })).toBe(reason);
    const controller = new AbortController();
    const running = refused({ tokens: someTokens(20, 1), signal: controller.signal });
    controller.abort(reason);
    expect(await running).toBe(reason);
    model.wte.weight.set(new Float32Array(model.wte.weight.size).fill(NaN));
    expect(await refused({ tokens: [1, 2] })).toMatchObject({
      code: "ERR_DIVERGED",
      message: expect.stringContaining("tokens[1]"),
    });
    await engine.close();
    expect(await refused({ tokens: [1, 2] })).toMatchObject({ code: "ERR_BUSY" });
  });
});
