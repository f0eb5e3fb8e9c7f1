import { afterAll, describe, expect, test } from "vitest";
import { infer } from "../../lib/generate/causal-model.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { native } from "../../lib/core/native.js";
import { argmax } from "../../lib/ops/choose.js";
import { reshape } from "../../lib/ops/views.js";
import { tensor } from "../../lib/core/creation.js";
import { noGrad } from "../../lib/core/autograd.js";
import { T5 } from "../../lib/models/t5.js";
import type { KvCache } from "../../lib/nn/kv-cache.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectClose, type Tolerance } from "../support/close.js";
import { shaken } from "../support/shaken.js";
import { bestIsa, targets } from "../support/targets.js";
import { smallGpt, someTokens } from "./models.js";

// The two methods sum in different orders, and these weights magnify the difference: if a score of up to 25 has an
// error of one u of itself, its weight in the softmax changes by 25 u. The observed maximum was 35 u of the largest
// logit; a wrong token causes 10⁶.
const tolerance: Tolerance = { relative: 0, absolute: 64 };

describe.for(targets)("cached decoding on $name", (target) => {
  const { device } = target;
  afterAll(() => native.selectIsa(bestIsa));
  const ids = (values: number[], batch: number): IntTensor =>
    tensor(Int32Array.from(values), [batch, values.length / batch], { device });

  async function rows(logits: FloatTensor): Promise<Float32Array[]> {
    const width = logits.shape.at(-1)!;
    const data = await logits.data();
    logits.dispose();
    return Array.from({ length: data.length / width }, (_, i) => data.subarray(i * width, (i + 1) * width));
  }

  test("gives the logits of the full forward pass at every step, however it is cut", async () => {
    target.select();
    using model = smallGpt(device);
    const tokens = someTokens(24, 1);
    const full = await rows(infer(model, () => model.forward(ids(tokens, 1))));
    for (const cuts of [Array<number>(24).fill(1), [24], [7, 1, 1, 15], [23, 1]]) {
      using cache = model.createCache(1);
      let at = 0;
      for (const length of cuts) {
        const part = ids(tokens.slice(at, at + length), 1);
        for (const row of await rows(infer(model, () => model.forward(part, { cache }))))
          expectClose(`position ${at}`, row, full[at++]!, tolerance);
        part.dispose();
      }
    }
  });

  test("a padded batch gives each sequence's own logits", async () => {
    target.select();
    using model = smallGpt(device);
    const prompts = [someTokens(3, 2), someTokens(11, 3), someTokens(1, 4), someTokens(8, 5)];
    const counts = prompts.map((prompt) => prompt.length);
    using cache = model.createCache(4);
    const padded = ids(
      prompts.flatMap((prompt) => [...prompt, ...Array<number>(11 - prompt.length).fill(60)]),
      4,
    );
    let last = await rows(infer(model, () => model.forward(padded, { cache, counts, lastOnly: true })));
    for (let step = 0; ; step++) {
      for (const [b, prompt] of prompts.entries()) {
        const full = await rows(infer(model, () => model.forward(ids(prompt, 1))));
        expectClose(`sequence ${b}, step ${step}`, last[b]!, full.at(-1)!, tolerance);
      }
      if (step === 6) break;
      const next = someTokens(4, 6 + step);
      for (const [b, prompt] of prompts.entries()) prompt.push(next[b]!);
      last = await rows(infer(model, () => model.forward(ids(next, 4), { cache, lastOnly: true })));
    }
    expect([...cache.lengths]).toEqual(prompts.map((prompt) => prompt.length));
    padded.dispose();
  });

  test("sequences taken from a cache continue unchanged", async () => {
    target.select();
    using model = smallGpt(device);
    const prompts = [someTokens(3, 2), someTokens(7, 3), someTokens(1, 4)];
    using cache = model.createCache(3, 12);
    const padded = ids(
      prompts.flatMap((prompt) => [...prompt, ...Array<number>(7 - prompt.length).fill(60)]),
      3,
    );
    infer(model, () => model.forward(padded, { cache, counts: [3, 7, 1], lastOnly: true })).dispose();
    padded.dispose();
    let taken = cache;
    let sequences = prompts;
    for (const order of [[2, 1, 0], [1, 1, 0, 2, 1], [4, 0, 2], [1]]) {
      const next = taken.take(order);
      if (taken !== cache) taken.dispose();
      taken = next;
      const tokens = someTokens(order.length, 9 + order.length);
      sequences = order.map((row, i) => [...sequences[row]!, tokens[i]!]);
      const step = ids(tokens, order.length);
      const last = await rows(infer(model, () => model.forward(step, { cache: taken, lastOnly: true })));
      step.dispose();
      expect([...taken.lengths]).toEqual(sequences.map((sequence) => sequence.length));
      for (const [b, sequence] of sequences.entries()) {
        const full = await rows(infer(model, () => model.forward(ids(sequence, 1))));
        expectClose(`sequence ${b} of ${order.join()}`, last[b]!, full.at(-1)!, tolerance);
      }
    }
    expect([...cache.lengths]).toEqual([3, 7, 1]);
    taken.dispose();
    // An empty sequence beside one that is not empty.
    cache.lengths[1] = 0;
    using mixed = cache.take([1, 0]);
    const step = ids([5, 6], 2);
    const last = await rows(infer(model, () => model.forward(step, { cache: mixed, lastOnly: true })));
    step.dispose();
    for (const [b, sequence] of [[5], [...prompts[0]!, 6]].entries()) {
      const full = await rows(infer(model, () => model.forward(ids(sequence, 1))));
      expectClose(`sequence ${b}`, last[b]!, full.at(-1)!, tolerance);
    }
    using empty = model.createCache(2);
    using still = empty.take([1, 1, 0]);
    expect([...still.lengths]).toEqual([0, 0, 0]);
  });

  test("forks of a decoder whose attention reads the whole cache have the logits of a cache without forks", async () => {
    target.select();
    const sizes = { vocabularySize: 20, layers: 1, heads: 2, headSize: 4, width: 8, buckets: 8, furthest: 20 };
    using model = shaken(new T5(sizes, { device })).eval();
    using source = ids([3, 4, 5, 1, 6, 7, 8, 1], 2);
    using decoder = model.decoderFor(source);
    const step = async (cache: KvCache, values: number[]): Promise<Float32Array[]> => {
      using input = ids(values, cache.batch);
      return await rows(noGrad(() => decoder.forward(input, { cache, lastOnly: true })));
    };
    using alone = decoder.createCache(2, 40);
    const base = decoder.createCache(2, 40);
    // The first page is full, and the second one is not.
    const first = someTokens(2 * 34, 3, 20);
    await step(alone, first);
    await step(base, first);
    using fork = base.take([1, 0, 1]);
    for (const [a, b] of [
      [2, 9],
      [11, 4],
    ] as const) {
      // prettier-ignore
      const expected = await step(alone, [a, b]);
      const forked = await step(fork, [b, a, b + 1]);
      expect(forked[0]).toEqual(expected[1]);
      expect(forked[1]).toEqual(expected[0]);
      expect(forked[2]).not.toEqual(expected[1]);
      base.dispose();
    }
  });

  test("only existing sequences can be taken, and not within a pass", () => {
    using model = smallGpt(device);
    using cache = model.createCache(2, 4);
    expect(() => cache.take([0, 2])).toThrow("take: expected rows[1] to be an integer from 0 to 1, got 2");
    expect(() => cache.take([-1])).toThrow("take: expected rows[0] to be an integer from 0 to 1, got -1");
    expect(() => cache.take([])).toThrow("KvCache: expected batch to be an integer from 1");
    expect(() => cache.take(null as never)).toThrow("take: expected numbers in an array or a typed array, got null");
    cache.begin(1);
    expect(() => cache.take([0])).toThrow("take: expected no forward pass to be using the cache, got one in progress");
  });

  test("greedy tokens equal those of full forward passes", async () => {
    target.select();
    using model = smallGpt(device);
    const tokens = someTokens(5, 7);
    const [result] = await generateTokens(model, [tokens], { maxTokens: 19, temperature: 0 });
    for (let i = 0; i < 19; i++) {
      const next = infer(model, () => argmax(reshape(model.forward(ids(tokens, 1)), [tokens.length, 61])));
      tokens.push((await next.data()).at(-1)!);
      next.dispose();
    }
    expect(result).toEqual({ tokens: tokens.slice(5), finishReason: "length" });
    expect(new Set(result!.tokens).size).toBeGreaterThan(5);
  });
});
