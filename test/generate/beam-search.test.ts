import { getEventListeners } from "node:events";
import { describe, expect, test } from "vitest";
import { beamSearch, type BeamSearchOptions, wuPenalty } from "../../lib/generate/beam-search.js";
import type { Hypothesis } from "../../lib/generate/beam.js";
import { infer } from "../../lib/generate/causal-model.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import type { GPT } from "../../lib/models/gpt.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import { logSoftmax } from "../support/functions.js";
import { circle, devices, RoteModel, smallGpt, someTokens } from "./models.js";

/**
 * Returns the log softmax in float64 of the tokens that may follow some tokens, by a full forward pass without a cache.
 */
type NextOf = (tokens: readonly number[]) => Promise<number[]>;

function nextOf(model: GPT): NextOf {
  const known = new Map<string, number[]>();
  return async (tokens) => {
    const key = tokens.join();
    const before = known.get(key);
    if (before) return before;
    const logits = infer(model, () => {
      const ids = tensor(Int32Array.from(tokens), [1, tokens.length], { device: model.device });
      return model.forward(ids, { lastOnly: true });
    });
    const result = logSoftmax(await logits.data());
    logits.dispose();
    known.set(key, result);
    return result;
  };
}

type Penalty = (length: number) => number;

/** Returns all possible sequences, best first. */
async function everything(
  next: NextOf,
  prompt: number[],
  limit: number,
  stop: number,
  minTokens: number,
  penalty: Penalty,
): Promise<Hypothesis[]> {
  const found: Hypothesis[] = [];
  async function extend(tokens: number[], total: number): Promise<void> {
    const end = (total: number, length: number, finishReason: Hypothesis["finishReason"]): number =>
      found.push({ tokens, total, score: total / penalty(length), finishReason });
    if (tokens.length === limit) {
      end(total, limit, "length");
      return;
    }
    for (const [token, log] of (await next([...prompt, ...tokens])).entries())
      if (token !== stop) await extend([...tokens, token], total + log);
      else if (tokens.length >= minTokens) end(total + log, tokens.length + 1, "stop");
  }
  await extend([], 0);
  return found.sort((a, b) => b.score - a.score);
}

/** Beam search as in textbooks, which sorts the whole vocabulary at every step. */
async function naive(next: NextOf, prompt: number[], limit: number, options: BeamSearchOptions): Promise<Hypothesis[]> {
  const { beams = 4, nBest = 1, minTokens = 0, stopTokens = [], lengthPenalty = 1, earlyStopping = true } = options;
  const penalty = typeof lengthPenalty === "number" ? (n: number) => n ** lengthPenalty : lengthPenalty;
  let alive: { tokens: number[]; total: number }[] = [{ tokens: [], total: 0 }];
  const ended: Hypothesis[] = [];
  const ranking = (): Hypothesis[] => ended.toSorted((a, b) => b.score - a.score);
  for (let length = 1; length <= limit; length++) {
    const all: { tokens: number[]; total: number; token: number }[] = [];
    for (const { tokens, total } of alive)
      for (const [token, log] of (await next([...prompt, ...tokens])).entries())
        if (!stopTokens.includes(token) || tokens.length >= minTokens) all.push({ tokens, total: total + log, token });
    all.sort((a, b) => b.total - a.total);
    for (const { tokens, total, token } of all.slice(0, beams))
      if (stopTokens.includes(token))
        ended.push({ tokens, total, score: total / penalty(length), finishReason: "stop" });
    alive = all
      .filter(({ token }) => !stopTokens.includes(token))
      .slice(0, beams)
      .map(({ tokens, total, token }) => ({ tokens: [...tokens, token], total }));
    if (length === limit)
      for (const { tokens, total } of alive)
        ended.push({ tokens, total, score: total / penalty(length), finishReason: "length" });
    else if (earlyStopping && ended.length >= beams) break;
    else if (!earlyStopping && ended.length >= nBest) {
      const worst = ranking()[nBest - 1]!.score;
      const later = Array.from({ length: limit - length }, (_, i) => penalty(length + 1 + i));
      if (alive.every(({ total }) => later.every((divisor) => total / divisor <= worst))) break;
    }
  }
  return ranking().slice(0, nBest);
}

function expectHypotheses(found: Hypothesis[], expected: Hypothesis[]): void {
  const rough = ({ tokens, finishReason }: Hypothesis): object => ({ tokens, finishReason });
  expect(found.map(rough)).toEqual(expected.map(rough));
  for (const [i, { total, score }] of expected.entries()) {
    expect(found[i]!.total).toBeCloseTo(total, 4);
    expect(found[i]!.score).toBeCloseTo(score, 4);
  }
}

describe.for(devices)("beamSearch on %s", (device) => {
  const penalties: [string, number | Penalty][] = [
    ["none", 0],
    ["a reward of short ones", -0.5],
    ["that of Wu et al.", wuPenalty(0.7)],
    ["the mean", 1],
    ["one that rises and falls", (length) => 1 + Math.abs(length - 2)],
  ];

  // The host computes the scores, so a few penalties are enough on the slow software device.
  describe.for(device === "cpu" ? penalties : penalties.slice(-2))("with %s as length penalty", ([, lengthPenalty]) => {
    const penalty = typeof lengthPenalty === "number" ? (n: number) => n ** lengthPenalty : lengthPenalty;

    test("finds the best of all sequences, if its beams hold them all", async () => {
      using model = smallGpt(device, { vocabularySize: 5 });
      using oracle = smallGpt("cpu", { vocabularySize: 5 });
      const next = nextOf(oracle);
      for (const minTokens of [0, 2]) {
        const prompt = someTokens(4, 1, 5);
        const options = { beams: 256, nBest: 40, maxTokens: 4, minTokens, stopTokens: [3], lengthPenalty };
        const [found] = await beamSearch(model, [prompt], { ...options, earlyStopping: false });
        const best = await everything(next, prompt, 4, 3, minTokens, penalty);
        expectHypotheses(found!, best.slice(0, 40));
        expect(new Set(found!.map(({ finishReason }) => finishReason)).size).toBe(2);
      }
    });

    test.for([1, 2, 3, 5])("is the textbook's search with %i beams, alone and in a batch", async (beams) => {
      const contextLength = 12;
      using model = smallGpt(device, { contextLength, vocabularySize: 23 });
      using oracle = smallGpt("cpu", { contextLength, vocabularySize: 23 });
      const next = nextOf(oracle);
      const prompts = [3, 1, contextLength, 7, 2, contextLength - 2].map((length, i) => someTokens(length, i, 23));
      for (const earlyStopping of [true, false]) {
        const stopTokens = [4, 9, 11, 17];
        const options = { beams, nBest: beams, maxTokens: 8, stopTokens, lengthPenalty, earlyStopping, minTokens: 1 };
        const together = await beamSearch(model, prompts, options);
        for (const [i, prompt] of prompts.entries()) {
          const limit = Math.min(8, contextLength + 1 - prompt.length);
          expectHypotheses(together[i]!, await naive(next, prompt, limit, options));
        }
        const best = await beamSearch(model, prompts.slice(3, 4), { ...options, nBest: 1 });
        if (earlyStopping) expectHypotheses(best[0]!, together[3]!.slice(0, 1));
      }
    });
  });

  test("one beam is greedy", async () => {
    using model = smallGpt(device);
    const prompts = [3, 24, 1, 9, 23].map((length, i) => someTokens(length, i));
    const options = { maxTokens: 30, stopTokens: [1, 2, 3, 5, 8, 13, 21, 34, 55] };
    const greedy = await generateTokens(model, prompts, { ...options, temperature: 0 });
    expect(new Set(greedy.map(({ finishReason }) => finishReason)).size).toBe(2);
    const found = await beamSearch(model, prompts, { ...options, beams: 1 });
    expect(found.map(([best]) => ({ tokens: best!.tokens, finishReason: best!.finishReason }))).toEqual(greedy);
  });

  test("finds likelier sequences than greedy search", async () => {
    using model = smallGpt(device);
    const prompts = Array.from({ length: 6 }, (_, i) => someTokens(2, i));
    const options = { maxTokens: 8, lengthPenalty: 0 };
    const greedy = await beamSearch(model, prompts, { ...options, beams: 1 });
    const wide = await beamSearch(model, prompts, { ...options, beams: 8 });
    const gains = wide.map(([best], i) => best!.total - greedy[i]![0]!.total);
    expect(Math.max(...gains)).toBeGreaterThan(0.1);
  });

  test("of equal candidates the lower token, and before it the better hypothesis', is first", async () => {
    // All tokens are equally likely.
    using flat = smallGpt(device, { vocabularySize: 5 });
    for (const weight of flat.parameters()) weight.set(new Float32Array(weight.size));
    const [found] = await beamSearch(flat, [[2]], { beams: 3, nBest: 3, maxTokens: 2 });
    expect(found!.map(({ tokens }) => tokens)).toEqual([
      [0, 0],
      [0, 1],
      [0, 2],
    ]);
    for (const { total, score } of found!) {
      expect(total).toBeCloseTo(-2 * Math.log(5), 5);
      expect(score).toBeCloseTo(-Math.log(5), 5);
    }
  });

  test("computes log-probabilities whose probability is 0 in f32", async () => {
    using model = new RoteModel(circle(3), device);
    const [found] = await beamSearch(model, [[0]], { beams: 9, nBest: 9, maxTokens: 2, lengthPenalty: 0 });
    expect(found!.map(({ total }) => Math.round(total))).toEqual([0, -100, -100, -100, -100, -200, -200, -200, -200]);
    expect(found![0]!.tokens).toEqual([1, 2]);
  });

  test("returns fewer if there are fewer", async () => {
    using model = new RoteModel(circle(3), device);
    const [found] = await beamSearch(model, [[0]], { beams: 7, nBest: 5, maxTokens: 1, stopTokens: [2] });
    expect(found!.map(({ tokens, finishReason }) => [tokens, finishReason])).toEqual([
      [[1], "length"],
      [[], "stop"],
      [[0], "length"],
    ]);
  });

  test("finished prompts leave the batch, and the others are searched as if alone", async () => {
    using model = new RoteModel(circle(30), device);
    const prompts = [27, 17, 23].map((token) => [token]);
    const results = await beamSearch(model, prompts, { beams: 1, maxTokens: 20, stopTokens: [0] });
    expect(results.map(([best]) => best!.tokens.length)).toEqual([2, 12, 6]);
    const batches = model.passes.map(([batch]) => batch);
    expect(batches).toEqual([3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
    expect(model.recorded).toBe(false);
  });

  test("ends when the context is full, and refuses prompts that do not fit", async () => {
    using model = smallGpt(device);
    const results = await beamSearch(model, [someTokens(20, 1), someTokens(24, 2)], { beams: 3, nBest: 3 });
    expect(results.map((found) => found.map(({ tokens }) => tokens.length))).toEqual([
      [5, 5, 5],
      [1, 1, 1],
    ]);
    await expect(beamSearch(model, [[1], someTokens(25, 4)])).rejects.toMatchObject({
      code: "ERR_RANGE",
      message: "beamSearch: expected prompts[1] to fit into the context of 24 tokens, got 25",
    });
  });

  test("prompts may be typed arrays; the caller's scope does not matter, nor the model's mode", async () => {
    using model = smallGpt(device);
    let running: Promise<unknown> | undefined;
    scope(() => {
      running = beamSearch(model, [Int32Array.of(4, 5)], { maxTokens: 6 });
    });
    expect(await running).toEqual(await beamSearch(model, [[4, 5]], { maxTokens: 6 }));
    expect([...model.modules()].every(([, module]) => module.training)).toBe(true);
  });

  const argument = "ERR_ARGUMENT";
  const range = "ERR_RANGE";
  test.for<[object | null, string, string]>([
    [null, argument, "expected options to be an object, got null"],
    [{ beams: 0 }, range, "expected beams to be an integer from 1 to 9007199254740991, got 0"],
    [{ beams: 2.5 }, range, "expected beams to be an integer from 1 to 9007199254740991, got 2.5"],
    [{ beams: 2, nBest: 3 }, range, "expected nBest to be an integer from 1 to 2, got 3"],
    [{ maxTokens: 0 }, range, "expected maxTokens to be an integer from 1 to 9007199254740991, got 0"],
    [{ maxTokens: 5, minTokens: 6 }, range, "expected minTokens to be an integer from 0 to 5, got 6"],
    [{ stopTokens: 3 }, argument, "expected stopTokens to be an array of token ids, got 3"],
    [{ stopTokens: [8] }, range, "expected stopTokens[0] to be an integer from 0 to 7, got 8"],
    [{ lengthPenalty: "1" }, range, "expected lengthPenalty to be a number"],
    [{ lengthPenalty: NaN }, range, "expected lengthPenalty to be a number"],
    [{ lengthPenalty: () => 0 }, range, "expected the length penalty of 1 tokens to be a number"],
    [{ lengthPenalty: (n: number) => 3 - n }, range, "expected the length penalty of 3 tokens to be a number"],
    [{ lengthPenalty: () => "x" }, range, "expected the length penalty of 1 tokens to be a number"],
    [{ earlyStopping: "never" }, argument, 'expected earlyStopping to be a boolean, got "never"'],
    [{ signal: {} }, argument, "expected signal to be an AbortSignal, got an object"],
  ])("refuses %o", async ([options, code, message]) => {
    using model = new RoteModel(circle(8), device);
    const { live } = model.device.memory();
    await expect(beamSearch(model, [[1]], options as never)).rejects.toMatchObject({
      name: "HeedError",
      code,
      message: expect.stringContaining(`beamSearch: ${message}`),
    });
    expect(model.passes).toEqual([]);
    expect(model.device.memory().live).toBe(live);
  });

  test.for<[unknown, string, string]>([
    [[], argument, "expected an array of prompts, got an array of 0"],
    [[[]], argument, "expected prompts[0] to have at least one token, got none"],
    [[[8]], range, "expected prompts[0][0] to be an integer from 0 to 7, got 8"],
    ["text", argument, 'expected an array of prompts, got "text"'],
  ])("refuses prompts %o", async ([prompts, code, message]) => {
    using model = new RoteModel(circle(8), device);
    await expect(beamSearch(model, prompts as never)).rejects.toMatchObject({
      code,
      message: `beamSearch: ${message}`,
    });
  });

  test("frees its memory: at the end, when the model throws, and when aborted, whenever that is", async () => {
    using model = smallGpt(device);
    const { live, tensors } = model.device.memory();
    const prompts = [[1], [2, 3], someTokens(20, 1)];
    const whole = await beamSearch(model, prompts, { beams: 3, maxTokens: 12 });
    expect(model.device.memory()).toMatchObject({ live, tensors });
    const forward = model.forward.bind(model);
    const reason = new Error("no longer needed");
    for (const after of [1, 2, 4, 7]) {
      let passes = 0;
      model.forward = (...args) => {
        if (++passes === after) throw reason;
        return forward(...args);
      };
      await expect(beamSearch(model, prompts, { beams: 3, maxTokens: 12 })).rejects.toBe(reason);
      expect(model.device.memory()).toMatchObject({ live, tensors });
      const controller = new AbortController();
      const { signal } = controller;
      passes = 0;
      model.forward = (...args) => {
        if (++passes === after) controller.abort(reason);
        return forward(...args);
      };
      await expect(beamSearch(model, prompts, { beams: 3, maxTokens: 12, signal })).rejects.toBe(reason);
      expect(model.device.memory()).toMatchObject({ live, tensors });
      expect(passes).toBe(after);
      expect(getEventListeners(signal, "abort")).toEqual([]);
    }
    model.forward = forward;
    expect(await beamSearch(model, prompts, { beams: 3, maxTokens: 12 })).toEqual(whole);
    await expect(beamSearch(model, prompts, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

test("the penalty of Wu et al. is their equation 14", () => {
  expect(wuPenalty(0.6)(1)).toBe(1);
  expect(wuPenalty(0.6)(7)).toBeCloseTo(1.5157165665, 9); // 2^0.6
  expect(wuPenalty(0)(100)).toBe(1);
  expect(() => wuPenalty(NaN)).toThrow("wuPenalty: expected alpha to be a number");
});
