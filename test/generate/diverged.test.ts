/**
 * Models that diverge on some sequences only. In one kind of them, the embedding of a token is NaN, so that a sequence
 * is unaffected until it gets that token; if the projection is another tensor, no other sequence is affected.
 */
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { HeedError } from "../../lib/util/errors.js";
import { beamSearch } from "../../lib/generate/beam-search.js";
import { DivergedError } from "../../lib/generate/diverged.js";
import { generate } from "../../lib/generate/generate-text.js";
import { type GeneratedTokens, generateTokens } from "../../lib/generate/generate-tokens.js";
import type { TokenOptions } from "../../lib/generate/options.js";
import { score } from "../../lib/generate/score.js";
import { translate } from "../../lib/generate/translate.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import type { GPT } from "../../lib/models/gpt.js";
import { narrow } from "../../lib/ops/views.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { Random } from "../support/random.js";
import { settled } from "../support/settled.js";
import { circle, devices, RoteModel, smallGpt, someTokens } from "./models.js";

/** Overwrites a row of a table. */
function setRow(table: FloatTensor, row: number, value: (column: number) => number): void {
  using view = noGrad(() => narrow(table, 0, row, 1));
  view.set(Array.from({ length: table.shape[1]! }, (_, column) => value(column)));
}

const spoil = (table: FloatTensor, row: number): void => setRow(table, row, () => NaN);

const message = (op: string, token: string): string =>
  `${op}: the model has diverged: expected finite logits for ${token}, got NaN or Infinity (or -Infinity for every token)`;

const diverged = (op: string, token: string): PromiseRejectedResult => ({
  status: "rejected",
  reason: new HeedError("ERR_DIVERGED", message(op, token)),
});

/** Returns the expected results once a token's embedding is NaN, and how many of them diverge. */
function withoutToken(prompts: number[][], healthy: GeneratedTokens[], token: number) {
  let count = 0;
  const results = healthy.map((value, row): PromiseSettledResult<GeneratedTokens> => {
    const at = [...prompts[row]!, ...value.tokens].indexOf(token) - prompts[row]!.length;
    // The last token is not fed back.
    if (at === -1 - prompts[row]!.length || at === value.tokens.length - 1) return { status: "fulfilled", value };
    count++;
    return diverged("generateTokens", `token ${Math.max(at, -1) + 2} after prompts[${row}]`);
  });
  return { results, count };
}

const dtypes = ["f32", "bf16", "f16"] as const;

describe.for(devices)("a model that diverges on %s", (device) => {
  const untied = (dtype: FloatDType = "f32"): GPT => {
    const model = smallGpt(device, { contextLength: 12, tied: false });
    model.dtype = dtype;
    return model;
  };
  const prompts = [3, 12, 1, 7, 5].map((length, i) => someTokens(length, i));

  const ways: Record<string, TokenOptions> = {
    greedy: { temperature: 0 },
    sampled: {},
    "with filters and a penalty": { temperature: 1.5, topK: 20, topP: 0.9, repetitionPenalty: 1.3 },
  };
  const cases = Object.entries(ways).flatMap(([name, way], i) =>
    // The software device is slow, so each kind runs with one dtype there.
    dtypes.filter((_, j) => device === "cpu" || i === j).map((dtype) => ({ name, way, dtype })),
  );
  test.for(cases)("ends only that sequence: $name, $dtype", async ({ way, dtype }) => {
    using model = untied(dtype);
    const options = { ...way, seed: 11, maxTokens: device === "cpu" ? 16 : 10 };
    const healthy = await generateTokens(model, prompts, options);
    // A token that comes late in some sequences and not at all in others.
    const tokens = healthy.flatMap((result) => result.tokens.slice(4, -1));
    const token = tokens.find((token) => [1, 2].includes(withoutToken(prompts, healthy, token).count))!;
    const { results } = withoutToken(prompts, healthy, token);
    spoil(model.wte.weight, token);
    for (const recordable of [true, false]) {
      Object.defineProperty(model, "recordable", { value: recordable });
      const heard: number[][] = prompts.map(() => []);
      const onToken = (id: number, sequence: number): number => heard[sequence]!.push(id);
      expect(await settled(generateTokens(model, prompts, { ...options, onToken }))).toEqual(results);
      for (const [row, { tokens }] of healthy.entries()) {
        const end = results[row]!.status === "fulfilled" ? tokens.length : tokens.indexOf(token) + 1;
        expect(heard[row]).toEqual(tokens.slice(0, end));
      }
    }
    const failed = results.findIndex(({ status }) => status === "rejected");
    await expect(generateTokens(model, [prompts[failed]!], options)).rejects.toMatchObject({ code: "ERR_DIVERGED" });
  });

  test("in the first step too, and the padding of shorter prompts has no effect", async () => {
    using model = untied();
    const options = { temperature: 0, maxTokens: 10 };
    const healthy = await generateTokens(model, prompts, options);
    // 0 is the padding, whose row must not matter; the other token occurs in the longest prompt.
    for (const token of [0, prompts[1]![10]!]) {
      const { results, count } = withoutToken(prompts, healthy, token);
      expect(count).toBeLessThan(4);
      using spoilt = untied();
      spoil(spoilt.wte.weight, token);
      expect(await settled(generateTokens(spoilt, prompts, options))).toEqual(results);
    }
  });

  test("reports the number of sequences, and leaves nothing in memory", async () => {
    using model = untied();
    const { live, tensors } = model.device.memory();
    for (const token of [7, 8]) spoil(model.wte.weight, token);
    const error: unknown = await generateTokens(model, [[7], [1], [1, 8], [8]], { maxTokens: 1 }).catch(
      (error: unknown) => error,
    );
    expect(error).toBeInstanceOf(DivergedError);
    expect(error).toMatchObject({
      name: "HeedError",
      code: "ERR_DIVERGED",
      message: `${message("generateTokens", "token 1 after prompts[0]")}; it has diverged on 3 of 4 prompts`,
    });
    await expect(generateTokens(model, [[7], [8, 9]])).rejects.toThrow("it has diverged on 2 of 2 prompts");
    expect(model.device.memory()).toMatchObject({ live, tensors });
  });

  describe("logits", () => {
    /** Returns a model with 0 → 1 → … → 9 → 0, except that the logits after 5 are these. */
    const after5 = (logits: (token: number) => number): RoteModel => {
      const model = new RoteModel(circle(10), device);
      setRow(model.table, 5, logits);
      return model;
    };
    const without: [string, (token: number) => number][] = [
      ["NaN", () => NaN],
      ["one NaN", (token) => (token === 8 ? NaN : token)],
      ["one NaN below -Infinity", (token) => (token === 8 ? NaN : token === 3 ? 1 : -Infinity)],
      ["one Infinity", (token) => (token === 8 ? Infinity : token)],
      ["-Infinity alone", () => -Infinity],
    ];
    test.for(without)("of %s have no distribution", async ([, logits]) => {
      using model = after5(logits);
      for (const options of [{ temperature: 0 }, { seed: 1 }, { topK: 3 }, { topP: 0.5 }, { minP: 0.5 }])
        expect(await settled(generateTokens(model, [[2], [7]], { ...options, maxTokens: 6 }))).toEqual([
          diverged("generateTokens", "token 4 after prompts[0]"),
          { status: "fulfilled", value: { tokens: [8, 9, 0, 1, 2, 3], finishReason: "length" } },
        ]);
      const [first, second] = await settled(beamSearch(model, [[2], [7]], { beams: 1, maxTokens: 6 }));
      expect(first).toEqual(diverged("beamSearch", "token 4 after prompts[0]"));
      expect(second).toMatchObject({ value: [{ tokens: [8, 9, 0, 1, 2, 3], finishReason: "length" }] });
      await expect(score(model, [3, 4, 5, 6, 7])).rejects.toMatchObject({
        code: "ERR_DIVERGED",
        message: message("score", "tokens[3]"),
      });
      expect((await score(model, [3, 4, 5])).perplexity).toBeCloseTo(1, 5);
    });

    test("that are partly -Infinity suppress tokens", async () => {
      using model = after5((token) => (token === 6 ? -3e38 : -Infinity));
      for (const options of [{ temperature: 0 }, { seed: 1 }, { topK: 3 }, { topP: 0.5 }, { temperature: 1e-30 }])
        expect(await generateTokens(model, [[3]], { ...options, maxTokens: 5 })).toMatchObject([
          { tokens: [4, 5, 6, 7, 8] },
        ]);
      const [found] = await beamSearch(model, [[3]], { beams: 3, maxTokens: 5 });
      expect(found).toMatchObject([{ tokens: [4, 5, 6, 7, 8], total: 0 }]);
      expect(await score(model, [4, 5, 6])).toMatchObject({ total: 0 });
      expect(await score(model, [4, 5, 7])).toMatchObject({ total: -Infinity, perplexity: Infinity });
    });
  });

  test("a beam search ends only for that prompt, in any batch", async () => {
    using model = untied();
    const options = { beams: 3, nBest: 2, maxTokens: 5 };
    const healthy = await beamSearch(model, prompts, options);
    spoil(model.wte.weight, healthy[0]![0]!.tokens[2]!);
    const results = await settled(beamSearch(model, prompts, options));
    expect(new Set(results.map(({ status }) => status)).size).toBe(2);
    // Another hypothesis may have got the token earlier.
    expect(results[0]).toMatchObject({ reason: { code: "ERR_DIVERGED" } });
    for (const [row, result] of results.entries()) {
      if (result.status === "fulfilled") expect(result.value).toEqual(healthy[row]);
      const [alone] = await settled(beamSearch(model, [prompts[row]!], options));
      if (alone!.status === "rejected") expect(alone!.reason).toMatchObject({ code: "ERR_DIVERGED" });
      expect(alone!.status).toBe(result.status);
    }
  });

  test("score names the token, even if the text is longer than one computation", async () => {
    using rote = new RoteModel(circle(12), device, 300);
    spoil(rote.table, 11);
    const tokens = someTokens(200, 3, 11);
    expect((await score(rote, tokens)).total).toBeLessThan(0);
    tokens[150] = 11;
    await expect(score(rote, tokens)).rejects.toMatchObject({
      code: "ERR_DIVERGED",
      message: message("score", "tokens[151]"),
    });
    using model = untied();
    spoil(model.wte.weight, 60);
    expect((await score(model, someTokens(20, 3, 60))).total).toBeLessThan(0);
    await expect(score(model, [...someTokens(15, 3, 60), 60, 1])).rejects.toMatchObject({ code: "ERR_DIVERGED" });
  });

  test("a text rejects after the pieces that came before", async () => {
    using model = new RoteModel(circle(256), device);
    setRow(model.table, 100, () => NaN);
    const { live } = model.device.memory();
    const text = generate(model, new ByteTokenizer(), "a", { temperature: 0, stop: "zz" });
    const pieces: string[] = [];
    const read = async (): Promise<void> => {
      for await (const event of text) pieces.push(event.text);
    };
    await expect(read()).rejects.toMatchObject({
      code: "ERR_DIVERGED",
      message: message("generate", "token 4 after the prompt"),
    });
    expect(pieces.join("")).toBe("bcd");
    await expect(text).rejects.toMatchObject({ code: "ERR_DIVERGED" });
    expect(model.device.memory().live).toBe(live);
  });

  test("translations end only for the sources concerned, with any batch size", async () => {
    const modelOn = (): EncoderDecoder => {
      const sizes = { sourceVocabularySize: 15, contextLength: 12, layers: 1, heads: 2, width: 16 };
      const model = new EncoderDecoder({ ...sizes, startToken: 1, endToken: 2, tied: false }, { device });
      const random = new Random(8);
      for (const [name, weight] of model.namedParameters())
        if (!name.includes("ln_")) weight.set(Array.from({ length: weight.size }, () => 0.5 * random.normal()));
      return model;
    };
    const sources = [[3, 7, 4, 4, 9], [12], [5, 5], [8, 14, 3], [11, 3, 3, 3, 10, 6], [7, 7]];
    using model = modelOn();
    const options = { beams: 2, maxTokens: 5 };
    const healthy = await translate(model, sources, options);
    spoil(model.source.weight, 3);
    const results = healthy.map((value, i) =>
      sources[i]!.includes(3)
        ? diverged("translate", `token 1 after sources[${i}]`)
        : { status: "fulfilled", value: [{ tokens: value[0]!.tokens }] },
    );
    for (const batchSize of [1, 2, 32])
      expect(await settled(translate(model, sources, { ...options, batchSize }))).toMatchObject(results);
  });
});
