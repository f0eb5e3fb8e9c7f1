/**
 * Speculation changes no token: requests with random options to an engine that drafts get the tokens that each gets alone
 * without drafts, whatever joins, leaves, loses its pages or finds them in the prefix cache meanwhile.
 */
import fc from "fast-check";
import { describe, expect } from "vitest";
import { Engine } from "../../lib/engine/engine.js";
import type { EngineRequest } from "../../lib/engine/engine-request.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { devices, smallGpt } from "../generate/models.js";
import { fuzz } from "./fuzz.js";

const vocabularySize = 61;
const contextLength = 64;
const token = fc.integer({ min: 0, max: vocabularySize - 1 });
/** A few tokens over and over, after others: drafts of it are often right for a while. */
const repetitive = fc
  .record({
    first: fc.array(token, { maxLength: 5 }),
    part: fc.array(token, { minLength: 1, maxLength: 6 }),
    times: fc.integer({ min: 1, max: 5 }),
  })
  .map(({ first, part, times }) => [...first, ...Array<number[]>(times).fill(part).flat()]);

const request = fc.record({
  tokens: repetitive,
  shared: fc.boolean(),
  maxTokens: fc.integer({ min: 1, max: 40 }),
  seed: fc.integer({ min: 0, max: 99 }),
  temperature: fc.constantFrom(0, 0, 0.2, 1),
  topK: fc.constantFrom(0, 3),
  repetitionPenalty: fc.constantFrom(1, 1, 0.8, 1.3),
  frequencyPenalty: fc.constantFrom(0, 0, 0.5),
  presencePenalty: fc.constantFrom(0, 0, -1),
  logitBias: fc.constantFrom({}, {}, { 7: 3 }, { 7: -Infinity, 8: 2 }),
  stopTokens: fc.array(token, { maxLength: 6 }),
  minTokens: fc.constantFrom(0, 0, 1, 9),
  overflow: fc.constantFrom("error", "error", "slide"),
  priority: fc.integer({ min: 0, max: 2 }),
  speculation: fc.constantFrom(true, true, true, false),
  /** Number of turns of the event loop before the next request is made. */
  pause: fc.constantFrom(0, 0, 1, 5),
  /** Number of tokens after which the reader leaves. */
  leaves: fc.constantFrom(Infinity, Infinity, Infinity, 0, 3),
});

const draw = fc.record({
  requests: fc.array(request, { minLength: 1, maxLength: 12 }),
  shared: fc.array(token, { minLength: 1, maxLength: 14 }),
  positions: fc.constantFrom("learned", "rotary", "alibi"),
  pageSize: fc.constantFrom(2, 4, 8),
  /** Pages beyond those of one sequence of the whole context. */
  pages: fc.integer({ min: 0, max: 30 }),
  maxBatchTokens: fc.integer({ min: 1, max: 60 }),
  maxSequences: fc.integer({ min: 1, max: 8 }),
  drafts: fc.integer({ min: 1, max: 7 }),
  /** Layers and context of the model that drafts, which has the model's embedding and first layers; null for n-grams. */
  draft: fc.constantFrom(
    null,
    null,
    { layers: 2, contextLength },
    { layers: 1, contextLength },
    { layers: 1, contextLength: 30 },
  ),
  adaptive: fc.constantFrom(false, false, true),
});

/** Prompts and limits that end around the borders of pages, of whose numbers a power of two has room. */
const border = fc.record({
  pageSize: fc.constantFrom(2, 4, 8, 16),
  /** Number of pages of which the sequence fills about all. */
  pages: fc.constantFrom(1, 2, 3, 4, 5, 7, 8),
  beyond: fc.integer({ min: -3, max: 3 }),
  /** Share of the tokens that the prompt has. */
  share: fc.double({ min: 0, max: 1, noNaN: true }),
  part: fc.array(token, { minLength: 1, maxLength: 4 }),
  drafts: fc.integer({ min: 1, max: 16 }),
  draft: fc.constantFrom(null, 1, 2),
  count: fc.integer({ min: 1, max: 3 }),
});

describe.each(devices)("on %s", (device) => {
  const few = device === "cpu" ? { ci: 40, nightly: 3000 } : { ci: 1, nightly: 50 };
  fuzz("sequences that end near the borders of pages", border, few, async (one) => {
    const { pageSize, drafts, part, count } = one;
    using model = smallGpt(device, { contextLength: 160, vocabularySize, positions: "rotary" });
    using draft =
      one.draft === null ? null : smallGpt(device, { contextLength: 160, vocabularySize, layers: one.draft });
    const speculation = { tokens: drafts, adaptive: false, draft };
    await using engine = new Engine(model, { pageSize, speculation });
    const total = Math.max(2, pageSize * one.pages + one.beyond);
    const running = Array.from({ length: count }, async (_, i) => {
      const length = Math.max(1, Math.min(total - 1, Math.round(one.share * total) - i));
      const tokens = Array.from({ length }, (_, at) => part[(at + i) % part.length]!);
      const options = { maxTokens: total - length, temperature: 0 };
      const results: number[] = [];
      for await (const event of engine.generate({ tokens, ...options })) results.push(...event.tokens);
      const [expected] = await generateTokens(model, [tokens], options);
      expect(results).toEqual(expected!.tokens);
    });
    await Promise.all(running);
  });

  const cases = device === "cpu" ? { ci: 6, nightly: 1000 } : { ci: 1, nightly: 50 };
  fuzz("drafts change no token", draw, cases, async (one) => {
    const { requests, shared, positions, pageSize, maxBatchTokens, maxSequences, adaptive } = one;
    using model = smallGpt(device, { contextLength, vocabularySize, positions });
    using draft = one.draft && smallGpt(device, { vocabularySize, positions, ...one.draft });
    const layers = model.config.layers + (draft?.config.layers ?? 0);
    const kvMemory = 2 * layers * model.config.width * 4 * (contextLength + one.pages * pageSize);
    const speculation = { tokens: one.drafts, adaptive, draft };
    await using engine = new Engine(model, { pageSize, kvMemory, maxBatchTokens, maxSequences, speculation });
    const running = requests.map(async ({ shared: shares, pause, leaves, ...given }, i) => {
      for (let turn = 0; turn < i * pause; turn++) await new Promise(setImmediate);
      const tokens = shares ? [...shared, ...given.tokens] : given.tokens;
      const options: EngineRequest = { ...given, minTokens: Math.min(given.minTokens, given.maxTokens), tokens };
      const results: number[] = [];
      for await (const event of engine.generate(options)) {
        results.push(...event.tokens);
        if (results.length > leaves) break;
      }
      return { options, results, leaves };
    });
    for (const { options, results, leaves } of await Promise.all(running)) {
      const { tokens, priority: _, speculation: __, ...alone } = options;
      const [expected] = await generateTokens(model, [tokens!], alone);
      expect(results).toEqual(expected!.tokens.slice(0, leaves + 1));
    }
    const { metrics } = engine;
    expect(metrics).toMatchObject({ running: 0, waiting: 0, pagesUsed: 0 });
    expect(metrics.acceptedTokens).toBeLessThanOrEqual(metrics.draftedTokens);
  });
});
