import { describe, HeedError } from "../util/errors.js";
import { ifThere, inFile, readJsonFile } from "../util/files.js";
import { ByteTokenizer } from "./byte-tokenizer.js";
import { CharTokenizer } from "./char-tokenizer.js";
import { Gpt2Tokenizer } from "./gpt2-tokenizer.js";
import { HuggingFaceTokenizer, type HuggingFaceTokenizerParts } from "./huggingface-tokenizer.js";
import { Llama2cTokenizer } from "./llama2c-tokenizer.js";
import type { Tokenizer, TokenizerJSON } from "./tokenizer.js";

/**
 * Resolves to the tokenizer that `toJSON` described.
 *
 * @example
 * const json = JSON.stringify(tokenizer);
 * const copy = await tokenizerFromJSON(JSON.parse(json));
 *
 * @throws ERR_FORMAT if `json` does not describe a tokenizer.
 */
export async function tokenizerFromJSON(json: unknown): Promise<Tokenizer> {
  const { type, characters } = (json ?? {}) as { type?: unknown; characters?: unknown };
  if (type === "byte") return new ByteTokenizer();
  if (type === "gpt2") return Gpt2Tokenizer.load();
  if (type === "char" && typeof characters === "string" && characters !== "") return new CharTokenizer(characters);
  if (type === "llama2c") return Llama2cTokenizer.load((json as { tokens?: unknown }).tokens);
  if (type === "huggingface") {
    const { tokenizer, ...parts } = json as { tokenizer: unknown } & HuggingFaceTokenizerParts;
    return HuggingFaceTokenizer.load(tokenizer, parts);
  }
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer: expected {type: "byte"}, {type: "gpt2"}, {type: "char", characters: "…"}, {type: "llama2c", …} or {type: "huggingface", …}, got ${
      type === undefined ? describe(json) : `type ${describe(type)}`
    }`,
  );
}

/**
 * Resolves to the tokenizer in a file of that JSON, or to null if the file does not exist.
 *
 * @throws ERR_IO or ERR_FORMAT with the file's name if the file cannot be read or does not describe a tokenizer.
 */
export async function tokenizerFromFile(file: string): Promise<Tokenizer | null> {
  return ifThere(file, async () => {
    const json = await readJsonFile(file, { asMap: "vocab" });
    return inFile(file, () => tokenizerFromJSON(json));
  });
}

/**
 * Returns an object that can be written as JSON for `tokenizerFromFile`. It is the result of `toJSON`, except that a
 * large vocabulary may be a Map.
 */
export function tokenizerToFile(tokenizer: Tokenizer): TokenizerJSON {
  return tokenizer instanceof HuggingFaceTokenizer ? tokenizer.toFile() : tokenizer.toJSON();
}
