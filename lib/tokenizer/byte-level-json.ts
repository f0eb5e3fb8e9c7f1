// Writes byte-level byte-pair encodings (GPT-2's and those derived from it) as a tokenizer.json. The way in which text
// is cut into pieces before the merges has the name that GGUF files use for it ("tokenizer.ggml.pre").
import { describe, HeedError, oneOf } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { addedTokenJson } from "./added-tokens.js";
import { individualDigits, known } from "./byte-level-pieces.js";
import { byteLevel } from "./token-decoder.js";
import { type BpeJson, type Fault, namesOf } from "./tokenizer-json.js";
import { templateOf } from "./template-processing.js";

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

/** Returns true if texts that are cut in this way begin with the token of the beginning, unless a file denies it. */
export function beginsTexts(pieces: string): boolean {
  return Object.hasOwn(known, pieces) && known[pieces]!.begins;
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
  const { cuts, gpt2, composed, ignoreMerges } = known[pieces]!;
  const ids = new Map<string, number>();
  const added: unknown[] = [];
  for (const [id, token] of tokens.entries()) {
    ids.set(token, id);
    if (control.has(id) || user.has(id)) added.push(addedTokenJson(id, token, control.has(id)));
    if (id % 2048 === 0) yield;
  }
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: gpt2 };
  const steps = [
    ...cuts.map((cut) =>
      cut === individualDigits
        ? { type: "Digits", individual_digits: true }
        : { type: "Split", pattern: { Regex: cut }, behavior: "Isolated", invert: false },
    ),
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
  const cutOtherwise = fault(`one that splits text in another way (${namesOf(cutters)})`);
  if (bytes?.type !== "ByteLevel" || namesOf(decoders) !== "ByteLevel") throw cutOtherwise;
  if (bytes.add_prefix_space === true) throw fault("ByteLevel with add_prefix_space");
  const cuts = cutters.slice(0, -1).map((cutter) => {
    if (cutter.type === "Digits") {
      if (cutter.individual_digits !== true) throw fault("Digits without individual_digits");
      return individualDigits;
    }
    const { type, pattern, behavior, invert } = cutter;
    const { Regex: expression } = (pattern ?? {}) as { Regex?: unknown };
    if (type !== "Split" || typeof expression !== "string" || behavior !== "Isolated" || invert === true)
      throw cutOtherwise;
    return expression;
  });
  // ByteLevel's `use_regex` applies GPT-2's expression.
  const gpt2 = bytes.use_regex !== false;

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
    ([, pieces]) => pieces.gpt2 === gpt2 && pieces.cuts.join("\n") === cuts.join("\n"),
  );
  if (alike.length === 0) throw cutOtherwise;
  const found = alike.find(([, pieces]) => pieces.composed === composed && pieces.ignoreMerges === ignoreMerges);
  if (found) return found[0];
  const { composed: wanted } = alike[0]![1];
  throw wanted === composed
    ? fault(`ignore_merges ${ignoreMerges}`)
    : fault(`${composed ? "the" : "no"} normalizer NFC`);
}
