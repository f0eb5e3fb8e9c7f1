// Reads the tokenizer in the metadata of a GGUF file: a SentencePiece vocabulary ("llama") or a byte-level byte-pair
// encoding ("gpt2").
import { HeedError } from "../../util/errors.js";
import type { GgufValue } from "../../formats/gguf-values.js";
import { inTurns, type Steps } from "../../util/turns.js";
import { mostTokens } from "../../tokenizer/added-tokens.js";
import { beginsTexts, byteLevelJson } from "../../tokenizer/byte-level-json.js";
import { HuggingFaceTokenizer } from "../../tokenizer/huggingface-tokenizer.js";
import { type Piece, type PieceKind, sentencePieceJson } from "../../tokenizer/sentencepiece-json.js";
import type { GgufMetadata } from "./metadata.js";

const prefix = "tokenizer.ggml.";

/** Kinds of tokens by the number in "token_type". Number 5, unused tokens, never occurs in a text. */
export const kinds: readonly (PieceKind | null)[] = [null, "normal", "unknown", "control", "user", "control", "byte"];
export const unused = 5;

/**
 * Returns the tokenizer of the file, or null if it has none.
 *
 * @throws ERR_FORMAT if the tokenizer is malformed; the message names the file.
 */
export async function tokenizerOfGguf(metadata: GgufMetadata): Promise<HuggingFaceTokenizer | null> {
  return inTurns(tokenizerSteps(metadata));
}

function* tokenizerSteps(metadata: GgufMetadata): Steps<HuggingFaceTokenizer | null> {
  const { values, path } = metadata;
  const kind = values.get(`${prefix}model`);
  if (kind === undefined || kind === "no_vocab") return null;
  if (kind !== "llama" && kind !== "gpt2") throw metadata.fault(`${prefix}model`, "llama or gpt2", kind);

  const texts = (name: string, most: number): Steps<string[]> =>
    list(metadata, name, (item) => typeof item === "string", "strings", most);
  const numbers = (name: string): Steps<number[]> =>
    list(metadata, name, (item) => typeof item === "number", "numbers", all.length);
  // The file has a token for every row of the embedding. Tokens that only fill up the vocabulary do not belong to the
  // tokenizer.
  const all = yield* texts("tokens", mostTokens);
  const types = values.has(`${prefix}token_type`) ? yield* numbers("token_type") : [];
  const tokens = all.slice(0, all.findLastIndex((_, id) => (types[id] ?? 1) !== unused) + 1);
  yield;
  const nameOf = (key: string): string | null => {
    const id = values.get(`${prefix}${key}_token_id`);
    if (id === undefined) return null;
    const token = typeof id === "number" ? tokens[id] : undefined;
    if (token === undefined) throw metadata.fault(`${prefix}${key}_token_id`, `an id below ${tokens.length}`, id);
    return token;
  };
  const [begin, end] = [nameOf("bos"), nameOf("eos")];
  const pieces = values.get(`${prefix}pre`);
  const adds = (key: string, otherwise: boolean): boolean => {
    const value = values.get(`${prefix}${key}`) ?? otherwise;
    if (typeof value !== "boolean") throw metadata.fault(prefix + key, "a boolean", value);
    return value;
  };
  const beginsByItself = kind === "llama" || (typeof pieces === "string" && beginsTexts(pieces));
  const before = begin !== null && adds("add_bos_token", beginsByItself) ? [begin] : [];
  const after = end !== null && adds("add_eos_token", false) ? [end] : [];

  let json: Record<string, unknown>;
  if (kind === "llama") {
    // Text would be encoded in another form than in training.
    const map = values.get(`${prefix}precompiled_charsmap`) as { length?: number } | undefined;
    if (map?.length)
      throw metadata.fault(`${prefix}precompiled_charsmap`, "no map of characters", `${map.length} bytes`);
    const scores = yield* numbers("scores");
    if (scores.length !== all.length)
      throw metadata.fault(`${prefix}scores`, `${all.length} numbers`, `${scores.length}`);
    const vocabulary = tokens.map((text, id): Piece => {
      const kind = kinds[types[id] ?? 1];
      if (!kind) throw metadata.fault(`${prefix}token_type[${id}]`, "from 1 to 6", types[id]);
      return { text, score: scores[id]!, kind };
    });
    yield;
    json = yield* sentencePieceJson(vocabulary, { before, after, spacePrefix: adds("add_space_prefix", true) });
  } else {
    const merges = yield* texts("merges", 2 * mostTokens);
    const idsOf = (...numbers: number[]): Set<number> =>
      new Set(tokens.flatMap((_, id) => (numbers.includes(types[id] ?? 1) ? [id] : [])));
    if (pieces !== undefined && typeof pieces !== "string") throw metadata.fault(`${prefix}pre`, "a name", pieces);
    const options = { tokens, merges, control: idsOf(2, 3, 5), user: idsOf(4), before, after };
    yield;
    json = yield* byteLevelJson({ ...options, ...(pieces !== undefined && { pieces }) });
  }
  const template = values.get("tokenizer.chat_template");
  const config = Object.fromEntries(
    [
      ["bos_token", begin],
      ["eos_token", end],
      ["unk_token", nameOf("unknown")],
      ["pad_token", nameOf("padding")],
      ["chat_template", template],
    ].filter(([, value]) => value !== null && value !== undefined) as [string, unknown][],
  );
  try {
    return yield* HuggingFaceTokenizer.steps(json, { config });
  } catch (cause) {
    throw cause instanceof HeedError ? new HeedError(cause.code, `${path}: ${cause.message}`, { cause }) : cause;
  }
}

function* list<T extends GgufValue>(
  metadata: GgufMetadata,
  name: string,
  fits: (item: GgufValue) => item is T,
  what: string,
  most: number,
): Steps<T[]> {
  const key = prefix + name;
  const value = metadata.values.get(key);
  const { length = 0 } = Object(value) as { length?: number };
  // The length is checked before the values are decoded.
  if (length > most) throw metadata.fault(key, `an array of at most ${most} ${what}`, length);
  if (typeof value !== "object") throw metadata.fault(key, `an array of ${what}`, value);
  const items: T[] = [];
  for (const item of value) {
    if (!fits(item)) throw metadata.fault(key, `an array of ${what}`, item);
    if (items.push(item) % 2048 === 0) yield;
  }
  return items;
}
