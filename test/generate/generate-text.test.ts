import { describe, expect, test } from "vitest";
import type { GenerationEvent } from "../../lib/generate/generation.js";
import { generate } from "../../lib/generate/generate-text.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import type { TextOptions } from "../../lib/generate/options.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { unigramJson } from "../tokenizer/fixtures.js";
import { circle, devices, RoteModel, smallGpt } from "./models.js";

const bytes = new ByteTokenizer();

/** Ids stand for the given words; the last one is the end of text, if there is one. */
class WordTokenizer implements Tokenizer {
  constructor(
    readonly words: readonly string[],
    readonly endOfText: number | null = null,
  ) {}
  get vocabularySize(): number {
    return this.words.length;
  }
  encode(text: string): Int32Array {
    return text === "" ? new Int32Array() : Int32Array.of(this.words.indexOf(text));
  }
  decode(ids: Iterable<number>): string {
    return Array.from(ids, (id) => this.words[id]).join("");
  }
  stream() {
    return { push: (id: number) => this.words[id]!, end: () => "" };
  }
  toJSON(): never {
    throw new Error("not needed");
  }
}

/** Returns the texts of the events, without those that show none. */
async function collect(events: AsyncIterable<GenerationEvent>): Promise<string[]> {
  const found: string[] = [];
  for await (const { text } of events) if (text !== "") found.push(text);
  return found;
}

describe.for(devices)("generate on %s", (device) => {
  test("streams the text that awaiting gives, which is that of the tokens", async () => {
    using model = smallGpt(device, { vocabularySize: 256 });
    // Twice the context is enough for the software device, which is slow.
    const maxTokens = device === "cpu" ? 200 : 48;
    const options = { maxTokens, seed: 3, overflow: "slide" } as const;
    const pieces = await collect(generate(model, bytes, "Call me", options));
    const whole = await generate(model, bytes, "Call me", options);
    expect(whole.text).toBe(pieces.join(""));
    const [result] = await generateTokens(model, [bytes.encode("Call me")], options);
    expect(whole).toMatchObject(result!);
    expect(whole.finishReason).toBe("length");
    expect(whole.usage).toEqual({ promptTokens: 7, cachedTokens: 0, completionTokens: maxTokens });
    expect(pieces.join("")).toBe(bytes.decode(result!.tokens));
    // Random bytes contain much broken UTF-8; no piece may be empty or cut within a character.
    expect(pieces.length).toBeGreaterThan(maxTokens / 2);
    for (const piece of pieces) expect(piece).toMatch(/^\P{Surrogate}+$/u);
  });

  test("a character of several tokens arrives as a whole", async () => {
    const next = Array.from({ length: 256 }, () => 0);
    const fox = bytes.encode("🦊");
    for (let i = 0; i < 4; i++) next[fox[i]!] = fox[(i + 1) % 4]!;
    using model = new RoteModel(next, device);
    const options = { temperature: 0, maxTokens: 8 };
    expect(await collect(generate(model, bytes, "🦊", options))).toEqual(["🦊", "🦊"]);
    // If the text ends within a character, U+FFFD follows at the end.
    expect(await collect(generate(model, bytes, "🦊", { ...options, maxTokens: 6 }))).toEqual(["🦊", "\ufffd"]);
    expect(await collect(generate(model, bytes, "🦊", { ...options, stop: "🦊" }))).toEqual([]);
    const cut = generate(model, bytes, "🦊", { ...options, maxTokens: 6, stop: "\ufffd" });
    expect(await collect(cut)).toEqual(["🦊"]);
    expect(await cut).toMatchObject({ text: "🦊", finishReason: "stop" });
  });

  describe("stop strings", () => {
    const tokenizer = new WordTokenizer(["start", "Hello", " wor", "ld", "!", " Bye", " now", "."]);

    async function run(options: TextOptions) {
      using model = new RoteModel(circle(8), device);
      const { live } = model.device.memory();
      const generation = generate(model, tokenizer, "start", { temperature: 0, maxTokens: 7, ...options });
      const pieces = await collect(generation);
      expect(model.device.memory().live).toBe(live);
      return { pieces, ...(await generation), passes: model.passes.length };
    }

    test("across tokens, with none of it in the output, and one step in vain", async () => {
      const { pieces, finishReason, tokens, passes, usage } = await run({ stop: "d! B" });
      expect(pieces).toEqual(["Hello", " wor", "l"]);
      expect(finishReason).toBe("stop");
      expect(tokens).toEqual([1, 2, 3, 4, 5]);
      expect(usage).toEqual({ promptTokens: 1, cachedTokens: 0, completionTokens: 5 });
      expect(passes).toBe(6);
    });

    test("several, of which the first counts", async () => {
      expect((await run({ stop: ["now", "!", "By"] })).pieces).toEqual(["Hello", " wor", "ld"]);
    });

    test("an incomplete one is part of the output", async () => {
      const { pieces, finishReason } = await run({ stop: "ld! Bye, all" });
      expect(pieces).toEqual(["Hello", " wor", "ld! Bye now", "."]);
      expect(finishReason).toBe("length");
      expect((await run({ stop: ".." })).pieces.join("")).toBe("Hello world! Bye now.");
    });

    test("with the last token allowed", async () => {
      expect(await run({ stop: "." })).toMatchObject({ finishReason: "stop", passes: 7 });
    });

    test("does not look at the prompt", async () => {
      const { pieces } = await run({ stop: ["start", "tH"], echo: true });
      expect(pieces.join("")).toBe("startHello world! Bye now.");
    });
  });

  test("echo begins with the prompt", async () => {
    using model = new RoteModel(circle(4), device);
    const tokenizer = new CharTokenizer("abcd");
    const options = { temperature: 0, maxTokens: 3, echo: true };
    expect(await collect(generate(model, tokenizer, "ab", options))).toEqual(["ab", "c", "d", "a"]);
    expect((await generate(model, tokenizer, "ab", { ...options, echo: false })).text).toBe("cda");
  });

  test("echo of a prompt that ends within a character", async () => {
    const euro = [...new TextEncoder().encode("€")] as [number, number, number];
    const next = Array.from({ length: 256 }, () => 0x21);
    next[euro[1]] = euro[2];
    using model = new RoteModel(next, device);
    const tokenizer = new ByteTokenizer();
    const options = { temperature: 0, maxTokens: 2, echo: true };
    const prompt = Int32Array.of(0x61, euro[0], euro[1]);
    expect(await collect(generate(model, tokenizer, prompt, options))).toEqual(["a", "€", "!"]);
  });

  test("the end of text ends it, and begins it where the prompt is empty", async () => {
    using model = new RoteModel(circle(4), device);
    const tokenizer = new WordTokenizer(["a", "b", "c", "<end>"], 3);
    const options = { temperature: 0, maxTokens: 20 };
    const text = { text: "abc", tokens: [0, 1, 2], finishReason: "stop" };
    expect(await generate(model, tokenizer, "", options)).toEqual({
      ...text,
      choices: [text],
      usage: { promptTokens: 1, cachedTokens: 0, completionTokens: 3 },
    });
    expect((await generate(model, tokenizer, "", { ...options, stopTokens: [2] })).text).toBe("ab");
    expect((await generate(model, tokenizer, "", { ...options, stopTokens: [], maxTokens: 5 })).text).toBe("abc<end>a");
  });

  test("leaving the loop frees everything, and the text reports it", async () => {
    using model = smallGpt(device, { vocabularySize: 256 });
    const { live, tensors } = model.device.memory();
    const left = generate(model, bytes, "a", { seed: 1 });
    let count = 0;
    for await (const { tokens } of left) if ((count += tokens.length) > 10) break;
    expect(model.device.memory()).toMatchObject({ live, tensors });
    expect(await left).toMatchObject({
      tokens: { length: count },
      finishReason: "cancelled",
      usage: { promptTokens: 1, cachedTokens: 0, completionTokens: count },
    });

    const thrown = async (): Promise<void> => {
      for await (const _ of generate(model, bytes, "a", { seed: 1 })) throw new Error("enough");
    };
    await expect(thrown()).rejects.toThrow("enough");
    expect(model.device.memory()).toMatchObject({ live, tensors });

    // This generation never begins.
    await generate(model, bytes, "a")[Symbol.asyncIterator]().return();
    expect(model.device.memory()).toMatchObject({ live, tensors });
  });

  test("aborting rejects with the reason and frees everything", async () => {
    using model = smallGpt(device, { vocabularySize: 256 });
    const { live, tensors } = model.device.memory();
    const controller = new AbortController();
    const reason = new Error("gone");
    const pieces: string[] = [];
    const generation = generate(model, bytes, "a", { seed: 1, signal: controller.signal });
    const read = async (): Promise<void> => {
      for await (const { text } of generation) if (pieces.push(text) === 5) controller.abort(reason);
    };
    await expect(read()).rejects.toBe(reason);
    await expect(generation).rejects.toBe(reason);
    expect(pieces).toHaveLength(5);
    expect(model.device.memory()).toMatchObject({ live, tensors });
  });

  test("begins when it is read, and can be read once, but awaited any number of times", async () => {
    using model = new RoteModel(circle(256), device);
    const options = { maxTokens: 2, temperature: 0 };
    const generation = generate(model, bytes, "a", options);
    await new Promise(setImmediate);
    expect(model.passes).toEqual([]);
    const result = await generation;
    expect(result.text).toBe("bc");
    expect(await generation).toBe(result);
    expect(model.passes).toHaveLength(2);
    await expect(collect(generation)).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
    // It is awaited while its events are read.
    const shared = generate(model, bytes, "b", options);
    const [pieces, whole] = await Promise.all([collect(shared), shared]);
    expect([pieces, whole.text]).toEqual([["c", "d"], "cd"]);
    // It also has the promise methods catch and finally, and it rejects once it is awaited.
    const failing = () => generate(model, bytes, "a", { signal: AbortSignal.abort("gone") });
    expect(await failing().catch((reason: unknown) => reason)).toBe("gone");
    let ended = false;
    await expect(failing().finally(() => void (ended = true))).rejects.toBe("gone");
    expect(ended).toBe(true);
  });

  test("events have the tokens whose text they show, the last one those that show none", async () => {
    const next = Array.from({ length: 256 }, () => 0);
    const fox = bytes.encode("🦊");
    for (let i = 0; i < 4; i++) next[fox[i]!] = fox[(i + 1) % 4]!;
    using model = new RoteModel(next, device);
    const events = async (stop?: string): Promise<GenerationEvent[]> => {
      const found: GenerationEvent[] = [];
      const options = { temperature: 0, maxTokens: 7, ...(stop !== undefined && { stop }) };
      for await (const event of generate(model, bytes, fox, options)) found.push(event);
      return found;
    };
    const [a, b, c, d] = [...fox];
    expect(await events()).toEqual([
      { choice: 0, text: "🦊", tokens: [a, b, c, d] },
      { choice: 0, text: "\ufffd", tokens: [a, b, c] },
    ]);
    expect(await events("🦊")).toEqual([{ choice: 0, text: "", tokens: [a, b, c, d] }]);
  });

  test("without a tokenizer, token prompts give tokens, and texts are refused", async () => {
    using model = new RoteModel(circle(8), device);
    const options = { temperature: 0, maxTokens: 3, stopTokens: [4] };
    const events: GenerationEvent[] = [];
    for await (const event of generate(model, null, Int32Array.of(1), options)) events.push(event);
    expect(events).toEqual([
      { choice: 0, text: "", tokens: [2] },
      { choice: 0, text: "", tokens: [3] },
    ]);
    expect(await generate(model, null, Int32Array.of(1), options)).toMatchObject({ text: "", finishReason: "stop" });
    for (const body of [
      () => generate(model, null, "a", options),
      () => generate(model, null, Int32Array.of(1), { stop: "a" }),
    ])
      expect(body).toThrow(
        expect.objectContaining({ code: "ERR_ARGUMENT", message: expect.stringContaining("tokenizer") }),
      );
  });

  test("a prompt that does not fit rejects when it is read, and slides if it may", async () => {
    using model = new RoteModel(circle(256), device, 8);
    const long = generate(model, bytes, "a longer prompt");
    await expect(long).rejects.toMatchObject({
      code: "ERR_RANGE",
      message:
        'generate: expected prompt to fit into the context of 8 tokens, got 15; overflow: "slide" drops the start',
    });
    const options = { temperature: 0, maxTokens: 12 };
    expect((await generate(model, bytes, "abc", options)).usage).toEqual({
      promptTokens: 3,
      cachedTokens: 0,
      completionTokens: 6,
    });
    const slid = await generate(model, bytes, "a longer prompt", { ...options, overflow: "slide" });
    expect(slid).toMatchObject({ text: "uvwxyz{|}~\x7f\ufffd", usage: { promptTokens: 15, completionTokens: 12 } });
  });
});

test("the continuation keeps the space it begins with", async () => {
  // "▁a" (4) follows "▁a": the first token of a text loses its space, but here that token belongs to the prompt.
  const tokenizer = new HuggingFaceTokenizer({ ...unigramJson(), post_processor: null });
  using model = new RoteModel([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "cpu");
  expect((await generate(model, tokenizer, "a", { maxTokens: 2, temperature: 0 })).text).toBe(" a a");
  expect((await generate(model, tokenizer, "a", { maxTokens: 1, temperature: 0, echo: true })).text).toBe("a a");
});

test("ids that the tokenizer does not have are no text", async () => {
  // 0 is followed by 4, which CharTokenizer("abcd") does not have, 4 by 1, and so on.
  using model = new RoteModel([4, 2, 3, 0, 1], "cpu");
  const result = await generate(model, new CharTokenizer("abcd"), "a", { maxTokens: 4, temperature: 0 });
  expect(result).toMatchObject({ text: "bcd", tokens: [4, 1, 2, 3] });
});
