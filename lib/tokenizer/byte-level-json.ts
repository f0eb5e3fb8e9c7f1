// Byte-level byte-pair encodings (GPT-2's and those that follow it) as a tokenizer.json. How text is cut into pieces
// before the merges is named as GGUF files name it ("tokenizer.ggml.pre").
import { describe, HeedError } from "../errors.js";
import { addedTokenJson } from "./added-tokens.js";
import { templateOf } from "./template-processing.js";

interface Pieces {
  /** By which text is cut; null for GPT-2's own expression. */
  split: string | null;
  /** Whether every digit is a piece of its own. */
  digits: boolean;
  /** Whether text is brought to Unicode's composed form. */
  composed: boolean;
  /** Whether a piece that is in the vocabulary is taken as it is. */
  ignoreMerges: boolean;
}

/** Words, `numbers`, runs of signs and of space, as the tokenizers of OpenAI's later models cut them. */
const laterSplit = (numbers: string): string =>
  [
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)`,
    String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`,
    numbers,
    String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*`,
    String.raw`\s*[\r\n]+`,
    String.raw`\s+(?!\S)`,
    String.raw`\s+`,
  ].join("|");

const plain: Pieces = { split: null, digits: false, composed: false, ignoreMerges: false };

const llama3: Pieces = { ...plain, split: laterSplit(String.raw`\p{N}{1,3}`), ignoreMerges: true };
const qwen2: Pieces = { ...plain, split: laterSplit(String.raw`\p{N}`), composed: true };

/** Of several names, the first is the one that is written. */
const known: Readonly<Record<string, Pieces>> = {
  "gpt-2": plain,
  "llama-bpe": llama3,
  llama3,
  "llama-v3": llama3,
  qwen2,
  "deepseek-r1-qwen": qwen2,
  smollm: { ...plain, digits: true },
};

export interface ByteLevelOptions {
  /** By id. */
  tokens: readonly string[];
  merges: readonly (string | readonly [string, string])[];
  /** Tokens that are no pieces of a text, and those that are found in it before all others. */
  control: ReadonlySet<number>;
  user: ReadonlySet<number>;
  /** How text is cut; "gpt-2" unless given. */
  pieces?: string;
  before?: readonly string[];
  after?: readonly string[];
}

/** The tokenizer.json of a vocabulary. Throws ERR_FORMAT for pieces that are not known. */
export function byteLevelJson(options: ByteLevelOptions): Record<string, unknown> {
  const { tokens, merges, control, user, pieces = "gpt-2", before = [], after = [] } = options;
  if (!Object.hasOwn(known, pieces))
    throw new HeedError(
      "ERR_FORMAT",
      `tokenizer: expected text to be cut as ${Object.keys(known).join(", ")}, got ${describe(pieces)}`,
    );
  const { split, digits, composed, ignoreMerges } = known[pieces]!;
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: split === null };
  const steps = [
    ...(split === null ? [] : [{ type: "Split", pattern: { Regex: split }, behavior: "Isolated", invert: false }]),
    ...(digits ? [{ type: "Digits", individual_digits: true }] : []),
    byteLevel,
  ];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap((content, id) =>
      control.has(id) || user.has(id) ? [addedTokenJson(id, content, control.has(id))] : [],
    ),
    normalizer: composed ? { type: "NFC" } : null,
    pre_tokenizer: steps.length === 1 ? byteLevel : { type: "Sequence", pretokenizers: steps },
    post_processor: templateOf(before, after, ids),
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoreMerges,
      vocab: Object.fromEntries(ids),
      merges,
    },
  };
}

interface PreTokenizer {
  type?: unknown;
  pretokenizers?: PreTokenizer[];
  pattern?: { Regex?: unknown };
  use_regex?: unknown;
  add_prefix_space?: unknown;
}

/** The name of how a tokenizer.json cuts text; null where it is none that is known. */
export function piecesOf(json: { pre_tokenizer?: unknown }): string | null {
  const given = (json.pre_tokenizer ?? {}) as PreTokenizer;
  const steps = given.type === "Sequence" ? (given.pretokenizers ?? []) : [given];
  const byteLevel = steps.at(-1);
  if (byteLevel?.type !== "ByteLevel" || byteLevel.add_prefix_space === true) return null;
  const before = steps.slice(0, -1);
  const split = before.filter(({ type }) => type === "Split").map(({ pattern }) => pattern?.Regex);
  const digits = before.some(({ type }) => type === "Digits");
  if (split.length > 1 || before.some(({ type }) => type !== "Split" && type !== "Digits")) return null;
  if (split.length === 0 && byteLevel.use_regex === false) return null;
  const found = Object.entries(known).find(
    ([, pieces]) => pieces.split === (split[0] ?? null) && pieces.digits === digits,
  );
  return found?.[0] ?? null;
}
