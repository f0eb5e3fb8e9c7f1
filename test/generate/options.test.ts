import { describe, expect, test } from "vitest";
import { generate } from "../../lib/generate/generate-text.js";
import { generateTokens } from "../../lib/generate/generate-tokens.js";
import { ByteTokenizer } from "../../lib/tokenizer/byte-tokenizer.js";
import { CharTokenizer } from "../../lib/tokenizer/char-tokenizer.js";
import { circle, devices, RoteModel } from "./models.js";

const range = "ERR_RANGE";
const argument = "ERR_ARGUMENT";

/** Wrong options, the error code, and the error message without the name of the function. */
const badTokenOptions: [object | null, string, string][] = [
  [null, argument, "expected options to be an object, got null"],
  [{ maxTokens: 0 }, range, "expected maxTokens to be an integer from 1 to 9007199254740991, got 0"],
  [{ maxTokens: 1.5 }, range, "expected maxTokens to be an integer from 1 to 9007199254740991, got 1.5"],
  [{ maxTokens: Infinity }, range, "expected maxTokens to be an integer from 1 to 9007199254740991, got Infinity"],
  [{ seed: -1 }, range, "expected seed to be an integer from 0 to 9007199254740991, got -1"],
  [{ seed: "1" }, range, 'expected seed to be an integer from 0 to 9007199254740991, got "1"'],
  [{ temperature: -1 }, range, "expected temperature to be a number from 0 to"],
  [{ temperature: NaN }, range, "expected temperature to be a number from 0 to"],
  [{ temperature: 1e39 }, range, "expected temperature to be a number from 0 to 3.4028234663852886e+38, got 1e+39"],
  [{ topP: 1e-60 }, range, "expected topP to be a number from 1.401298464324817e-45 to 1, got 1e-60"],
  [{ repetitionPenalty: 1e300 }, range, "expected repetitionPenalty to be a number from 1.401298464324817e-45 to"],
  [{ repetitionPenalty: 1e-60 }, range, "expected repetitionPenalty to be a number from 1.401298464324817e-45 to"],
  [{ topK: -1 }, range, "expected topK to be an integer from 0 to"],
  [{ topP: 0 }, range, "expected topP to be a number from"],
  [{ topP: 1.1 }, range, "expected topP to be a number from"],
  [{ typicalP: 0 }, range, "expected typicalP to be a number from"],
  [{ presencePenalty: Infinity }, range, "expected presencePenalty to be a number from"],
  [{ frequencyPenalty: NaN }, range, "expected frequencyPenalty to be a number from"],
  [{ minTokens: 5, maxTokens: 4 }, range, "expected minTokens to be an integer from 0 to 4, got 5"],
  [{ logitBias: { 99999999: 1 } }, argument, "expected the keys of logitBias to be token ids below"],
  [{ logitBias: { 1: NaN } }, range, "expected logitBias[1] to be a number from"],
  [{ logitBias: 3 as never }, argument, "expected logitBias to be an object, got 3"],
  [{ minP: 2 }, range, "expected minP to be a number from 0 to 1, got 2"],
  [{ repetitionPenalty: 0 }, range, "expected repetitionPenalty to be a number from"],
  [{ stopTokens: 3 }, argument, "expected stopTokens to be an array of token ids, got 3"],
  [{ stopTokens: [1, 256] }, range, "expected stopTokens[1] to be an integer from 0 to 255, got 256"],
  [{ overflow: "ignore" }, argument, 'expected overflow to be "error" or "slide", got "ignore"'],
  [{ signal: {} }, argument, "expected signal to be an AbortSignal, got an object"],
  [{ onToken: true }, argument, "expected onToken to be a function, got true"],
];

describe.for(devices)("bad arguments on %s", (device) => {
  const bytes = new ByteTokenizer();

  test.for(badTokenOptions)("%o", async ([options, code, message]) => {
    using model = new RoteModel(circle(256), device);
    const { live } = model.device.memory();
    await expect(generateTokens(model, [[1]], options as never)).rejects.toMatchObject({
      name: "HeedError",
      code,
      message: expect.stringContaining(`generateTokens: ${message}`),
    });
    expect(() => generate(model, bytes, "a", options as never)).toThrow(
      expect.objectContaining({ name: "HeedError", code, message: expect.stringContaining(`generate: ${message}`) }),
    );
    expect(model.passes).toEqual([]);
    expect(model.device.memory().live).toBe(live);
  });

  const stop = "expected stop to be a well-formed string that is not empty, or an array of such strings, got";
  test.for<[object, string]>([
    [{ stop: 1 }, `${stop} 1`],
    [{ stop: "" }, `${stop} ""`],
    [{ stop: ["a", ""] }, `${stop} an array of 2`],
    [{ stop: ["a", 1] }, `${stop} an array of 2`],
    [{ stop: "\udd8a" }, `${stop} "\\udd8a"`],
    [{ echo: 1 }, "expected echo to be a boolean, got 1"],
  ])("of text: %o", ([options, message]) => {
    using model = new RoteModel(circle(256), device);
    expect(() => generate(model, bytes, "a", options)).toThrow(
      expect.objectContaining({ code: argument, message: `generate: ${message}` }),
    );
  });

  test.for<[unknown, string, string]>([
    ["abc", argument, 'expected an array of prompts, got "abc"'],
    [[], argument, "expected an array of prompts, got an array of 0"],
    [[1, 2], argument, "expected prompts[0] to be an array of token ids, got 1"],
    [[[1], "ab"], argument, 'expected prompts[1] to be an array of token ids, got "ab"'],
    [[[1], []], argument, "expected prompts[1] to have at least one token, got none"],
    [[[1, 256]], range, "expected prompts[0][1] to be an integer from 0 to 255, got 256"],
    [[[-1]], range, "expected prompts[0][0] to be an integer from 0 to 255, got -1"],
    [[[1, 0.5]], range, "expected prompts[0][1] to be an integer from 0 to 255, got 0.5"],
    [[new DataView(new ArrayBuffer(4))], argument, "expected prompts[0] to be an array of token ids, got an object"],
  ])("prompts %o", async ([prompts, code, message]) => {
    using model = new RoteModel(circle(256), device);
    await expect(generateTokens(model, prompts as never)).rejects.toMatchObject({
      code,
      message: `generateTokens: ${message}`,
    });
  });

  test("models, tokenizers and prompts of text", async () => {
    using model = new RoteModel(circle(4), device);
    const chars = new CharTokenizer("abcd");
    const throws = (body: () => unknown, message: string): void =>
      expect(body).toThrow(expect.objectContaining({ code: argument, message: `generate: ${message}` }));
    throws(() => generate(null as never, chars, "a"), "expected a model with forward() and createCache(), got null");
    throws(() => generate({} as never, chars, "a"), "expected a model with forward() and createCache(), got an object");
    throws(
      () => generate(model, null, "a"),
      "expected a tokenizer, or the prompt's tokens in an Int32Array, got a string and no tokenizer",
    );
    throws(() => generate(model, {} as never, "a"), "expected a tokenizer, got an object");
    throws(
      () => generate(model, bytes, "a"),
      "expected a tokenizer with at most 4 ids, as many as the model has, got 256",
    );
    throws(
      () => generate(model, chars, 5 as never),
      "expected prompt to be a string or its tokens in an Int32Array, got 5",
    );
    await expect(generate(model, chars, "")).rejects.toMatchObject({
      code: argument,
      message:
        "generate: expected a prompt that is not empty: the tokenizer has no end-of-text token to begin a text with",
    });
    await expect(generateTokens({} as never, [[1]])).rejects.toMatchObject({
      code: argument,
      message: "generateTokens: expected a model with forward() and createCache(), got an object",
    });
  });
});
