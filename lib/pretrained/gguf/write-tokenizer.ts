// Writes a tokenizer as metadata of a GGUF file. A tokenizer with features that the format cannot express is rejected,
// because texts would get other ids.
import type { GgufInputValue } from "../../formats/write-gguf.js";
import { piecesOf } from "../../tokenizer/byte-level-json.js";
import type { HuggingFaceTokenizer } from "../../tokenizer/huggingface-tokenizer.js";
import { sentencePiecesOf } from "../../tokenizer/sentencepiece-json.js";
import { type BpeJson, bpeJson, type Fault, faultOf } from "../../tokenizer/tokenizer-json.js";
import { kinds, unused } from "./tokenizer.js";

/**
 * Returns the metadata of a tokenizer, with a token for each of the `rows` rows of the embedding, as llama.cpp
 * requires.
 *
 * @throws ERR_ARGUMENT if a GGUF file cannot express the tokenizer, or it has more tokens than there are rows.
 */
export function tokenizerToGguf(tokenizer: HuggingFaceTokenizer, rows?: number): Map<string, GgufInputValue> {
  const fault = faultOf("gguf", "a GGUF file can describe");
  const { tokenizer: given } = tokenizer.toFile();
  const json = bpeJson(given, fault);
  const bytes = json.cutters.some(({ type }) => type === "ByteLevel");
  const { tokens, types, values } = bytes ? byteLevelVocabulary(json, fault) : sentencePieceVocabulary(json, fault);
  const size = rows ?? tokens.length;
  if (tokens.length > size) throw fault(`${tokens.length} tokens for ${size} rows of the embedding`);
  for (let id = 0; id < size; id++) {
    tokens[id] ??= `[UNUSED${id}]`;
    types[id] ??= unused;
  }
  const metadata = new Map<string, GgufInputValue>(values(size));
  metadata.set("tokens", { type: "strings", value: tokens });
  metadata.set("token_type", { type: "i32s", value: types });
  for (const [name, ids, named] of [
    ["bos", tokenizer.before, tokenizer.beginningOfText],
    ["eos", tokenizer.after, tokenizer.endOfText],
  ] as const) {
    const id = named ?? ids[0] ?? null;
    if (ids.length > 1 || (ids.length === 1 && ids[0] !== id))
      throw fault(`one that puts other tokens around a text than its beginning and end of text: ${ids.join(", ")}`);
    if (id !== null) metadata.set(`${name}_token_id`, { type: "u32", value: id });
    metadata.set(`add_${name}_token`, { type: "bool", value: ids.length === 1 });
  }
  const unknown = types.indexOf(kinds.indexOf("unknown"));
  if (unknown >= 0) metadata.set("unknown_token_id", { type: "u32", value: unknown });
  const named = new Map([...metadata].map(([key, value]) => [`tokenizer.ggml.${key}`, value]));
  const template = tokenizer.chatTemplate?.source;
  if (template !== undefined) named.set("tokenizer.chat_template", { type: "string", value: template });
  return named;
}

interface Vocabulary {
  /** Tokens by id; undefined for an id that has no token. */
  tokens: string[];
  types: number[];
  /** Returns the remaining metadata for this number of tokens. */
  values: (size: number) => [string, GgufInputValue][];
}

function byteLevelVocabulary(json: BpeJson, fault: Fault): Vocabulary {
  const pieces = piecesOf(json, fault);
  const { vocab, merges, added, model } = json;
  const tokens: string[] = [];
  const types: number[] = [];
  for (const [token, id] of vocab) {
    tokens[id] = token;
    types[id] = kinds.indexOf(token === model.unk_token ? "unknown" : "normal");
  }
  for (const { id, content, special } of added) {
    tokens[id] = content;
    types[id] = kinds.indexOf(!special ? "user" : content === model.unk_token ? "unknown" : "control");
  }
  return {
    tokens,
    types,
    values: () => [
      ["model", { type: "string", value: "gpt2" }],
      ["pre", { type: "string", value: pieces }],
      ["merges", { type: "strings", value: merges.map((merge) => merge.join(" ")) }],
    ],
  };
}

function sentencePieceVocabulary(json: BpeJson, fault: Fault): Vocabulary {
  const { pieces, spacePrefix } = sentencePiecesOf(json, fault);
  const tokens: string[] = [];
  const types: number[] = [];
  for (const [id, piece] of pieces.entries()) {
    if (!piece) continue;
    tokens[id] = piece.text;
    types[id] = kinds.indexOf(piece.kind);
  }
  const scores = (size: number): Float32Array => Float32Array.from({ length: size }, (_, id) => pieces[id]?.score ?? 0);
  return {
    tokens,
    types,
    values: (size) => [
      ["model", { type: "string", value: "llama" }],
      ["scores", { type: "f32s", value: scores(size) }],
      ["add_space_prefix", { type: "bool", value: spacePrefix }],
    ],
  };
}
