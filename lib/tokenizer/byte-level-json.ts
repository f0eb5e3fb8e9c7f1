// Writes byte-level byte-pair encodings (GPT-2's and those derived from it) as a tokenizer.json. The way in which text
// is cut into pieces before the merges has the name that GGUF files use for it ("tokenizer.ggml.pre").
import { describe, HeedError, oneOf } from "../errors.js";
import type { Steps } from "../turns.js";
import { addedTokenJson } from "./added-tokens.js";
import { byteLevel } from "./token-decoder.js";
import { type BpeJson, type Fault, namesOf } from "./tokenizer-json.js";
import { templateOf } from "./template-processing.js";

/** The rules by which text is cut into pieces before the merges. */
interface Pieces {
  /** Regular expression that cuts the text; null for GPT-2's own expression. */
  split: string | null;
  /** True if every digit becomes a piece of its own. */
  digits: boolean;
  /** True if the text is first normalized to Unicode's composed form (NFC). */
  composed: boolean;
  /** True if a piece that is a token of the vocabulary is not merged from its characters but used directly. */
  ignoreMerges: boolean;
}

/**
 * Returns the expression of OpenAI's later models, which matches words, numbers as `numbers` defines them, runs of
 * signs and runs of white space.
 */
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

/** The known ways to cut text, by name. If several names mean the same, the first one is written to files. */
const known: Readonly<Record<string, Pieces>> = {
  "gpt-2": plain,
  "llama-bpe": llama3,
  llama3,
  "llama-v3": llama3,
  qwen2,
  "deepseek-r1-qwen": qwen2,
  smollm: { ...plain, digits: true },
};

/** The vocabulary of a byte-level BPE, and how it is applied. */
export interface ByteLevelOptions {
  /** The tokens' texts, by id. */
  tokens: readonly string[];
  merges: readonly (string | readonly [string, string])[];
  /** Ids of the tokens that are never part of a text. */
  control: ReadonlySet<number>;
  /** Ids of the tokens that are found in a text before it is cut into pieces. */
  user: ReadonlySet<number>;
  /** Name of the way in which text is cut into pieces. @default "gpt-2" */
  pieces?: string;
  /** Tokens that are put before every text. @default [] */
  before?: readonly string[];
  /** Tokens that are put after every text. @default [] */
  after?: readonly string[];
}

/**
 * Returns the tokenizer.json of a vocabulary. `model.vocab` in it is a Map.
 *
 * @throws ERR_FORMAT if the value of `pieces` is not known.
 */
export function* byteLevelJson(options: ByteLevelOptions): Steps<Record<string, unknown>> {
  const { tokens, merges, control, user, pieces = "gpt-2", before = [], after = [] } = options;
  if (!Object.hasOwn(known, pieces))
    throw new HeedError(
      "ERR_FORMAT",
      `tokenizer: expected the pre-tokenizer to be ${oneOf(Object.keys(known))}, got ${describe(pieces)}`,
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

/**
 * Returns the name of the way in which a tokenizer.json cuts text.
 *
 * @throws the error that `fault` creates, if that way has no name.
 */
export function piecesOf(json: BpeJson, fault: Fault): string {
  const { vocab, model, added, normalizers, cutters, decoders } = json;
  const bytes = cutters.at(-1);
  const splits = cutters.filter(({ type }) => type === "Split");
  const digits = cutters.filter(({ type }) => type === "Digits");
  const cutOtherwise = fault(`one that splits text in another way (${namesOf(cutters)})`);
  if (bytes?.type !== "ByteLevel" || namesOf(decoders) !== "ByteLevel") throw cutOtherwise;
  if (splits.length > 1 || digits.length > 1 || splits.length + digits.length + 1 !== cutters.length)
    throw cutOtherwise;
  if (bytes.add_prefix_space === true) throw fault("ByteLevel with add_prefix_space");
  const { pattern, behavior, invert } = splits[0] ?? {};
  const { Regex: split = null } = (pattern ?? {}) as { Regex?: unknown };
  if (splits.length > 0 && (typeof split !== "string" || behavior !== "Isolated" || invert === true))
    throw cutOtherwise;
  // ByteLevel's `use_regex` applies GPT-2's expression. Exactly one expression may cut the text: a Split step with
  // another expression, or ByteLevel with GPT-2's.
  if ((bytes.use_regex !== false) !== (split === null)) throw cutOtherwise;
  if (digits.length > 0 && digits[0]!.individual_digits !== true) throw fault("Digits without individual_digits");

  const composed = namesOf(normalizers) === "NFC";
  if (!composed && normalizers.length > 0) throw fault(`the normalizer ${namesOf(normalizers)}`);
  for (const { content, normalized } of added)
    if (composed && normalized && content.normalize("NFC") !== content)
      throw fault(`the token ${JSON.stringify(content)}, which its normalizer changes`);
  const missing = [...byteLevel.keys()].some((character) => !vocab.has(character));
  if (missing && (typeof model.unk_token === "string" || model.byte_fallback === true))
    throw fault("a vocabulary that lacks some bytes");

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
