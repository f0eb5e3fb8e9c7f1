import { describe, expect, test } from "vitest";
import { tensor } from "../../lib/core/creation.js";
import { Engine } from "../../lib/engine/engine.js";
import type { EngineOptions } from "../../lib/engine/engine-options.js";
import type { EngineRequest } from "../../lib/engine/engine-request.js";
import { infer } from "../../lib/generate/causal-model.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { generate } from "../../lib/generate/generate-text.js";
import type { GPT } from "../../lib/models/gpt.js";
import type { GptConfig } from "../../lib/models/gpt-config.js";
import type { KvType } from "../../lib/nn/kv-pages.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { devices, smallGpt, someTokens } from "../generate/models.js";
import { Random } from "../support/random.js";
import { begun, engineFor } from "./support.js";

/** Bytes of `pages` pages of a small model's KV memory. */
const bytesOf = ({ config, headSize }: GPT, pages: number, pageSize: number, kvType: KvType | null = null): number =>
  2 * config.layers * config.kvHeads * bytesOfHead(headSize, kvType) * pages * pageSize;

function bytesOfHead(size: number, kvType: KvType | null): number {
  return kvType === "int8" ? size + 4 : size * (kvType === null ? 4 : 2);
}

const kinds: Record<string, Partial<GptConfig> & Pick<EngineOptions, "kvType">> = {
  "learned positions": {},
  "rotary positions, grouped heads and a window": { positions: "rotary", kvHeads: 2, window: 9 },
  "ALiBi and soft caps": { positions: "alibi", softcap: 5 },
  "keys and values in 8 bits": { kvType: "int8", kvHeads: 2 },
  "keys and values in 16 bits": { kvType: "f16", kvHeads: 2 },
};

describe.for(devices)("Engine on %s", (device) => {
  test.for(Object.entries(kinds))(
    "each request gets the tokens that it gets alone: %s",
    async ([, { kvType = null, ...config }]) => {
      using model = smallGpt(device, { contextLength: 48, ...config });
      const random = new Random(2);
      const count = device === "cpu" ? 24 : 8;
      const shared = someTokens(20, 99);
      const requests = Array.from({ length: count }, (_, i): EngineRequest & { tokens: number[]; seed: number } => {
        const own = someTokens(random.integer(12) + 1, i);
        return {
          tokens: random.integer(2) ? [...shared, ...own] : own,
          maxTokens: random.integer(15) + 1,
          seed: i,
          temperature: random.integer(2),
          topK: random.integer(2) * 20,
          repetitionPenalty: 1 + random.integer(2) * 0.2,
          frequencyPenalty: random.integer(2) * 0.5,
          minTokens: 0,
          stopTokens: [random.integer(61)],
          priority: random.integer(3),
        };
      });
      const alone = [];
      for (const { tokens, priority: _, ...options } of requests) {
        if (kvType) {
          await using own = new Engine(model, { kvType });
          alone.push(await own.generate({ tokens, ...options }));
        } else alone.push(...(await generateTokens(model, [tokens], options)));
      }
      // Few and small pages, and a small budget: prompts come in pieces, and requests lose their pages.
      const kvMemory = bytesOf(model, 13, 4, kvType);
      const engine = engineFor(model, { pageSize: 4, kvType, kvMemory, maxBatchTokens: 13, maxSequences: 7 });
      const results = [];
      for (const request of requests) {
        results.push(Promise.resolve(engine.generate(request)));
        if (random.integer(2)) await new Promise(setImmediate);
      }
      for (const [i, result] of (await Promise.all(results)).entries()) {
        expect(result.tokens, `request ${i}`).toEqual(alone[i]!.tokens);
        expect(result.finishReason).toBe(alone[i]!.finishReason);
      }
      const { running, waiting, pagesUsed, preemptions, cachedTokens } = engine.metrics;
      expect({ running, waiting, pagesUsed }).toEqual({ running: 0, waiting: 0, pagesUsed: 0 });
      expect(preemptions).toBeGreaterThan(0);
      expect(cachedTokens).toBeGreaterThan(0);
    },
  );
});

describe("Engine", () => {
  const tokenizer = new ByteTokenizer();
  const bytes = (config: Partial<GptConfig> = {}): GPT =>
    smallGpt("cpu", { vocabularySize: 256, contextLength: 48, ...config });

  test("texts, stop strings and events are those of generate", async () => {
    using model = bytes();
    const engine = engineFor(model, { tokenizer, defaults: { maxTokens: 20 } });
    const whole = await generate(model, tokenizer, "Call me", { maxTokens: 20, seed: 3 });
    const stop = whole.text.slice(4, 6);
    const expected = await generate(model, tokenizer, "Call me", { maxTokens: 20, seed: 3, stop });
    const given = engine.generate({ prompt: "Call me", seed: 3, stop });
    let text = "";
    for await (const event of given) text += event.text;
    expect(text).toBe(expected.text);
    expect(await given).toEqual(expected);
    expect(await engine.generate({ prompt: "Call me", seed: 3 })).toEqual(whole);
    expect(engine.metrics).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0 });
  });

  test("a shared beginning is computed once", async () => {
    using model = bytes();
    const engine = engineFor(model, { pageSize: 8 });
    const beginning = someTokens(33, 1);
    const run = (last: number): Promise<unknown> =>
      Promise.resolve(engine.generate({ tokens: [...beginning, last], maxTokens: 1 }));
    await run(1);
    expect(engine.metrics).toMatchObject({ computedTokens: 34, cachedTokens: 0 });
    await Promise.all([run(2), run(3)]);
    expect(engine.metrics).toMatchObject({ computedTokens: 34 + 2 * 2, cachedTokens: 2 * 32 });
  });

  test("a tiny model computes more than 512 tokens in a step, and no step more than asked", async () => {
    using model = bytes({ contextLength: 512 });
    const stepsOf = async (options: EngineOptions): Promise<number> => {
      const engine = engineFor(model, options);
      const prompts = [1, 2, 3, 4].map((seed) => someTokens(500, seed));
      await Promise.all(prompts.map((tokens) => Promise.resolve(engine.generate({ tokens, maxTokens: 1 }))));
      return engine.metrics.steps;
    };
    expect(await stepsOf({})).toBe(1);
    expect(await stepsOf({ maxBatchTokens: 500 })).toBe(4);
  });

  test("a long prompt is computed in pieces beside the others", async () => {
    using model = bytes();
    const engine = engineFor(model, { maxBatchTokens: 8 });
    const order: string[] = [];
    const short = (async () => {
      for await (const { tokens } of engine.generate({ tokens: [1], maxTokens: 12, seed: 1 }))
        for (const _ of tokens) order.push("short");
    })();
    const long = (async () => {
      for await (const { tokens } of engine.generate({ tokens: someTokens(40, 2), maxTokens: 2, seed: 1 }))
        for (const _ of tokens) order.push("long");
    })();
    await Promise.all([short, long]);
    expect(order.indexOf("long")).toBeGreaterThanOrEqual(5);
    expect(order.filter((name) => name === "short")).toHaveLength(12);
    expect(order.filter((name) => name === "long")).toHaveLength(2);
  });

  test("a prompt that needs many steps delays no token of others", async () => {
    using model = bytes({ contextLength: 512 });
    const engine = engineFor(model, { maxBatchTokens: 16 });
    const starting = [1, 2, 3].map((seed) => begun(engine.generate({ tokens: [seed], maxTokens: 60, seed })));
    const running = await Promise.all(starting);
    // A higher priority lets it begin first, and does not stop those that generate.
    const long = await engine.generate({ tokens: someTokens(400, 2), maxTokens: 1, seed: 1, priority: 1 });
    for (const { result } of running) expect((await result).tokens).toHaveLength(60);
    expect(long.usage.promptTokens).toBe(400);
    // Each step gave a token to each of the three, and the prompt had what they left of the budget.
    expect(engine.metrics.steps).toBe(60);
  });

  test("a request that is stopped frees its pages, and the others go on", async () => {
    using model = bytes();
    const engine = engineFor(model);
    const controller = new AbortController();
    const stopped = engine.generate({ tokens: [1, 2], maxTokens: 40, seed: 1, signal: controller.signal });
    const left = engine.generate({ tokens: [1, 2], maxTokens: 40, seed: 2 });
    const other = engine.generate({ tokens: [3], maxTokens: 30, seed: 3 });
    const [failed] = await Promise.allSettled([
      (async () => {
        for await (const _ of stopped) controller.abort(new Error("enough"));
      })(),
      (async () => {
        for await (const _ of left) break;
      })(),
    ]);
    expect(failed).toMatchObject({ status: "rejected", reason: { message: "enough" } });
    await expect(stopped).rejects.toThrow("enough");
    expect((await left).finishReason).toBe("cancelled");
    expect((await other).tokens).toEqual((await generateTokens(model, [[3]], { maxTokens: 30, seed: 3 }))[0]!.tokens);
    expect(engine.metrics).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0 });
  });

  test("requests beyond the queue, and those to a closed engine, are refused", async () => {
    using model = bytes();
    const engine = engineFor(model, { maxSequences: 1, maxQueue: 1 });
    const results = await Promise.allSettled(
      [1, 2, 3, 4].map((seed) => engine.generate({ tokens: [seed], maxTokens: 3, seed })),
    );
    expect(results.map(({ status }) => status)).toContain("fulfilled");
    const refused = results.filter(({ status }) => status === "rejected");
    expect(refused.length).toBeGreaterThan(0);
    for (const { reason } of refused as PromiseRejectedResult[])
      expect(reason).toMatchObject({
        code: "ERR_BUSY",
        message: expect.stringContaining("fewer than 1 requests") as string,
      });
    expect((await engine.generate({ tokens: [1], maxTokens: 3 })).tokens).toHaveLength(3);
    await engine.close();
    await expect(engine.generate({ tokens: [1] })).rejects.toMatchObject({ code: "ERR_BUSY" });
  });

  test("closing waits for the requests", async () => {
    using model = bytes();
    const engine = new Engine(model);
    const result = Promise.resolve(engine.generate({ tokens: [1], maxTokens: 9, seed: 1 }));
    await new Promise(setImmediate);
    await engine.close();
    expect((await result).tokens).toHaveLength(9);
  });

  test("a model that diverges fails its own request only", async () => {
    using model = bytes({ tied: false });
    const engine = engineFor(model, { maxSequences: 4 });
    // Only the embedding of token 7 is bad.
    const { weight } = model.wte;
    const values = (await weight.data()).fill(NaN, 7 * 32, 8 * 32);
    weight.set(values);
    const [bad, good] = await Promise.allSettled([
      engine.generate({ tokens: [7], maxTokens: 3, seed: 1 }),
      engine.generate({ tokens: [8], maxTokens: 3, seed: 1, logitBias: { 7: -Infinity } }),
    ]);
    expect(bad).toMatchObject({ status: "rejected", reason: { code: "ERR_DIVERGED" } });
    expect(good).toMatchObject({ status: "fulfilled", value: { finishReason: "length" } });
  });

  // The first pass reads the prompts, the second generates, and the third is recorded.
  test.for([1, 2, 3])("a step that fails concerns its own requests only: pass %i", async (failing) => {
    using model = bytes();
    const engine = engineFor(model, { maxSequences: 2, pageSize: 4 });
    const alone = [];
    for (const token of [3, 4])
      alone.push(...(await generateTokens(model, [[token, 5, 6]], { maxTokens: 9, seed: token })));
    const forward = model.forward.bind(model);
    let passes = 0;
    model.forward = (...args) => {
      if (++passes === failing) throw new Error("out of order");
      return forward(...args);
    };
    const results = await Promise.allSettled(
      [1, 2, 3, 4].map((token) => engine.generate({ tokens: [token, 5, 6], maxTokens: 9, seed: token })),
    );
    const reason = { name: "HeedError", code: "ERR_INTERNAL", cause: { message: "out of order" } };
    const failed = { status: "rejected", reason };
    const served = alone.map(({ tokens }) => ({ status: "fulfilled", value: { tokens } }));
    expect(results).toMatchObject([failed, failed, ...served]);
    expect(engine.metrics).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0 });
  });

  test("a request that is made as soon as the last one has ended is served", async () => {
    using model = bytes();
    const engine = engineFor(model);
    for (let i = 0; i < 20; i++) {
      const results = [];
      for await (const { tokens } of engine.generate({ tokens: [i], maxTokens: 2, seed: i })) results.push(...tokens);
      expect(results).toHaveLength(2);
      await Array.from({ length: i % 5 }).reduce<Promise<void>>((chain) => chain.then(), Promise.resolve());
    }
  });

  test("an empty prompt begins after an end of text, and an aborted signal is noticed before", async () => {
    using model = bytes();
    const engine = engineFor(model, { tokenizer });
    await expect(engine.generate({ prompt: "" })).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    const signal = AbortSignal.abort(new Error("too late"));
    await expect(engine.generate({ prompt: "a", signal })).rejects.toThrow("too late");
    expect(engine.metrics.steps).toBe(0);
  });

  test("bad arguments", async () => {
    using model = bytes();
    expect(() => new Engine({} as never)).toThrow(/expected a decoder, such as a GPT or Llama, got an object/);
    expect(() => new Engine(model, { maxBatchTokens: 0 })).toThrow(/maxBatchTokens to be an integer from 1/);
    expect(() => new Engine(model, { kvMemory: 10 })).toThrow(/expected kvMemory of at least \d+ bytes/);
    expect(() => new Engine(model, { kvType: "int4" as never })).toThrow(
      /expected kvType to be f16, bf16 or int8, got "int4"/,
    );
    const engine = engineFor(model);
    expect(() => engine.generate({})).toThrow(/expected one of prompt, tokens and messages, got none/);
    expect(() => engine.generate({ prompt: "a" })).toThrow(/the engine has no tokenizer/);
    expect(() => engine.generate({ prompt: "a", tokens: [1] })).toThrow(/got prompt and tokens/);
    expect(() => engine.generate({ messages: [] })).toThrow(/the engine has no tokenizer, got messages/);
    expect(() => engine.generate({ tokens: [1], n: 0 })).toThrow(/n to be an integer from 1/);
    expect(() => engine.generate({ tokens: [1], logprobs: 257 })).toThrow(/logprobs to be an integer from 0 to 256/);
    expect(() => engine.generate({ tokens: [1], temperature: -1 })).toThrow(/temperature/);
    await expect(engine.generate({ tokens: [256] })).rejects.toMatchObject({ code: "ERR_RANGE" });
    await expect(engine.generate({ tokens: [] })).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
  });
});

test.for(devices)("keys and values in 8 bits take about half of the memory of 16 bits on %s", async (device) => {
  using model = smallGpt(device, { width: 128, heads: 2, contextLength: 64 }).eval();
  model.dtype = "bf16";
  const bytesWith = async (kvType: "int8" | null): Promise<number> => {
    const before = model.device.memory().live;
    await using engine = new Engine(model, { kvType, pageSize: 16, kvMemory: 2 ** 20 });
    const { pages, kvBytes } = engine.metrics;
    expect(model.device.memory().live - before).toBe(kvBytes);
    // There is a page more, for rows without a request.
    return kvBytes / (pages + 1);
  };
  // A head has 64 numbers: 64 codes and a scale of 4 bytes instead of 128 bytes.
  expect((await bytesWith("int8")) / (await bytesWith(null))).toBe(68 / 128);
});

describe.for(devices)("requests of an engine on %s", (device) => {
  test("texts of one prompt differ, and the prompt is computed once", async () => {
    using model = smallGpt(device, { contextLength: 48 });
    const engine = engineFor(model, { pageSize: 4 });
    const tokens = someTokens(17, 3);
    const options = { maxTokens: 6, seed: 5 };
    const { choices, usage, ...first } = await engine.generate({ tokens, ...options, n: 3 });
    const expected = await generateTokens(model, [tokens, tokens, tokens], options);
    expect(choices).toEqual(expected.map((one) => ({ text: "", ...one })));
    expect(first).toEqual(choices[0]);
    expect(usage).toEqual({ promptTokens: 17, cachedTokens: 0, completionTokens: 18 });
    expect(engine.metrics.cachedTokens).toBe(2 * 16);
    const events: number[][] = [[], [], []];
    for await (const event of engine.generate({ tokens, ...options, n: 3 }))
      events[event.choice]!.push(...event.tokens);
    expect(events).toEqual(choices.map((choice) => choice.tokens));
    for await (const _ of engine.generate({ tokens, ...options, n: 3, maxTokens: 30 })) break;
    expect(engine.metrics).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0 });
  });

  test("log-probabilities are those of the model, whatever changes the choice", async () => {
    using model = smallGpt(device, { contextLength: 48 });
    const engine = engineFor(model, { pageSize: 4 });
    const tokens = someTokens(9, 4);
    const request = { tokens, maxTokens: 7, seed: 5, temperature: 0.7, presencePenalty: 0.4, logitBias: { 3: 2 } };
    const [result, plain, few] = await Promise.all([
      engine.generate({ ...request, logprobs: 4 }),
      engine.generate(request),
      engine.generate({ ...request, logprobs: 0 }),
    ]);
    expect(result.tokens).toEqual(plain.tokens);
    expect(plain).not.toHaveProperty("logprobs");
    const whole = [...tokens, ...result.tokens];
    using logits = infer(model, () => model.forward(tensor(Int32Array.from(whole), [1, whole.length], { device })));
    const values = await logits.data();
    for (const [i, { token, logprob, top }] of result.logprobs!.entries()) {
      const row = logSoftmax(values.subarray((8 + i) * 61, (9 + i) * 61));
      const order = [...row.keys()].sort((a, b) => row[b]! - row[a]!);
      expect(token).toBe(result.tokens[i]);
      expect(logprob).toBeCloseTo(row[token]!, 5);
      expect(top.map((one) => one.token)).toEqual(order.slice(0, 4));
      for (const one of top) expect(one.logprob).toBeCloseTo(row[one.token]!, 5);
      expect(few.logprobs![i]).toEqual({ token, logprob, top: [] });
    }
    expect(result.logprobs).toHaveLength(7);
  });

  test("a text that outgrows the context goes on from the later half of it, as alone", async () => {
    using model = smallGpt(device, { contextLength: 24 });
    const engine = engineFor(model, { pageSize: 4, maxBatchTokens: 7 });
    const options = { maxTokens: 70, seed: 2, repetitionPenalty: 1.1, overflow: "slide" } as const;
    const prompts = [someTokens(20, 1), someTokens(50, 2), someTokens(24, 3)];
    const results = await Promise.all(prompts.map((tokens) => engine.generate({ tokens, ...options })));
    for (const [i, prompt] of prompts.entries()) {
      const [alone] = await generateTokens(model, [prompt], options);
      expect(results[i]).toMatchObject(alone!);
    }
    expect(engine.metrics).toMatchObject({ running: 0, pagesUsed: 0 });
  });

  test("weights that change are noticed, also while requests run", async () => {
    using model = smallGpt(device, { contextLength: 48 });
    const engine = engineFor(model, { pageSize: 4 });
    const request = { tokens: someTokens(15, 6), maxTokens: 12, seed: 1 };
    const state = Object.fromEntries(
      await Promise.all(
        Object.entries(model.stateDict()).map(async ([name, weight], i) => {
          const values = (await weight.data()).map((value, at) => value + ((at + i) % 7) * 0.01);
          return [name, { shape: weight.shape, values }] as const;
        }),
      ),
    );
    const before = await engine.generate(request);
    const under = engine.generate(request);
    let seen = 0;
    for await (const _ of under) if (++seen === 4) engine.update(state);
    const after = await engine.generate(request);
    const [alone] = await generateTokens(model, [request.tokens], request);
    expect(after.tokens).toEqual(alone!.tokens);
    expect(after.tokens).not.toEqual(before.tokens);
    // What had been generated stays, and the rest is what the new weights make of it. One token may have been on its way.
    const { tokens } = await under;
    const kept = tokens.findIndex((token, i) => token !== before.tokens[i]);
    expect(kept).toBeGreaterThanOrEqual(4);
    model.dtype = "bf16";
    const rounded = await engine.generate(request);
    expect(rounded.tokens).toEqual((await generateTokens(model, [request.tokens], request))[0]!.tokens);
  });
});

/** Returns the logarithms of the softmax, computed in f64. */
function logSoftmax(values: ArrayLike<number>): number[] {
  const list = Array.from(values);
  const max = Math.max(...list);
  const sum = Math.log(list.reduce((total, value) => total + Math.exp(value - max), 0));
  return list.map((value) => value - max - sum);
}
