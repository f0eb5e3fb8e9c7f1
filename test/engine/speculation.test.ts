import { describe, expect, test, vi } from "vitest";
import { DraftPolicy } from "../../lib/engine/draft-policy.js";
import { Engine } from "../../lib/engine/engine.js";
import type { EngineRequest } from "../../lib/engine/engine-request.js";
import { NgramIndex } from "../../lib/engine/ngram-drafts.js";
import { Request } from "../../lib/engine/request.js";
import { StepTimes } from "../../lib/engine/step-times.js";
import { generate } from "../../lib/generate/generate-text.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { Graph } from "../../lib/core/graph.js";
import { GPT } from "../../lib/models/gpt.js";
import type { GptConfig } from "../../lib/models/gpt-config.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { devices, smallGpt, someTokens } from "../generate/models.js";

const always = { tokens: 4, adaptive: false };

/** Returns a GPT without positions and with almost no attention that follows each token by a fixed next one. */
function roteGpt(next: readonly number[], config: Partial<GptConfig> = {}): GPT {
  const width = next.length;
  const sizes = { vocabularySize: width, contextLength: 64, layers: 1, heads: 1, width, tied: false };
  const model = new GPT({ ...sizes, positions: "none", ...config });
  const identity = (scale: number): number[] => next.flatMap((_, i) => next.map((__, j) => (i === j ? scale : 0)));
  for (const [name, weight] of model.namedParameters())
    if (name.startsWith("h.")) weight.set(new Float32Array(weight.size).fill(0));
  model.wte.weight.set(identity(1));
  // The logits of token i are those of the row of its follower.
  model.lm_head!.weight.set(next.flatMap((_, v) => next.map((follower) => (follower === v ? 10 : 0))));
  return model;
}

const circle = (n: number): number[] => Array.from({ length: n }, (_, token) => (token + 1) % n);

describe("n-grams", () => {
  test("a draft is what followed the longest equal end", () => {
    const tokens = [1, 2, 3, 4, 9, 2, 3, 5, 7, 1, 2, 3];
    const index = new NgramIndex(tokens);
    expect(index.draft(2)).toEqual([4, 9]); // after 1 2 3, not after the later 2 3
    tokens.push(5);
    expect(index.draft(3)).toEqual([7, 1, 2]);
    tokens.push(8);
    expect(index.draft(3)).toEqual([]);
    expect(new NgramIndex([1]).draft(3)).toEqual([]);
  });

  test("of equally long ends the latest counts, and a draft goes on beyond the end of the tokens", () => {
    expect(new NgramIndex([5, 6, 1, 5, 6, 2, 5, 6]).draft(2)).toEqual([2, 5]);
    expect(new NgramIndex([0, 1, 2, 1, 2]).draft(5)).toEqual([1, 2, 1, 2, 1]);
    expect(new NgramIndex([3, 3, 3]).draft(3)).toEqual([3, 3, 3]);
  });

  test("many equal places cost no more than a few", () => {
    const tokens = Array.from({ length: 20_000 }, (_, i) => i % 2);
    let reads = 0;
    const counted = new Proxy(tokens, {
      get: (target, key) => {
        reads++;
        return Reflect.get(target, key) as unknown;
      },
    });
    const index = new NgramIndex(counted);
    index.draft(1);
    reads = 0;
    tokens.push(0);
    expect(index.draft(1)).toEqual([1]);
    expect(reads).toBeLessThan(1000);
  });
});

describe("DraftPolicy", () => {
  const request = (): Request => Object.create(Request.prototype) as Request;
  /** Teaches a policy the times of steps. */
  const policyFor = (time: (tokens: number) => number, sizes: number[]): DraftPolicy => {
    const policy = new DraftPolicy();
    for (const tokens of sizes)
      for (let i = 0; i < 3; i++) {
        policy.measured(tokens, 0, time(tokens));
        for (const drafts of [1, 2, 4, 8]) policy.measured(tokens, drafts, time(tokens + drafts));
      }
    return policy;
  };
  const step = { tokens: 1, drawn: 1, room: 100 };

  test("drafts as long as they are accepted and the step takes hardly longer", () => {
    const policy = policyFor(() => 1, [1]);
    const one = request();
    expect(policy.choose([{ request: one, count: 5 }], step)).toEqual([5]);
    for (let i = 0; i < 20; i++) policy.verified(one, 5, 5);
    expect(policy.choose([{ request: one, count: 5 }], step)).toEqual([5]);
    expect(policy.choose([{ request: one, count: 5 }], { ...step, room: 2 })).toEqual([2]);
  });

  test("drafts nothing where each token has its price, and tries again what failed", () => {
    expect(policyFor((n) => n, [1]).choose([{ request: request(), count: 5 }], step)).toEqual([0]);
    const policy = policyFor((n) => 1 + n / 10, [1]);
    const [good, bad] = [request(), request()];
    for (let i = 0; i < 30; i++) {
      policy.verified(good, 5, 5);
      policy.verified(bad, 5, 0);
    }
    const both = [good, bad].map((request) => ({ request, count: 5 }));
    expect(policy.choose(both, { ...step, tokens: 1, drawn: 2 })).toEqual([5, 0]);
    const rounds = Array.from({ length: 500 }, () => policy.choose(both, { ...step, drawn: 2 })[1]!);
    expect(rounds.findIndex((count) => count > 0)).toBeGreaterThan(10);
    expect(rounds.findIndex((count) => count > 0)).toBeLessThan(300);
  });

  test("a draft model's time counts", () => {
    const policy = policyFor(() => 1, [1]);
    for (let i = 0; i < 3; i++) policy.drafted(1, 2);
    expect(policy.choose([{ request: request(), count: 5 }], step)).toEqual([0]);
  });

  test("the time of a plain step is measured first", () => {
    expect(new DraftPolicy().choose([{ request: request(), count: 5 }], step)).toEqual([0]);
  });

  test("times of sizes that were not measured lie between those that were, and old ones are forgotten", () => {
    let now = 0;
    const times = new StepTimes(() => now);
    for (const [size, time] of [[4, 4], [4, 400], [4, 4], [8, 6], [8, 6], [8, 6]] as const) times.add(size, time); // prettier-ignore
    expect(times.at(4)).toBe(4);
    expect(times.at(6)).toBeNull();
    expect(times.estimate(6, [2, 1])).toBe(5);
    expect(times.estimate(3, [2, 1])).toBe(2.5);
    expect(times.estimate(100, [2, 1])).toBe(6);
    now = 5000;
    expect(times.at(4)).toBeNull();
    expect(times.estimate(8, [2, 1])).toBe(1);
  });
});

test("steps that verify drafts are recorded", async () => {
  const launches = vi.spyOn(Graph.prototype, "launch");
  using model = roteGpt(circle(6));
  await using engine = new Engine(model, { speculation: always });
  const { tokens } = await engine.generate({ tokens: [...circle(6), ...circle(6)], maxTokens: 46, temperature: 0 });
  expect(tokens).toEqual(Array.from({ length: 46 }, (_, i) => (i + 1) % 6));
  const { steps, acceptedTokens } = engine.metrics;
  expect(acceptedTokens).toBeGreaterThan(30);
  // The prompt is not recorded, nor the first step of each number of tokens: four drafts, and fewer at the end.
  expect(launches.mock.calls.length).toBeGreaterThanOrEqual(steps - 3);
  launches.mockRestore();
});

describe.for(devices)("speculation on %s", (device) => {
  test("greedy tokens are the same, and a draft model that equals the model is always right", async () => {
    using model = smallGpt(device, { contextLength: 48 });
    using draft = smallGpt(device, { contextLength: 48 });
    const requests = [1, 2, 3].map((seed) => ({
      tokens: someTokens(9 * seed, seed),
      maxTokens: 16,
      temperature: 0,
      seed,
    }));
    const run = async (engine: Engine): Promise<number[][]> =>
      (await Promise.all(requests.map((request) => engine.generate(request)))).map(({ tokens }) => tokens);
    await using plain = new Engine(model);
    await using drafting = new Engine(model, { speculation: { draft, ...always } });
    await using repeating = new Engine(model, { speculation: always });
    const expected = await run(plain);
    expect(await run(drafting)).toEqual(expected);
    expect(await run(repeating)).toEqual(expected);
    const { draftedTokens, acceptedTokens, steps } = drafting.metrics;
    expect(draftedTokens).toBeGreaterThan(30);
    if (device === "cpu") expect(acceptedTokens).toBe(draftedTokens);
    expect(steps).toBeLessThan(plain.metrics.steps / 2);
    expect(plain.metrics).toMatchObject({ draftedTokens: 0, acceptedTokens: 0 });
  });
});

describe("speculation", () => {
  const bytes = (config: Partial<GptConfig> = {}): GPT =>
    smallGpt("cpu", { vocabularySize: 256, contextLength: 64, ...config });
  const tokensOf = async (engine: Engine, request: EngineRequest): Promise<number[]> =>
    (await engine.generate(request)).tokens;

  test("sampled tokens are the same, and a draft model that equals the model is always right", async () => {
    using model = bytes();
    using draft = bytes();
    const penalties = { repetitionPenalty: 1.3, frequencyPenalty: 0.4, presencePenalty: 0.1, logitBias: { 7: 2 } };
    const options = [
      {},
      { topK: 9 },
      { topP: 0.7, temperature: 2 },
      penalties,
      { stopTokens: someTokens(20, 4), minTokens: 9 },
    ];
    await using engine = new Engine(model, { speculation: { draft, ...always } });
    await using plain = new Engine(model);
    const requests = options.map((some, seed) => ({ ...some, seed, maxTokens: 30 }));
    const results = await Promise.all(
      requests.map((some) => engine.generate({ ...some, tokens: [1, 2, 3], logprobs: 2 })),
    );
    for (const [i, { choices }] of results.entries())
      expect(choices).toEqual((await plain.generate({ ...requests[i], tokens: [1, 2, 3], logprobs: 2 })).choices);
    const { draftedTokens, acceptedTokens, steps } = engine.metrics;
    expect(acceptedTokens).toBe(draftedTokens);
    expect(steps).toBeLessThan(20);
  });

  test("a request ends at its limit, at a stop token and at a stop string among right drafts", async () => {
    using model = roteGpt(circle(256));
    const tokenizer = new ByteTokenizer();
    const cases: Partial<EngineRequest>[] = [
      ...[1, 2, 3, 4, 5, 6, 7, 40].map((maxTokens) => ({ maxTokens })),
      ...[36, 37, 38, 39, 40, 41].map((token) => ({ stopTokens: [token] })),
      ...["$", "%&", "'(", "&'(", "-"].map((stop) => ({ stop })),
      { stopTokens: [37], minTokens: 9 },
    ];
    const prompt = Int32Array.from({ length: 12 }, (_, i) => 32 + (i % 4)); // !"# over and over
    for (const speculation of [always, { ...always, draft: model }]) {
      await using engine = new Engine(model, { tokenizer, speculation });
      for (const one of cases) {
        const options = { maxTokens: 50, temperature: 0, ...one };
        const expected = await generate(model, tokenizer, prompt, options);
        expect(await engine.generate({ ...options, tokens: prompt })).toEqual(expected);
      }
      expect(engine.metrics.acceptedTokens).toBeGreaterThan(0);
    }
  });

  test("the context ends among drafts", async () => {
    using model = roteGpt(circle(5), { contextLength: 16, positions: "learned" });
    using draft = roteGpt(circle(5), { contextLength: 9, positions: "learned" });
    for (const speculation of [always, { ...always, draft: model }, { ...always, draft }])
      for (let length = 1; length <= 16; length++) {
        await using engine = new Engine(model, { speculation, pageSize: 4 });
        const { tokens, finishReason } = await engine.generate({
          tokens: someTokens(length, 3, 5),
          maxTokens: 40,
          temperature: 0,
        });
        expect(tokens).toHaveLength(17 - length);
        expect(finishReason).toBe("length");
        expect(engine.metrics.computedTokens).toBeLessThanOrEqual(16 * 4);
      }
  });

  test("a sequence that fills about a power of two of pages has drafts beyond its end", async () => {
    using model = smallGpt("cpu", { contextLength: 256 });
    await using engine = new Engine(model, { pageSize: 2, speculation: { tokens: 15, adaptive: false } });
    const tokens = Array.from({ length: 7 }, (_, i) => i % 3);
    for (const maxTokens of [8, 9, 10, 11]) {
      const [expected] = await generateTokens(model, [tokens], { maxTokens, temperature: 0 });
      const results: number[] = [];
      for await (const event of engine.generate({ tokens, maxTokens, temperature: 0 })) results.push(...event.tokens);
      expect(results).toEqual(expected!.tokens);
    }
  });

  test("pages with wrong drafts are not shared", async () => {
    using model = bytes();
    using draft = bytes({ layers: 1 });
    const prompt = someTokens(20, 1);
    await using engine = new Engine(model, { speculation: { ...always, draft }, pageSize: 2 });
    const first = await tokensOf(engine, { tokens: prompt, maxTokens: 20, seed: 1 });
    const { draftedTokens, acceptedTokens } = engine.metrics;
    expect(draftedTokens - acceptedTokens).toBeGreaterThan(10);
    // Each beginning of what was computed, and of what was drafted, finds the right pages.
    for (let length = 1; length < first.length; length += 3) {
      const tokens = [...prompt, ...first.slice(0, length), 0, 1, 2, 3];
      const [alone] = await generateTokens(model, [tokens], { maxTokens: 5, seed: 2 });
      expect(await tokensOf(engine, { tokens, maxTokens: 5, seed: 2 })).toEqual(alone!.tokens);
    }
    expect(engine.metrics.cachedTokens).toBeGreaterThan(0);
  });

  test("drafts keep to the budget of a step and take no pages from others", async () => {
    using model = roteGpt(circle(4), { contextLength: 32 });
    const { layers, kvHeads } = model.config;
    const kvMemory = 2 * layers * kvHeads * model.headSize * 4 * 36;
    await using engine = new Engine(model, { speculation: always, pageSize: 4, kvMemory, maxBatchTokens: 7 });
    const forward = model.forward.bind(model);
    let most = 0;
    model.forward = (ids, options) => {
      most = Math.max(most, ids.size);
      return forward(ids, options);
    };
    const requests = [0, 1, 2].map((seed) => ({ tokens: [0, 1, 2, 3, 0, 1], maxTokens: 9, temperature: 0, seed }));
    const results = await Promise.all(requests.map((request) => tokensOf(engine, request)));
    expect(results).toEqual(Array(3).fill([2, 3, 0, 1, 2, 3, 0, 1, 2]));
    expect(most).toBe(7);
    expect(engine.metrics.acceptedTokens).toBeGreaterThan(0);
  });

  test("a request can do without, and an aborted one frees its pages", async () => {
    using model = roteGpt(circle(8));
    await using engine = new Engine(model, { speculation: { ...always, draft: model } });
    const request = { tokens: [0, 1, 2], maxTokens: 30, temperature: 0 };
    const expected = await tokensOf(engine, { ...request, speculation: false });
    expect(engine.metrics).toMatchObject({ draftedTokens: 0, generatedTokens: 30 });
    const controller = new AbortController();
    const aborted = (async () => {
      for await (const { tokens } of engine.generate({ ...request, signal: controller.signal }))
        if (tokens.length > 0) controller.abort(new Error("enough"));
    })();
    const [one, other] = await Promise.allSettled([aborted, tokensOf(engine, request)]);
    expect(one).toMatchObject({ status: "rejected", reason: { message: "enough" } });
    expect(other).toMatchObject({ value: expected });
    expect(engine.metrics).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0 });
  });

  test("the others go on if the draft model fails", async () => {
    using model = bytes();
    using draft = bytes();
    await using engine = new Engine(model, { speculation: { ...always, draft } });
    const forward = draft.forward.bind(draft);
    let calls = 0;
    draft.forward = (...args) => {
      if (++calls === 3) throw new Error("out of order");
      return forward(...args);
    };
    const request = { tokens: [1, 2, 3], maxTokens: 60, seed: 1 };
    const [alone] = await generateTokens(model, [request.tokens], request);
    expect(await tokensOf(engine, request)).toEqual(alone!.tokens);
    const { draftedTokens } = engine.metrics;
    for (let i = 0; i < 3; i++) expect(await tokensOf(engine, request)).toEqual(alone!.tokens);
    expect(engine.metrics.draftedTokens).toBeGreaterThan(draftedTokens); // it was tried again
  });

  test("a model that diverges fails the request, but not if it diverges on wrong drafts only", async () => {
    using model = roteGpt(circle(6));
    using wrong = roteGpt([2, 4, 4, 4, 4, 4]);
    const values = await model.wte.weight.data();
    model.wte.weight.set(values.fill(NaN, 4 * 6, 5 * 6)); // after token 4
    const request = { tokens: [0, 0], temperature: 0 };
    for (const draft of [model, wrong]) {
      await using engine = new Engine(model, { speculation: { ...always, draft } });
      expect(await tokensOf(engine, { ...request, maxTokens: 3 })).toEqual([1, 2, 3]);
      expect(await tokensOf(engine, { ...request, maxTokens: 9, stopTokens: [4] })).toEqual([1, 2, 3]);
      await expect(tokensOf(engine, { ...request, maxTokens: 9 })).rejects.toMatchObject({ code: "ERR_DIVERGED" });
      expect(engine.metrics).toMatchObject({ running: 0, pagesUsed: 0 });
    }
  });

  test("it turns itself off where nothing is accepted", async () => {
    using model = bytes({ contextLength: 1024 });
    await using engine = new Engine(model, { speculation: "ngram" });
    // Pairs of tokens come again, but what follows them is random.
    const request = { tokens: [1, 2, 3], maxTokens: 600, temperature: 3, topK: 8, seed: 1 };
    const [alone] = await generateTokens(model, [request.tokens], request);
    expect(await tokensOf(engine, request)).toEqual(alone!.tokens);
    const { draftedTokens, steps } = engine.metrics;
    expect(draftedTokens).toBeLessThan(steps * 2);
  });

  test("bad arguments", () => {
    using model = bytes();
    using other = smallGpt("cpu");
    const create = (speculation: unknown): Engine => new Engine(model, { speculation } as never);
    expect(() => create("magic")).toThrow(/expected speculation to be "ngram", an object or null, got/);
    expect(() => create({ tokens: 0 })).toThrow(/speculation.tokens to be an integer from 1/);
    expect(() => create({ adaptive: 1 })).toThrow(/speculation.adaptive to be a boolean/);
    expect(() => create({ draft: {} })).toThrow(
      /speculation.draft to be a decoder, such as a GPT or Llama, got an object/,
    );
    expect(() => create({ draft: other })).toThrow(/vocabulary of the model, 256 tokens, got 61/);
    const engine = create("ngram");
    expect(() => engine.generate({ tokens: [1], speculation: "no" } as never)).toThrow(/speculation to be a boolean/);
  });
});
