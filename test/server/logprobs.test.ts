/** Log-probabilities of tokens, of which some are parts of characters. */
import OpenAI from "openai";
import { expect, test } from "vitest";
import { chatLogprobs, textLogprobs, TextOffsets } from "../../lib/server/logprobs.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { HuggingFaceTokenizer } from "../../lib/tokenizer/huggingface-tokenizer.js";
import type { Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { byteLevelJson } from "../tokenizer/fixtures.js";
import { chatModel, start } from "./support.js";

const text = "a😀é hello €👩‍🚀b";
const tokenizers: Tokenizer[] = [new ByteTokenizer(), new HuggingFaceTokenizer(byteLevelJson())];
const logprobsOf = (ids: Int32Array) => Array.from(ids, (token) => ({ token, logprob: -1, top: [] }));
/** Returns the tokens of the text, without special ones. Each byte has one, and some texts of several bytes too. */
const tokensOf = (tokenizer: Tokenizer) => tokenizer.encode(text).filter((id) => tokenizer.bytesOf!(id).length > 0);

test.each(tokenizers)("the bytes of tokens are those of the text: %o", (tokenizer) => {
  const ids = tokensOf(tokenizer);
  const { content } = JSON.parse(JSON.stringify(chatLogprobs(tokenizer, logprobsOf(ids)))) as {
    content: { bytes: number[] }[];
  };
  expect(content.flatMap(({ bytes }) => bytes)).toEqual([...Buffer.from(text)]);
});

test.each(tokenizers)("a token's offset is the number of characters before it: %o", (tokenizer) => {
  const ids = tokensOf(tokenizer);
  const offsets: number[] = [];
  let bytes = 0;
  for (const id of ids) {
    // Python's len() counts these: code points that are complete.
    const before = new TextDecoder().decode(Buffer.from(text).subarray(0, bytes), { stream: true });
    offsets.push(Array.from(before).length);
    bytes += tokenizer.bytesOf!(id).length;
  }
  expect(textLogprobs(tokenizer, logprobsOf(ids))!.text_offset).toEqual(offsets);
  // In a stream, the tokens come one by one.
  const running = new TextOffsets();
  const parts = logprobsOf(ids).flatMap((one) => textLogprobs(tokenizer, [one], running)!.text_offset);
  expect(parts).toEqual(offsets);
});

test("the generated token is among the likeliest, though it is none of them", async () => {
  const { url } = await start({ models: { tiny: chatModel() } });
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
  for (const logprobs of [0, 1, 3]) {
    const body = {
      model: "tiny",
      prompt: "Call me",
      max_tokens: 40,
      min_tokens: 40,
      temperature: 1.5,
      seed: 3,
      logprobs,
    };
    const { choices } = await openai.completions.create(body);
    const found = choices[0]!.logprobs!;
    const counts = found.top_logprobs!.map((top) => Object.keys(top).length);
    for (const [i, top] of found.top_logprobs!.entries()) {
      const token = found.tokens![i]!;
      // Tokens that are parts of characters look alike, and the likeliest of them counts.
      if (token === "\ufffd") expect(top[token]).toBeGreaterThanOrEqual(found.token_logprobs![i]!);
      else expect(top[token]).toBe(found.token_logprobs![i]);
      expect(counts[i]).toBeLessThanOrEqual(logprobs + 1);
    }
    expect(Math.max(...counts)).toBe(logprobs + 1);
  }
});
