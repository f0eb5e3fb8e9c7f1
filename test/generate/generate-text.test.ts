import { describe, expect, test } from "vitest";
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

/** Ids are the given words; the last one is the end of text, if there is one. */
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

async function collect(pieces: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const piece of pieces) found.push(piece);
  return found;
}

describe.for(devices)("generate on %s", (device) => {
  test("streams what text() gives, which is what the tokens are", async () => {
    using model = smallGpt(device, { vocabularySize: 256 });
    const options = { maxTokens: 200, seed: 3, overflow: "slide" } as const;
    const pieces = await collect(generate(model, bytes, "Call me", options));
    const whole = generate(model, bytes, "Call me", options);
    expect(whole.promptTokens).toBe(7);
    expect([whole.tokens, whole.finish]).toEqual([[], null]);
    expect(await whole.text()).toBe(pieces.join(""));
    const [result] = await generateTokens(model, [bytes.encode("Call me")], options);
    expect(whole.tokens).toEqual(result!.tokens);
    expect(whole.finish).toBe("length");
    expect(pieces.join("")).toBe(bytes.decode(result!.tokens));
    // Random bytes are full of broken UTF-8; no piece is empty or cut within a character.
    expect(pieces.length).toBeGreaterThan(100);
    for (const piece of pieces) expect(piece).toMatch(/^\P{Surrogate}+$/u);
  });

  test("a character of several tokens comes whole", async () => {
    const next = Array.from({ length: 256 }, () => 0);
    const fox = bytes.encode("🦊");
    for (let i = 0; i < 4; i++) next[fox[i]!] = fox[(i + 1) % 4]!;
    using model = new RoteModel(next, device);
    const options = { temperature: 0, maxTokens: 8 };
    expect(await collect(generate(model, bytes, "🦊", options))).toEqual(["🦊", "🦊"]);
    // Broken off within one: U+FFFD, at the end.
    expect(await collect(generate(model, bytes, "🦊", { ...options, maxTokens: 6 }))).toEqual(["🦊", "\ufffd"]);
    expect(await collect(generate(model, bytes, "🦊", { ...options, stop: "🦊" }))).toEqual([]);
    const cut = generate(model, bytes, "🦊", { ...options, maxTokens: 6, stop: "\ufffd" });
    expect(await collect(cut)).toEqual(["🦊"]);
    expect(cut.finish).toBe("stop");
  });

  describe("stop strings", () => {
    const tokenizer = new WordTokenizer(["start", "Hello", " wor", "ld", "!", " Bye", " now", "."]);

    async function run(options: TextOptions) {
      using model = new RoteModel(circle(8), device);
      const { live } = model.device.memory();
      const generation = generate(model, tokenizer, "start", { temperature: 0, maxTokens: 7, ...options });
      const pieces = await collect(generation);
      expect(model.device.memory().live).toBe(live);
      return { pieces, finish: generation.finish, tokens: generation.tokens, passes: model.passes.length };
    }

    test("across tokens, with nothing of it given out, and one step in vain", async () => {
      const { pieces, finish, tokens, passes } = await run({ stop: "d! B" });
      expect(pieces).toEqual(["Hello", " wor", "l"]);
      expect(finish).toBe("stop");
      expect(tokens).toEqual([1, 2, 3, 4, 5]);
      expect(passes).toBe(6);
    });

    test("several, of which the first counts", async () => {
      expect((await run({ stop: ["now", "!", "By"] })).pieces).toEqual(["Hello", " wor", "ld"]);
    });

    test("one that does not come to its end is given out", async () => {
      const { pieces, finish } = await run({ stop: "ld! Bye, all" });
      expect(pieces).toEqual(["Hello", " wor", "ld! Bye now", "."]);
      expect(finish).toBe("length");
      expect((await run({ stop: ".." })).pieces.join("")).toBe("Hello world! Bye now.");
    });

    test("with the last token allowed", async () => {
      expect(await run({ stop: "." })).toMatchObject({ finish: "stop", passes: 7 });
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
    expect(await generate(model, tokenizer, "ab", { ...options, echo: false }).text()).toBe("cda");
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
    const generation = generate(model, tokenizer, "", options);
    expect(await generation.text()).toBe("abc");
    expect(generation.promptTokens).toBe(1);
    expect(generation.finish).toBe("stopToken");
    expect(generation.tokens).toEqual([0, 1, 2]);
    expect(await generate(model, tokenizer, "", { ...options, stopTokens: [2] }).text()).toBe("ab");
    expect(await generate(model, tokenizer, "", { ...options, stopTokens: [], maxTokens: 5 }).text()).toBe("abc<end>a");
  });

  test("leaving the loop frees everything, and the text says so", async () => {
    using model = smallGpt(device, { vocabularySize: 256 });
    const { live, tensors } = model.device.memory();
    const left = generate(model, bytes, "a", { seed: 1 });
    for await (const _piece of left) if (left.tokens.length > 10) break;
    expect(left.finish).toBeNull();
    expect(model.device.memory()).toMatchObject({ live, tensors });

    const thrown = async (): Promise<void> => {
      for await (const _piece of generate(model, bytes, "a", { seed: 1 })) throw new Error("enough");
    };
    await expect(thrown()).rejects.toThrow("enough");
    expect(model.device.memory()).toMatchObject({ live, tensors });

    // Never begun.
    await generate(model, bytes, "a")[Symbol.asyncIterator]().return();
    expect(model.device.memory()).toMatchObject({ live, tensors });
  });

  test("aborting rejects with the reason and frees everything", async () => {
    using model = smallGpt(device, { vocabularySize: 256 });
    const { live, tensors } = model.device.memory();
    const controller = new AbortController();
    const reason = new Error("gone");
    const pieces: string[] = [];
    const read = async (): Promise<void> => {
      for await (const piece of generate(model, bytes, "a", { seed: 1, signal: controller.signal }))
        if (pieces.push(piece) === 5) controller.abort(reason);
    };
    await expect(read()).rejects.toBe(reason);
    expect(pieces).toHaveLength(5);
    expect(model.device.memory()).toMatchObject({ live, tensors });
  });

  test("a text is read once", async () => {
    using model = new RoteModel(circle(256), device);
    const generation = generate(model, bytes, "a", { maxTokens: 2 });
    await generation.text();
    await expect(generation.text()).rejects.toMatchObject({ code: "ERR_ARGUMENT" });
  });
});

test("what follows the prompt keeps the space it begins with", async () => {
  // "▁a" (4) after "▁a": the space that a text's first token loses belongs to the prompt's.
  const tokenizer = new HuggingFaceTokenizer({ ...unigramJson(), post_processor: null });
  using model = new RoteModel([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "cpu");
  expect(await generate(model, tokenizer, "a", { maxTokens: 2, temperature: 0 }).text()).toBe(" a a");
  expect(await generate(model, tokenizer, "a", { maxTokens: 1, temperature: 0, echo: true }).text()).toBe("a a");
});

test("ids that the tokenizer does not have are no text", async () => {
  // 0 is followed by 4, which CharTokenizer("abcd") does not have, 4 by 1, …
  using model = new RoteModel([4, 2, 3, 0, 1], "cpu");
  const generation = generate(model, new CharTokenizer("abcd"), "a", { maxTokens: 4, temperature: 0 });
  expect(await generation.text()).toBe("bcd");
  expect(generation.tokens).toEqual([4, 1, 2, 3]);
});
