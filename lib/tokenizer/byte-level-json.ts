// Byte-level byte-pair encodings (GPT-2's and those that follow it) as a tokenizer.json. How text is cut into pieces
// before the merges is named as GGUF files name it ("tokenizer.ggml.pre").
import { describe, HeedError } from "../errors.js";
import type { Steps } from "../turns.js";
import { addedTokenJson } from "./added-tokens.js";
import { byteLevel } from "./token-decoder.js";
import { type BpeJson, type Fault, namesOf } from "./tokenizer-json.js";
import { templateOf } from "./template-processing.js";

interface Pieces {
  /** By which text is cut; null for GPT-2's own expression. */
  split: string | null;
  /** Whether every digit is a piece of its own. */
  digits: boolean;
  /** Whether text is brought to Unicode's composed form. */
  composed: boolean;
  /** Takes a piece that is in the vocabulary as it is. */
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

/** The tokenizer.json of a vocabulary, which is a Map in it. Throws ERR_FORMAT for pieces that are not known. */
export function* byteLevelJson(options: ByteLevelOptions): Steps<Record<string, unknown>> {
  const { tokens, merges, control, user, pieces = "gpt-2", before = [], after = [] } = options;
  if (!Object.hasOwn(known, pieces))
    throw new HeedError(
      "ERR_FORMAT",
      `tokenizer: expected text to be cut as ${Object.keys(known).join(", ")}, got ${describe(pieces)}`,
    );
  const { split, digits, composed, ignoreMerges } = known[pieces]!;
  const ids = new Map<string, number>();
  const added: unknown[] = [];
  for (const [id, token] of tokens.entries()) {
    ids.set(token, id);
    if (control.has(id) || user.has(id)) added.push(addedTokenJson(id, token, control.has(id)));
    if (id % 2048 === 0) yield;
  }
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
    added_tokens: added,
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
      vocab: ids,
      merges,
    },
  };
}

/** The name of how a tokenizer.json cuts text. Throws what `fault` makes of it where there is none for it. */
export function piecesOf(json: BpeJson, fault: Fault): string {
  const { vocab, model, added, normalizers, cutters, decoders } = json;
  const bytes = cutters.at(-1);
  const splits = cutters.filter(({ type }) => type === "Split");
  const digits = cutters.filter(({ type }) => type === "Digits");
  const cutOtherwise = fault(`one that cuts text another way (${namesOf(cutters)})`);
  if (bytes?.type !== "ByteLevel" || namesOf(decoders) !== "ByteLevel") throw cutOtherwise;
  if (splits.length > 1 || digits.length > 1 || splits.length + digits.length + 1 !== cutters.length)
    throw cutOtherwise;
  if (bytes.add_prefix_space === true) throw fault("ByteLevel with add_prefix_space");
  const { pattern, behavior, invert } = splits[0] ?? {};
  const { Regex: split = null } = (pattern ?? {}) as { Regex?: unknown };
  if (splits.length > 0 && (typeof split !== "string" || behavior !== "Isolated" || invert === true))
    throw cutOtherwise;
  // GPT-2's own expression is ByteLevel's: beside another one, or none, it would cut what that leaves.
  if ((bytes.use_regex !== false) !== (split === null)) throw cutOtherwise;
  if (digits.length > 0 && digits[0]!.individual_digits !== true) throw fault("Digits without individual_digits");

  const composed = namesOf(normalizers) === "NFC";
  if (!composed && normalizers.length > 0) throw fault(`the normalizer ${namesOf(normalizers)}`);
  for (const { content, normalized } of added)
    if (composed && normalized && content.normalize("NFC") !== content)
      throw fault(`the token ${JSON.stringify(content)}, of which its normalizer makes another`);
  const missing = [...byteLevel.keys()].some((character) => !vocab.has(character));
  if (missing && (typeof model.unk_token === "string" || model.byte_fallback === true))
    throw fault("a vocabulary without all bytes");

  const ignoreMerges = model.ignore_merges === true;
  const alike = Object.entries(known).filter(
    ([, pieces]) => pieces.split === split && pieces.digits === digits.length > 0,
  );
  if (alike.length === 0) throw cutOtherwise;
  const found = alike.find(([, pieces]) => pieces.composed === composed && pieces.ignoreMerges === ignoreMerges);
  if (found) return found[0];
  const { composed: wanted } = alike[0]![1];
  throw wanted === composed
    ? fault(`ignore_merges ${ignoreMerges}`)
    : fault(`${composed ? "the" : "no"} normalizer NFC`);
}
