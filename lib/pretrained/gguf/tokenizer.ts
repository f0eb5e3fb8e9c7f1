// The tokenizer in the metadata of a GGUF file: a SentencePiece vocabulary ("llama") or a byte-level byte-pair encoding
// ("gpt2"), there and back.
import { describe, HeedError } from "../../errors.js";
import type { GgufInputValue } from "../../formats/write-gguf.js";
import { byteLevelJson, piecesOf } from "../../tokenizer/byte-level-json.js";
import { HuggingFaceTokenizer } from "../../tokenizer/huggingface-tokenizer.js";
import { type Piece, type PieceKind, sentencePieceJson } from "../../tokenizer/sentencepiece-json.js";
import type { GgufMetadata } from "./metadata.js";

const prefix = "tokenizer.ggml.";

/** By the number of "token_type"; of 5, unused tokens, no text has one. */
const kinds: readonly (PieceKind | null)[] = [null, "normal", "unknown", "control", "user", "control", "byte"];

/** The file's tokenizer; null where it has none. Throws ERR_FORMAT, naming the file. */
export function tokenizerOfGguf(metadata: GgufMetadata): HuggingFaceTokenizer | null {
  const { values, path } = metadata;
  const kind = values.get(`${prefix}model`);
  if (kind === undefined || kind === "no_vocab") return null;
  if (kind !== "llama" && kind !== "gpt2") throw metadata.fault(`${prefix}model`, "llama or gpt2", kind);

  const texts = (name: string): string[] => list(metadata, name, (item) => typeof item === "string", "texts");
  const numbers = (name: string): number[] => list(metadata, name, (item) => typeof item === "number", "numbers");
  const tokens = texts("tokens");
  const types = values.has(`${prefix}token_type`) ? numbers("token_type") : tokens.map(() => 1);
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
  const beginsByItself = kind === "llama" || pieces === "llama-bpe";
  const before = begin !== null && adds("add_bos_token", beginsByItself) ? [begin] : [];
  const after = end !== null && adds("add_eos_token", false) ? [end] : [];

  let json: Record<string, unknown>;
  if (kind === "llama") {
    const scores = numbers("scores");
    if (scores.length !== tokens.length) throw metadata.fault(`${prefix}scores`, `${tokens.length} numbers`, scores);
    const vocabulary = tokens.map((text, id): Piece => {
      const kind = kinds[types[id] ?? 1];
      if (!kind) throw metadata.fault(`${prefix}token_type[${id}]`, "from 1 to 6", types[id]);
      return { text, score: scores[id]!, kind };
    });
    json = sentencePieceJson(vocabulary, { before, after, spacePrefix: adds("add_space_prefix", true) });
  } else {
    const merges = texts("merges");
    const idsOf = (...numbers: number[]): Set<number> =>
      new Set(tokens.flatMap((_, id) => (numbers.includes(types[id] ?? 1) ? [id] : [])));
    if (pieces !== undefined && typeof pieces !== "string") throw metadata.fault(`${prefix}pre`, "a name", pieces);
    const options = { tokens, merges, control: idsOf(2, 3, 5), user: idsOf(4), before, after };
    json = byteLevelJson({ ...options, ...(pieces !== undefined && { pieces }) });
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
    return new HuggingFaceTokenizer(json, { config });
  } catch (cause) {
    throw cause instanceof HeedError ? new HeedError(cause.code, `${path}: ${cause.message}`, { cause }) : cause;
  }
}

function list<T>(metadata: GgufMetadata, name: string, fits: (item: unknown) => item is T, what: string): T[] {
  const value: unknown = metadata.values.get(prefix + name);
  if (Array.isArray(value) && value.every(fits)) return value;
  throw metadata.fault(prefix + name, `an array of ${what}`, value);
}

interface Json {
  added_tokens?: { id: number; content: string; special?: boolean }[];
  normalizer?: { type?: string; normalizers?: { type?: string }[] } | null;
  decoder?: { type?: string; decoders?: { type?: string }[] } | null;
  model: {
    type?: string;
    vocab: Record<string, number>;
    merges?: (string | [string, string])[];
    unk_token?: string | null;
  };
}

/** The metadata of a tokenizer. Throws ERR_ARGUMENT for one that GGUF files have no place for. */
export function tokenizerToGguf(tokenizer: HuggingFaceTokenizer): Map<string, GgufInputValue> {
  const { tokenizer: given, config } = tokenizer.toJSON();
  const json = given as Json;
  const { model, added_tokens: added = [] } = json;
  const fault = (got: string): HeedError =>
    new HeedError("ERR_ARGUMENT", `gguf: expected a tokenizer of byte-pair encoding that GGUF files know, got ${got}`);
  if (model.type !== undefined && model.type !== "BPE") throw fault(describe(model.type));
  const merges = (model.merges ?? []).map((merge) => (typeof merge === "string" ? merge : merge.join(" ")));
  const tokens: string[] = [];
  const types: number[] = [];
  for (const [token, id] of [...Object.entries(model.vocab), ...added.map(({ content, id }) => [content, id] as const)])
    tokens[id] = token;
  for (let id = 0; id < tokens.length; id++) {
    const token = (tokens[id] ??= `[UNUSED${id}]`);
    const known = added.find((entry) => entry.id === id);
    if (known) types[id] = known.special === true ? (token === model.unk_token ? 2 : 3) : 4;
    else if (token === model.unk_token) types[id] = 2;
    else types[id] = Object.hasOwn(model.vocab, token) ? 1 : 5;
  }
  const metadata = new Map<string, GgufInputValue>();
  const decoders = [json.decoder, ...(json.decoder?.decoders ?? [])].map((part) => part?.type);
  if (decoders.includes("ByteFallback")) {
    for (const [id, token] of tokens.entries()) if (/^<0x[0-9A-F]{2}>$/.test(token)) types[id] = 6;
    const normalizers = [json.normalizer, ...(json.normalizer?.normalizers ?? [])].map((part) => part?.type);
    metadata.set("model", { type: "string", value: "llama" });
    metadata.set("scores", { type: "f32s", value: scoresOf(tokens, types, merges) });
    metadata.set("add_space_prefix", { type: "bool", value: normalizers.includes("Prepend") });
  } else {
    const pieces = decoders.includes("ByteLevel") ? piecesOf(given as { pre_tokenizer?: unknown }) : null;
    if (pieces === null) throw fault("one that cuts text another way");
    metadata.set("model", { type: "string", value: "gpt2" });
    metadata.set("pre", { type: "string", value: pieces });
    metadata.set("merges", { type: "strings", value: merges });
  }
  metadata.set("tokens", { type: "strings", value: tokens });
  metadata.set("token_type", { type: "i32s", value: types });
  const around = tokenizer.encode("");
  for (const [key, add, id] of [
    ["bos_token_id", "add_bos_token", tokenizer.beginningOfText],
    ["eos_token_id", "add_eos_token", tokenizer.endOfText],
  ] as const) {
    if (id !== null) metadata.set(key, { type: "u32", value: id });
    metadata.set(add, { type: "bool", value: id !== null && around.includes(id) });
  }
  const unknown = types.indexOf(2);
  if (unknown >= 0) metadata.set("unknown_token_id", { type: "u32", value: unknown });
  const named = new Map([...metadata].map(([key, value]) => [prefix + key, value]));
  const template = tokenizer.chatTemplate?.source ?? config.chat_template;
  if (typeof template === "string") named.set("tokenizer.chat_template", { type: "string", value: template });
  return named;
}

/** Scores by which the merges come in their order: of a token, that of the first merge that makes it. */
function scoresOf(tokens: readonly string[], types: readonly number[], merges: readonly string[]): Float32Array {
  const ranks = new Map<string, number>();
  for (const [rank, merge] of merges.entries()) {
    const union = merge.replace(" ", "");
    if (!ranks.has(union)) ranks.set(union, rank);
  }
  return Float32Array.from(tokens, (token, id) => (types[id] === 1 ? -(ranks.get(token) ?? merges.length) : 0));
}
