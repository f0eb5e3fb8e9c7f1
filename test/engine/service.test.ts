/** Tests of deadlines, refusals, failures beside an engine, other models, and memory that grows. */
import { describe, expect, test, vi } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { BusyError } from "../../lib/engine/busy-error.js";
import type { EngineRequest } from "../../lib/engine/engine-request.js";
import type { RequestSummary } from "../../lib/engine/statistics.js";
import { HeedError } from "../../lib/util/errors.js";
import type { GenerationResult } from "../../lib/generate/generation.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { embedding } from "../../lib/ops/embedding.js";
import { smallGpt, someTokens } from "../generate/models.js";
import { KvPages } from "../../lib/nn/kv-pages.js";
import { begun, engineFor } from "./support.js";

describe("an engine's service", () => {
  test("a request whose deadline passes ends with what it has, and one that waits never begins", async () => {
    using model = smallGpt("cpu", { contextLength: 20_000 });
    const engine = engineFor(model, { maxSequences: 1 });
    const deadline = Date.now() + 100;
    const [late, waiting, other] = await Promise.all([
      engine.generate({ tokens: [1], maxTokens: 19_000, seed: 1, deadline }),
      engine.generate({ tokens: [2], maxTokens: 40, seed: 1, deadline }),
      engine.generate({ tokens: [3], maxTokens: 5, seed: 1 }),
    ]);
    expect(late.finishReason).toBe("deadline");
    expect(late.tokens.length).toBeGreaterThan(0);
    expect(late.tokens.length).toBeLessThan(19_000);
    expect(waiting).toMatchObject({ finishReason: "deadline", tokens: [] });
    expect(other.tokens).toHaveLength(5);
  });

  test("a refused request is told when to come again", async () => {
    using model = smallGpt("cpu", { contextLength: 48 });
    const summaries: RequestSummary[] = [];
    const engine = engineFor(model, {
      maxSequences: 1,
      maxQueue: 1,
      onFinish: (summary) => summaries.push(summary),
    });
    for (const seed of [1, 2]) await engine.generate({ tokens: [1, 2, 3], maxTokens: 5, seed });
    const results = await Promise.allSettled([1, 2, 3].map((seed) => engine.generate({ tokens: [seed], seed })));
    const [refused] = results.filter(({ status }) => status === "rejected") as PromiseRejectedResult[];
    expect(refused!.reason).toBeInstanceOf(BusyError);
    const { retryAfter } = refused!.reason as BusyError;
    expect(retryAfter).toBeGreaterThan(0);
    expect(retryAfter).toBeLessThan(60);
    expect(summaries[0]).toMatchObject({
      promptTokens: 3,
      completionTokens: 5,
      cachedTokens: 0,
      finishReason: "length",
    });
    const { queueTime, timeToFirstToken, duration } = summaries[0]!;
    expect(0 < queueTime! && queueTime! < timeToFirstToken! && timeToFirstToken! < duration).toBe(true);
    const { timeToFirstToken: first, timeBetweenTokens: between, tokensPerSecond } = engine.metrics;
    expect(first.count).toBeGreaterThan(1);
    expect(between.count).toBeGreaterThan(7);
    expect(between.p50).toBeLessThanOrEqual(between.max);
    expect(tokensPerSecond).toBeGreaterThan(0);
  });

  test("an operation that fails elsewhere on the device is not the engine's", async () => {
    using model = smallGpt("cpu", { contextLength: 48 });
    const engine = engineFor(model, { maxBatchTokens: 4 });
    const request = { tokens: someTokens(30, 1), maxTokens: 5, seed: 1 };
    const result = Promise.resolve(engine.generate(request));
    const [bad, weight] = [tensor(Int32Array.of(7)), tensor([[1, 2]])];
    for (let i = 0; i < 8; i++) {
      embedding(bad, weight).dispose();
      await new Promise(setImmediate);
    }
    expect((await result).tokens).toEqual((await generateTokens(model, [request.tokens], request))[0]!.tokens);
    await model.device.synchronize().catch(() => undefined);
  });

  test("another model takes over when the requests that have begun are done", async () => {
    using model = smallGpt("cpu", { contextLength: 48 });
    using next = smallGpt("cpu", { contextLength: 64, layers: 3 });
    const engine = engineFor(model, { maxSequences: 2, pageSize: 4 });
    const of = (seed: number): EngineRequest & { tokens: number[] } => ({ tokens: [seed, 7], maxTokens: 9, seed });
    const first = begun(engine.generate(of(1)));
    const others = [2, 3, 4].map((seed) => Promise.resolve(engine.generate(of(seed))));
    const { result: own } = await first;
    const replaced = engine.replace(next);
    await expect(engine.replace(next)).rejects.toMatchObject({ code: "ERR_BUSY" });
    others.push(Promise.resolve(engine.generate(of(5))));
    await replaced;
    for (const [i, result] of [await own, ...(await Promise.all(others))].entries()) {
      const [alone] = await generateTokens(i < 2 ? model : next, [of(i + 1).tokens], of(i + 1));
      expect(result.tokens, `request ${i + 1}`).toEqual(alone!.tokens);
    }
    using small = smallGpt("cpu", { contextLength: 8 });
    await expect(engine.replace(small)).rejects.toMatchObject({ code: "ERR_RANGE" });
    using other = smallGpt("cpu", { vocabularySize: 7, contextLength: 64 });
    await expect(engine.replace(other)).rejects.toThrow(/expected a model with the 61 tokens/);
  });

  test("memory grows with the requests, and if there is no more, they wait or fail alone", async () => {
    using model = smallGpt("cpu", { contextLength: 512 });
    const engine = engineFor(model, { pageSize: 4 });
    const run = (seed: number, length = 60): Promise<GenerationResult> =>
      Promise.resolve(engine.generate({ tokens: someTokens(length, seed), maxTokens: 4, seed }));
    const alone = await generateTokens(model, [someTokens(60, 1)], { maxTokens: 4, seed: 1 });
    expect((await run(1)).tokens).toEqual(alone[0]!.tokens);
    expect(engine.metrics.pages).toBe(16);
    const grown = vi.spyOn(KvPages.prototype, "grown").mockImplementation(() => {
      throw new HeedError("ERR_OOM", "no memory");
    });
    const results = await Promise.allSettled([1, 2, 3, 4, 5].map((seed) => run(seed, seed === 3 ? 300 : 60)));
    grown.mockRestore();
    expect(results.map(({ status }) => status)).toEqual(
      [1, 2, 3, 4, 5].map((i) => (i === 3 ? "rejected" : "fulfilled")),
    );
    expect(results[2]).toMatchObject({ reason: { code: "ERR_OOM" } });
    expect(results[0]).toMatchObject({ value: { tokens: alone[0]!.tokens } });
    expect(engine.metrics).toMatchObject({ pages: 16, running: 0, waiting: 0, pagesUsed: 0 });
  });
});
