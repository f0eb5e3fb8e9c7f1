/**
 * A request to an engine gets the tokens and log-probabilities that it gets alone, bit for bit, whatever else the engine
 * does: other requests join, leave, abort and fail, pages run out, prompts come in pieces and beginnings are shared.
 */
import fc from "fast-check";
import { describe, expect } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import type { EngineRequest } from "../../lib/engine/engine-request.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import type { GeneratedText } from "../../lib/generate/generation.js";
import type { TokenOptions } from "../../lib/generate/options.js";
import type { GPT } from "../../lib/models/gpt.js";
import { devices, smallGpt, someTokens } from "../generate/models.js";
import { fuzz } from "./fuzz.js";

const vocabularySize = 61;
const contextLength = 40;

const drawRequest = fc.record({
  /** Index of the long text, one of three, whose first `shared` tokens begin the prompt. */
  text: fc.integer({ min: 0, max: 2 }),
  shared: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 30 })),
  own: fc.integer({ min: 1, max: 10 }),
  maxTokens: fc.integer({ min: 1, max: 25 }),
  minTokens: fc.constantFrom(0, 0, 1, 5),
  temperature: fc.constantFrom(0, 1, 1.5),
  topK: fc.constantFrom(0, 0, 5),
  topP: fc.constantFrom(1, 1, 0.8),
  repetitionPenalty: fc.constantFrom(1, 1, 1.3),
  frequencyPenalty: fc.constantFrom(0, 0, 0.7),
  bias: fc.constantFrom(null, null, 3),
  stops: fc.integer({ min: 0, max: 6 }),
  overflow: fc.constantFrom("error", "error", "slide"),
  n: fc.constantFrom(1, 1, 1, 3),
  logprobs: fc.constantFrom(undefined, 0, 3),
  priority: fc.integer({ min: 0, max: 2 }),
  seed: fc.integer({ min: 0, max: 1000 }),
  /** Turns of the event loop before the request comes. */
  delay: fc.integer({ min: 0, max: 6 }),
  /** Number of tokens after which it is left or aborted. */
  ends: fc.constantFrom("whole", "whole", "whole", "left", "aborted"),
  after: fc.integer({ min: 1, max: 12 }),
});
type Drawn = typeof drawRequest extends fc.Arbitrary<infer T> ? T : never;

const draw = fc.record({
  positions: fc.constantFrom("learned", "rotary", "alibi"),
  window: fc.constantFrom(0, 0, 7),
  kvHeads: fc.constantFrom(1, 4),
  dtype: fc.constantFrom("f32", "f32", "bf16"),
  kvType: fc.constantFrom(null, null, "int8", "f16", "bf16"),
  pageSize: fc.integer({ min: 1, max: 9 }),
  /** Pages beyond those of one sequence of the whole context; null for memory that grows. */
  spare: fc.option(fc.integer({ min: 0, max: 30 })),
  maxBatchTokens: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.constant(512)),
  maxSequences: fc.integer({ min: 1, max: 12 }),
  requests: fc.array(drawRequest, { minLength: 1, maxLength: 12 }),
});
type Case = typeof draw extends fc.Arbitrary<infer T> ? T : never;

function tokensOf({ text, shared, own, seed }: Drawn): number[] {
  return [...someTokens(30, text + 1).slice(0, shared), ...someTokens(own, 10 + seed)];
}

function optionsOf(one: Drawn): TokenOptions & { maxTokens: number } {
  const { maxTokens, temperature, topK, topP, repetitionPenalty, frequencyPenalty, overflow, seed } = one;
  return {
    ...{ maxTokens, temperature, topK, topP, repetitionPenalty, frequencyPenalty, overflow, seed },
    minTokens: Math.min(one.minTokens, maxTokens),
    logitBias: one.bias === null ? {} : { [seed % vocabularySize]: one.bias, [(seed + 1) % vocabularySize]: -Infinity },
    stopTokens: Array.from({ length: one.stops }, (_, i) => (seed * 7 + i * 11) % vocabularySize),
  };
}

/** Returns the texts of a request that an engine has to itself. */
async function aloneIn(model: GPT, kvType: Case["kvType"], one: Drawn): Promise<GeneratedText[]> {
  const { n, logprobs } = one;
  await using engine = new Engine(model, { kvType, pageSize: 16 });
  return (await engine.generate({ tokens: tokensOf(one), ...optionsOf(one), n, logprobs })).choices;
}

/** Runs a request as the schedule says, and checks what it gets. */
async function run(engine: Engine, one: Drawn, alone: readonly GeneratedText[]): Promise<void> {
  for (let i = 0; i < one.delay; i++) await new Promise(setImmediate);
  const control = new AbortController();
  const { n, logprobs, priority } = one;
  const request: EngineRequest = { tokens: tokensOf(one), ...optionsOf(one), n, logprobs, priority };
  const generation = engine.generate({ ...request, signal: control.signal });
  let count = 0;
  const reason = new Error("enough");
  try {
    for await (const { tokens } of generation) {
      count += tokens.length;
      if (count < one.after) continue;
      if (one.ends === "left") break;
      if (one.ends === "aborted") control.abort(reason);
    }
  } catch (error) {
    expect(error).toBe(reason);
    return;
  }
  const { choices } = await generation;
  for (const [i, choice] of choices.entries()) {
    const { tokens } = choice;
    if (choice.finishReason !== "cancelled") expect(tokens).toEqual(alone[i]!.tokens);
    else expect(tokens).toEqual(alone[i]!.tokens.slice(0, tokens.length));
    if (choice.finishReason !== "cancelled") expect(choice.finishReason).toBe(alone[i]!.finishReason);
    expect(choice.logprobs).toEqual(alone[i]!.logprobs?.slice(0, tokens.length));
  }
}

async function check(device: string, schedule: Case): Promise<void> {
  const { positions, window, kvHeads, dtype, kvType, pageSize, spare, requests } = schedule;
  using model = smallGpt(device, { vocabularySize, contextLength, positions, window, kvHeads });
  model.dtype = dtype;
  const alone: GeneratedText[][] = [];
  for (const one of requests) {
    const tokens = tokensOf(one);
    const own = await aloneIn(model, kvType, one);
    if (kvType === null) {
      const twin = await generateTokens(model, Array<number[]>(one.n).fill(tokens), optionsOf(one));
      expect(own.map(({ tokens, finishReason }) => ({ tokens, finishReason }))).toEqual(twin);
    }
    alone.push(own);
  }
  const { maxBatchTokens, maxSequences } = schedule;
  const pages = Math.ceil(contextLength / pageSize) + (spare ?? 0);
  const bytes =
    2 * 2 * kvHeads * (kvType === "int8" ? 8 + 4 : 8 * (dtype === "f32" && kvType === null ? 4 : 2)) * pageSize;
  await using engine = new Engine(model, {
    ...{ kvType, pageSize, maxBatchTokens, maxSequences },
    ...(spare !== null && { kvMemory: pages * bytes }),
  });
  await Promise.all(requests.map((one, i) => run(engine, one, alone[i]!)));
  expect(engine.metrics).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0, pagesShared: 0 });
}

describe.for(devices)("schedules on %s", (device) => {
  const cases = device === "cpu" ? { ci: 12, nightly: 1000 } : { ci: 1, nightly: 50 };
  fuzz("each request gets what it gets alone", draw, cases, (schedule) => check(device, schedule));
});
