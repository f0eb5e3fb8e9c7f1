/** Texts after long prompts: what a prompt's end leaves to the text is the same as if all of the prompt had been decoded. */
import { expect, test } from "vitest";
import { generate } from "../../lib/generate/generate-text.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import { byteLevelJson, unigramJson } from "../tokenizer/fixtures.js";
import { RoteModel, someTokens } from "./models.js";

const tokenizers = {
  "byte-level": new HuggingFaceTokenizer(byteLevelJson()),
  unigram: new HuggingFaceTokenizer(unigramJson(true)),
};

test.each(Object.entries(tokenizers))("%s", async (_, tokenizer) => {
  const { vocabularySize } = tokenizer;
  // Each token is followed by another one, and all come once.
  using model = new RoteModel(
    Array.from({ length: vocabularySize }, (_, id) => (id + 1) % vocabularySize),
    "cpu",
    1000,
  );
  const hidden = Array.from({ length: vocabularySize }, (_, id) => id).filter((id) => tokenizer.isSpecial(id));
  const long = someTokens(300, 1, vocabularySize);
  const ends = [
    [],
    hidden,
    Array<number>(150).fill(hidden[0]!),
    someTokens(3, 2, vocabularySize),
    [0xc3],
    [0xf0, 0x9f],
  ];
  const prompts = ends.flatMap((end) => [
    [...long, ...end],
    [...Array<number>(100).fill(hidden[0]!), ...end, vocabularySize - 1],
  ]);
  for (const prompt of prompts) {
    const ids = prompt.map((id) => id % vocabularySize);
    const { text, tokens } = await generate(model, tokenizer, Int32Array.from(ids), { maxTokens: 12, stopTokens: [] });
    const stream = tokenizer.stream();
    for (const id of ids) stream.push(id);
    expect(text).toBe(tokens.map((id) => stream.push(id)).join("") + stream.end());
  }
});
