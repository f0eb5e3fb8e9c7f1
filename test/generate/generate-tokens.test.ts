import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { infer } from "../../lib/generate/causal-model.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import type { TokenOptions } from "../../lib/generate/options.js";
import { sample } from "../../lib/ops/sample.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { IntTensor } from "../../lib/core/tensor.js";
import type { GPT } from "../../lib/models/gpt.js";
import { nightly } from "../support/nightly.js";
import { circle, devices, RoteModel, smallGpt, someTokens } from "./models.js";

/**
 * Generates by full forward passes, without a cache, a batch or running ahead. The real function must give the same
 * results.
 */
async function slowly(model: GPT, prompt: number[], options: TokenOptions & { seed: number }): Promise<number[]> {
  const { maxTokens = 256, seed, stopTokens = [], minTokens = 0, logitBias = {} } = options;
  const { vocabularySize: V } = model.config;
  const { contextLength } = model.config;
  const device = model.device;
  const all = prompt.slice(-contextLength);
  let context = [...all];
  const generated: number[] = [];
  while (generated.length < maxTokens) {
    const ids = infer(model, () => {
      const input = tensor(Int32Array.from(context), [1, context.length], { device });
      const logits = model.forward(input, { lastOnly: true });
      const offsets = tensor(Int32Array.of(prompt.length + generated.length), [1], { device });
      const row = (values: number[]): IntTensor => tensor(Int32Array.from(values), [1, values.length], { device });
      const early = generated.length < minTokens;
      const bias = Float32Array.from({ length: V }, (_, v) =>
        early && stopTokens.includes(v) ? -Infinity : (logitBias[v] ?? 0),
      );
      return sample(
        logits,
        offsets,
        { ...options, seed },
        {
          history: row(all.slice(-contextLength)),
          generated: row([-1, ...generated.slice(-contextLength)]),
          bias: tensor(bias, [1, V], { device }),
        },
      );
    });
    const token = await ids.item();
    ids.dispose();
    if (stopTokens.includes(token)) break;
    generated.push(token);
    all.push(token);
    context.push(token);
    if (context.length > contextLength) context = context.slice(-Math.ceil(contextLength / 2));
  }
  return generated;
}

describe.for(devices)("generateTokens on %s", (device) => {
  const ways: Record<string, TokenOptions> = {
    greedy: { temperature: 0 },
    sampled: {},
    "top-k, top-p and min-p": { temperature: 1.5, topK: 20, topP: 0.9, minP: 0.02 },
    "greedy with a repetition penalty": { temperature: 0, repetitionPenalty: 1.3 },
    "sampled with a repetition penalty": { repetitionPenalty: 1.3 },
    "with penalties for generated tokens": { presencePenalty: 0.4, frequencyPenalty: 0.9, typicalP: 0.9 },
    "greedy with a frequency penalty and biased logits": {
      ...{ temperature: 0, frequencyPenalty: 0.3 },
      logitBias: { 3: 2, 5: -Infinity, 11: -1.5 },
    },
  };

  // The software device is slow, so it takes these only at night.
  const others = ["sampled", "greedy with a repetition penalty", "sampled with a repetition penalty"];
  const tested = Object.entries(ways).filter(([name]) => device === "cpu" || nightly || !others.includes(name));
  describe.for(tested)("%s", ([, way]) => {
    // Lengths at, near and above the context; with twice as many tokens every sequence slides several times.
    const contextLength = device === "cpu" ? 24 : 12;
    const prompts = [3, contextLength, 1, 9, contextLength - 1, 40].map((length, i) => someTokens(length, i));
    const options: TokenOptions & { seed: number } = {
      ...{ ...way, seed: 11, maxTokens: 2 * contextLength },
      overflow: "slide",
    };

    test("a prompt gives the same tokens as full forward passes", async () => {
      using model = smallGpt(device, { contextLength });
      // Full passes are slow on the software device, so it tests three lengths.
      for (const prompt of device === "cpu" ? prompts : prompts.filter((_, i) => i % 2 === 1)) {
        const [result] = await generateTokens(model, [prompt], options);
        expect(result).toEqual({ tokens: await slowly(model, prompt, options), finishReason: "length" });
      }
    });

    test("a batch gives each prompt the same tokens as alone, even as others end", async () => {
      using model = smallGpt(device, { contextLength });
      const alone = await Promise.all(prompts.map((prompt) => generateTokens(model, [prompt], options)));
      expect(await generateTokens(model, prompts, options)).toEqual(alone.flat());
      // These end some of the sequences at different times; stop tokens must change nothing else.
      const stopTokens = [alone[0]![0]!.tokens[4]!, alone[3]![0]!.tokens[20]!, alone[4]![0]!.tokens[14]!];
      const cut = alone.map(([result]) => {
        const end = result!.tokens.findIndex((token) => stopTokens.includes(token));
        return end === -1 ? result : { tokens: result!.tokens.slice(0, end), finishReason: "stop" };
      });
      expect(new Set(cut.map((result) => result!.tokens.length)).size).toBeGreaterThan(2);
      expect(await generateTokens(model, prompts, { ...options, stopTokens })).toEqual(cut);
    });
  });

  test("no stop token is chosen before minTokens tokens", async () => {
    using model = smallGpt(device);
    const prompts = [someTokens(3, 1), someTokens(9, 2), someTokens(5, 3)];
    const ends = Array.from({ length: model.config.vocabularySize / 2 }, (_, i) => 2 * i);
    const options = { seed: 5, maxTokens: 12, stopTokens: ends };
    const lengths = [];
    for (const minTokens of [0, 1, 5, 12]) {
      const results = await generateTokens(model, prompts, { ...options, minTokens });
      for (const [i, prompt] of prompts.entries())
        expect(results[i]!.tokens).toEqual(await slowly(model, prompt, { ...options, minTokens }));
      lengths.push(Math.min(...results.map(({ tokens }) => tokens.length)));
    }
    expect(lengths[0]).toBeLessThan(5);
    for (const [i, minTokens] of [0, 1, 5, 12].entries()) expect(lengths[i]).toBeGreaterThanOrEqual(minTokens);
  });

  test("a seed gives the same tokens again, another one others, none a random one", async () => {
    using model = smallGpt(device);
    const run = async (options: TokenOptions): Promise<number[]> =>
      (await generateTokens(model, [[1, 2, 3]], { maxTokens: 20, ...options }))[0]!.tokens;
    expect(await run({ seed: 1 })).toEqual(await run({ seed: 1 }));
    expect(await run({ seed: 1 })).not.toEqual(await run({ seed: 2 }));
    expect(await run({})).not.toEqual(await run({}));
  });

  test("copies of a prompt are sampled independently, the first as if alone", async () => {
    using model = smallGpt(device);
    const options = { seed: 4, maxTokens: 20 };
    const [a, other, b, c] = await generateTokens(model, [[1, 2], [3], [1, 2], [1, 2]], options);
    expect(new Set([a, b, c].map((result) => result!.tokens.join())).size).toBe(3);
    expect([a]).toEqual(await generateTokens(model, [[1, 2]], options));
    expect([other]).toEqual(await generateTokens(model, [[3]], options));
  });

  test("long prompts that differ before the part that fits into the context are not copies", async () => {
    using model = smallGpt(device, { contextLength: 8 });
    const options = { seed: 4, maxTokens: 20, overflow: "slide" } as const;
    const prompts = [9, 10].map((first) => [first, ...someTokens(8, 8)]);
    const alone = await Promise.all(prompts.map((prompt) => generateTokens(model, [prompt], options)));
    expect(await generateTokens(model, prompts, options)).toEqual(alone.flat());
  });

  test("draws depend on the position, so that a generation can be continued", async () => {
    using model = smallGpt(device);
    const prompt = someTokens(4, 8);
    const [whole] = await generateTokens(model, [prompt], { seed: 5, maxTokens: 16 });
    const [first] = await generateTokens(model, [prompt], { seed: 5, maxTokens: 7 });
    const [rest] = await generateTokens(model, [[...prompt, ...first!.tokens]], { seed: 5, maxTokens: 9 });
    expect([...first!.tokens, ...rest!.tokens]).toEqual(whole!.tokens);
  });

  test("topK 1, and a temperature or topP near 0, are greedy", async () => {
    using model = smallGpt(device);
    const run = (options: TokenOptions) => generateTokens(model, [[5, 6]], { maxTokens: 20, seed: 3, ...options });
    const greedy = await run({ temperature: 0 });
    expect(await run({ topK: 1 })).toEqual(greedy);
    expect(await run({ temperature: 1e-6 })).toEqual(greedy);
    expect(await run({ topP: 1e-6 })).toEqual(greedy);
    expect(await run({})).not.toEqual(greedy);
  });

  test("prompts may be typed arrays", async () => {
    using model = smallGpt(device);
    const options = { maxTokens: 5, seed: 1 };
    expect(await generateTokens(model, [Int32Array.of(4, 5)], options)).toEqual(
      await generateTokens(model, [[4, 5]], options),
    );
  });

  test("a sequence ends when the context is full, and longer prompts are refused, unless it may slide", async () => {
    using model = smallGpt(device);
    const options = { maxTokens: 70, seed: 11 };
    const prompts = [someTokens(3, 1), someTokens(24, 2), someTokens(20, 3)];
    const results = await generateTokens(model, prompts, options);
    // The last token is never fed back, so it may be the one beyond the context.
    expect(results.map(({ tokens }) => tokens.length)).toEqual([22, 1, 5]);
    expect(results.map(({ finishReason }) => finishReason)).toEqual(["length", "length", "length"]);
    const sliding = await generateTokens(model, prompts, { ...options, overflow: "slide" });
    for (const [i, { tokens }] of results.entries()) expect(sliding[i]!.tokens.slice(0, tokens.length)).toEqual(tokens);
    await expect(generateTokens(model, [[1], someTokens(25, 4)], options)).rejects.toMatchObject({
      code: "ERR_RANGE",
      message:
        "generateTokens: expected prompts[1] to fit into the context of 24 tokens, got 25; " +
        'overflow: "slide" drops the start',
    });
    expect(await generateTokens(model, prompts, { ...options, overflow: "error" })).toEqual(results);
    expect(await generateTokens(model, [someTokens(25, 4)], { ...options, overflow: "slide" })).toHaveLength(1);
  });

  test("the smallest contexts slide too", async () => {
    for (const contextLength of [1, 2, 3]) {
      using model = smallGpt(device, { contextLength });
      const options = { maxTokens: 12, seed: 2, overflow: "slide" } as const;
      const prompts = [[1], [2, 3], [4, 5, 6, 7]];
      const results = await generateTokens(model, prompts, options);
      for (const [i, prompt] of prompts.entries())
        expect(results[i]!.tokens).toEqual(await slowly(model, prompt, options));
    }
  });

  test("the device is a step ahead of the host, but never more, nor after the last token", async () => {
    // A context of 4 is full before the fifth token: the fourth is waited for, and then one more pass fills the cache
    // anew.
    for (const [contextLength, expected] of [
      [32, [1, 1, 1, 1, 1, 0]],
      [4, [1, 1, 1, 0, 2, 1]],
    ] as const) {
      using model = new RoteModel(circle(8), device, contextLength);
      const ahead: number[] = [];
      let tokens = 0;
      const onToken = (): number => ahead.push(model.passes.length - ++tokens);
      const [result] = await generateTokens(model, [[0]], {
        ...{ temperature: 0, maxTokens: 6, onToken },
        overflow: "slide",
      });
      expect(result!.tokens).toEqual([1, 2, 3, 4, 5, 6]);
      expect(ahead).toEqual(expected);
      expect(model.recorded).toBe(false);
    }
  });

  test("nothing is begun after an abort", async () => {
    using model = new RoteModel(circle(8), device, 4);
    for (const after of [1, 2, 3, 4, 5]) {
      model.passes.length = 0;
      const controller = new AbortController();
      let tokens = 0;
      let passes = 0;
      const onToken = (): void => {
        passes = model.passes.length;
        if (++tokens === after) controller.abort();
      };
      const options = { temperature: 0, maxTokens: 8, overflow: "slide", onToken, signal: controller.signal } as const;
      await expect(generateTokens(model, [[0]], options)).rejects.toMatchObject({ name: "AbortError" });
      expect([tokens, model.passes.length]).toEqual([after, passes]);
    }
  });

  test("sequences that have ended leave the batch", async () => {
    using model = new RoteModel(circle(30), device);
    // They end after 2, 4, 6, 8, 10 and 12 tokens.
    const prompts = [27, 25, 23, 21, 19, 17].map((token) => [token]);
    const results = await generateTokens(model, prompts, { temperature: 0, maxTokens: 20, stopTokens: [0] });
    expect(results.map(({ tokens }) => tokens.length)).toEqual([2, 4, 6, 8, 10, 12]);
    expect(results.map(({ finishReason }) => finishReason)).toEqual(Array(6).fill("stop"));
    for (const [i, [token]] of prompts.entries())
      expect(results[i]!.tokens).toEqual(Array.from({ length: 2 * i + 2 }, (_, n) => token! + 1 + n));
    const batches = model.passes.map(([batch]) => batch);
    expect(batches.slice(0, 8)).toEqual(Array(8).fill(6));
    expect([...new Set(batches)]).toEqual([6, 3, 1]);
    expect(batches.length).toBeLessThan(16);
  });

  test("onToken gets every token and its prompt, in order", async () => {
    using model = smallGpt(device);
    const heard: number[][] = [[], []];
    const results = await generateTokens(model, [[1], [2, 3]], {
      maxTokens: 9,
      seed: 1,
      onToken: (token, sequence) => heard[sequence]!.push(token),
    });
    expect(heard).toEqual(results.map(({ tokens }) => tokens));
  });

  test("the model keeps its mode, and other work gets its turn", async () => {
    using model = smallGpt(device);
    const modes = new Set<boolean>();
    let turns = 0;
    let running = true;
    const watch = (): void => {
      for (const [, module] of model.modules()) modes.add(module.training);
      turns++;
      if (running) setImmediate(watch);
    };
    setImmediate(watch);
    await generateTokens(model, [[1]], { maxTokens: 30, seed: 1, overflow: "slide" });
    running = false;
    expect([...modes]).toEqual([true]);
    expect(turns).toBeGreaterThan(15);
    model.eval();
    await generateTokens(model, [[1]], { maxTokens: 3, seed: 1 });
    expect([...model.modules()].every(([, module]) => !module.training)).toBe(true);
  });

  test("several generations run side by side", async () => {
    using model = smallGpt(device);
    const prompts = [[1], [2, 3], [4, 5, 6]];
    const options = { maxTokens: 40, seed: 9 };
    const together = await Promise.all(prompts.map((prompt) => generateTokens(model, [prompt], options)));
    for (const [i, prompt] of prompts.entries())
      expect(await generateTokens(model, [prompt], options)).toEqual(together[i]);
  });

  test("does not belong to the scope it is called in", async () => {
    using model = smallGpt(device);
    let running: Promise<unknown> | undefined;
    const options = { maxTokens: 30, seed: 9, repetitionPenalty: 1.1 };
    scope(() => {
      running = generateTokens(model, [[1, 2]], options);
    });
    expect(await running).toEqual(await generateTokens(model, [[1, 2]], options));
  });

  describe("frees its memory", () => {
    async function leavesNothing(model: GPT, body: () => Promise<unknown>): Promise<void> {
      const { live, tensors } = model.device.memory();
      await body();
      expect(model.device.memory()).toMatchObject({ live, tensors });
    }
    const options = { maxTokens: 60, seed: 1, repetitionPenalty: 1.1, overflow: "slide" } as const;
    const prompts = [[1], [2, 3], someTokens(30, 1)];

    test("at the end", async () => {
      using model = smallGpt(device);
      await leavesNothing(model, () => generateTokens(model, prompts, options));
      const [first] = await generateTokens(model, [[1]], options);
      await leavesNothing(model, () =>
        generateTokens(model, prompts, { ...options, stopTokens: [first!.tokens[3]!, first!.tokens[30]!] }),
      );
    });

    test("when onToken throws", async () => {
      using model = smallGpt(device);
      const failure = new Error("enough");
      let tokens = 0;
      const onToken = (): void => {
        if (++tokens === 17) throw failure;
      };
      await leavesNothing(model, () =>
        expect(generateTokens(model, prompts, { ...options, onToken })).rejects.toBe(failure),
      );
    });

    test("when the model throws", async () => {
      using model = smallGpt(device);
      const failure = new Error("no");
      const forward = model.forward.bind(model);
      let passes = 0;
      model.forward = (...args) => {
        if (++passes === 9) throw failure;
        return forward(...args);
      };
      await leavesNothing(model, () => expect(generateTokens(model, prompts, options)).rejects.toBe(failure));
    });

    test("when aborted, whenever that is", async () => {
      using model = smallGpt(device);
      const reason = new Error("no longer needed");
      for (const after of [1, 2, 5, 30, 100]) {
        const controller = new AbortController();
        let tokens = 0;
        const onToken = (): void => {
          if (++tokens === after) controller.abort(reason);
        };
        const { signal } = controller;
        await leavesNothing(model, () =>
          expect(generateTokens(model, prompts, { ...options, onToken, signal })).rejects.toBe(reason),
        );
        // At most the tokens of the step that was being handed out.
        expect(tokens).toBeLessThan(after + prompts.length);
        expect(getEventListeners(signal, "abort")).toEqual([]);
      }
    });
  });

  test("an abort does not wait for the device", async () => {
    using model = smallGpt(device);
    const controller = new AbortController();
    let settled = false;
    const running = generateTokens(model, [[1]], { signal: controller.signal }).finally(() => (settled = true));
    controller.abort();
    // This waits only for a few turns of promises, so no read can have returned.
    for (let i = 0; i < 10; i++) await Promise.resolve();
    expect(settled).toBe(true);
    await expect(running).rejects.toMatchObject({ name: "AbortError" });
  });

  test("aborted before it begins, it does nothing", async () => {
    using model = new RoteModel(circle(8), device);
    const signal = AbortSignal.abort("a reason that is no error");
    await expect(generateTokens(model, [[1]], { signal })).rejects.toBe("a reason that is no error");
    expect(model.passes).toEqual([]);
  });

  test("a signal that never comes leaves no listeners", async () => {
    using model = new RoteModel(circle(8), device);
    const { signal } = new AbortController();
    await generateTokens(model, [[1]], { signal, maxTokens: 20 });
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });
});
