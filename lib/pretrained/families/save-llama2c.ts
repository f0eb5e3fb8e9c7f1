// Saves a Llama for llama2.c's program (github.com/karpathy/llama2.c), with its tokenizer beside it as tokenizer.bin.
// The program rotates pairs of neighbouring dimensions, so rows of queries and keys that are paired in halves are
// reordered.
import { readdir } from "node:fs/promises";
import path from "node:path";
import { describe, HeedError } from "../../util/errors.js";
import { naming } from "../../util/files.js";
import { writeFileAtomic } from "../../formats/atomic-file.js";
import { isLlama2cTokenizer } from "../../formats/llama2c.js";
import { writeLlama2c } from "../../formats/write-llama2c.js";
import type { LlamaConfig } from "../../models/llama-config.js";
import { Llama } from "../../models/llama.js";
import { halvesToNeighbours } from "../../models/rotary-pairs.js";
import type { Module } from "../../nn/module.js";
import { readPieces } from "../../core/tensor-pieces.js";
import { Llama2cTokenizer, unmergeable } from "../../tokenizer/llama2c-tokenizer.js";
import { sentencePiecesOf, wordBoundary } from "../../tokenizer/sentencepiece-json.js";
import { bpeJson, faultOf } from "../../tokenizer/tokenizer-json.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import { checkSavable } from "./saving.js";
import { toHuggingFaceTokenizer } from "../../tokenizer/to-huggingface-tokenizer.js";
import type { SaveProgress } from "../save-progress.js";

/** Options of `saveLlama2c`. */
export interface SaveLlama2cOptions {
  /** Tokenizer to save beside the model, as tokenizer.bin. @default null */
  tokenizer?: Tokenizer | null;
  /** Called after each tensor. */
  onProgress?: (progress: SaveProgress) => void;
}

/**
 * Saves a Llama as a file of llama2.c.
 *
 * @example
 * const llama = new Llama({ vocabularySize: 256, contextLength: 32, layers: 2, heads: 2, width: 16, feedForwardWidth: 64 });
 * await saveLlama2c("saved-llama.bin", llama);
 *
 * @throws ERR_ARGUMENT if llama2.c's program does not support an option of the model, or the tokenizer is not a
 * SentencePiece vocabulary.
 * @throws ERR_IO if a file cannot be written, or the folder has the tokenizer of another model.
 */
export async function saveLlama2c(file: string, model: Module, options: SaveLlama2cOptions = {}): Promise<void> {
  const { tokenizer = null, onProgress } = options;
  if (!(model instanceof Llama))
    throw new HeedError("ERR_ARGUMENT", `saveLlama2c: expected a Llama, got ${describe(model)}`);
  checkSavable("saveLlama2c", model);
  const { config } = model;
  checkPlain(config);
  const tokens = tokenizer ? toLlama2c(tokenizer, config.vocabularySize).toBytes() : null;
  const written = path.join(path.dirname(file), "tokenizer.bin");
  if (tokens) await checkBeside(written);
  const parameters = new Map(model.namedParameters());
  let saved = 0;
  await writeLlama2c(file, config, async function* (name) {
    const parameter = parameters.get(name)!;
    const part = /\.self_attn\.([qk])_proj\./.exec(name)?.[1];
    if (config.interleaved || part === undefined) yield* readPieces(parameter);
    else {
      const heads = part === "q" ? config.heads : config.kvHeads;
      yield halvesToNeighbours(await parameter.data(), { ...config, heads });
    }
    onProgress?.({ written: ++saved, total: parameters.size });
  });
  if (tokens) await writeFileAtomic(written, (handle) => handle.writeFile(tokens));
}

/**
 * Checks that the folder has no other tokenizer: with two of them, readers could not tell which belongs to a model.
 *
 * @throws ERR_IO if there is another tokenizer.
 */
async function checkBeside(tokenizer: string): Promise<void> {
  const folder = path.dirname(tokenizer);
  const names = await naming(folder, () => readdir(folder));
  const other = names.find((name) => isLlama2cTokenizer(name) && name !== path.basename(tokenizer));
  if (other)
    throw new HeedError(
      "ERR_IO",
      `${folder}: expected no tokenizer of another model beside ${path.basename(tokenizer)}, got ${other}: choose another folder`,
    );
}

/**
 * Checks that the model has the options that every llama2.c model has.
 *
 * @throws ERR_ARGUMENT if an option differs.
 */
function checkPlain(config: Required<LlamaConfig>): void {
  const { width, heads, rotarySize, headSize } = config;
  const usual = {
    activation: "silu",
    eps: 1e-5,
    rotaryBase: 10_000,
    rotaryScaling: null,
    window: 0,
    qkNorm: false,
    attentionBias: false,
    outputBias: false,
    feedForwardBias: false,
    headSize: width / heads,
    rotarySize: headSize,
  } as const;
  for (const [name, value] of Object.entries(usual)) {
    const given = config[name as keyof typeof usual];
    if (given !== value && !(name === "eps" && Math.fround(given as number) === Math.fround(1e-5)))
      throw new HeedError("ERR_ARGUMENT", `llama2.c: expected a Llama with ${name} ${value}, got ${describe(given)}`);
  }
  if (rotarySize % 2 !== 0) throw new HeedError("ERR_ARGUMENT", `llama2.c: expected an even headSize, got ${headSize}`);
}

/** Returns the tokenizer in llama2.c's format, with a token for each of the `rows` rows of the embedding. */
function toLlama2c(tokenizer: Tokenizer, rows: number): Llama2cTokenizer {
  const tokens = tokenizer instanceof Llama2cTokenizer ? tokenizer.toJSON().tokens : tokensOf(tokenizer);
  if (tokens.length > rows) throw fault(`${tokens.length} tokens for ${rows} rows of the embedding`);
  const filling = Array.from({ length: rows - tokens.length }, (): [string, number] => ["", unmergeable]);
  return Llama2cTokenizer.fromTokens([...tokens, ...filling]);
}

const fault = faultOf("llama2.c", "its format can describe");

/** Returns the text and score of every token. */
function tokensOf(tokenizer: Tokenizer): [string, number][] {
  const given = toHuggingFaceTokenizer(tokenizer);
  const json = bpeJson(given.toFile().tokenizer, fault);
  if (json.cutters.some(({ type }) => type === "ByteLevel")) throw fault("a byte-level one");
  const { pieces, spacePrefix } = sentencePiecesOf(json, fault);
  if (!spacePrefix) throw fault("one that puts no space before a text");
  const found = pieces.find((piece) => piece?.kind === "user");
  if (found) throw fault(`the token ${JSON.stringify(found.text)}, which is found in a text before all other tokens`);
  const { beginningOfText, endOfText, before, after } = given;
  if (beginningOfText !== 1 || endOfText !== 2 || before.join() !== "1" || after.length > 0)
    throw fault(
      `one whose texts begin with token ${before.join() || "none"} and end with ${endOfText}, not with 1 and 2`,
    );
  const misplaced = pieces.findIndex((piece, id) => (piece?.kind === "byte") !== (id >= 3 && id < 259));
  if (misplaced >= 0)
    throw fault(`one whose byte tokens have other ids than 3 to 258: ${JSON.stringify(pieces[misplaced]?.text)}`);
  return Array.from(pieces, (piece, id) => {
    if (!piece) return ["", unmergeable];
    const { text, kind, score } = piece;
    // llama2.c's program does not print a token whose name stands between two line breaks.
    const shown = id === 1 || id === 2 ? `\n${text}\n` : text.replaceAll(wordBoundary, " ");
    return [Buffer.from(shown).toString("latin1"), kind === "normal" ? score : unmergeable];
  });
}
