// The "pre_tokenizer" of a tokenizer.json (huggingface.co/docs/tokenizers, "Pre-tokenizers"): how a text is cut into
// the pieces that the model encodes. The pieces come one by one.
import { describe, HeedError, oneOf } from "../util/errors.js";
import {
  expressionPattern,
  joinTexts,
  literalPattern,
  patternOf,
  replaceMatches,
  type TextPattern,
} from "./text-pattern.js";
import { slicesOf } from "./id-parts.js";
import { byteLevel } from "./token-decoder.js";

type Config = Record<string, unknown>;

/**
 * Yields the pieces of a text, none of them empty, and undefined whenever the caller may pause the work. `first` is
 * true if the text is the beginning of everything that is encoded.
 */
export type PreTokenizer = (text: string, first: boolean) => Generator<string | undefined>;

const punctuation = String.raw`[\p{P}!-/:-@\[-\x60{-~]`;
const wordCharacters = String.raw`\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}`;
/** GPT-2's expression: words, numbers, runs of signs and runs of white space. */
const gpt2Split = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

const ours = (source: string): TextPattern => expressionPattern(source, { trusted: true });

/**
 * Compiles a pre-tokenizer.
 *
 * @throws ERR_FORMAT, or the error of Hugging Face's library, if the part is malformed or unknown.
 */
export function preTokenizerOf(part: unknown): PreTokenizer {
  if (part === null || part === undefined) return whole;
  const config = Object(part) as Config;
  switch (config.type) {
    case "Sequence":
      if (!Array.isArray(config.pretokenizers)) throw fault("pretokenizers to be an array", config.pretokenizers);
      return sequence(config.pretokenizers.map(preTokenizerOf));
    case "ByteLevel": {
      const { add_prefix_space: prefixed, use_regex: cut = true } = config;
      return sequence([
        ...(prefixed === true ? [prefix(" ")] : []),
        ...(cut === true ? [split(ours(gpt2Split), "Isolated")] : []),
        toBytes,
      ]);
    }
    case "Metaspace":
      return metaspace(config);
    case "Whitespace":
      return split(ours(String.raw`[${wordCharacters}]+|[^${wordCharacters}\s]+`), "Removed", true);
    case "WhitespaceSplit":
      return split(ours(String.raw`\s+`), "Removed");
    case "BertPreTokenizer":
      return sequence([split(ours(String.raw`\s+`), "Removed"), split(ours(punctuation), "Isolated")]);
    case "Punctuation":
      return split(ours(punctuation), behaviorOf(config.behavior ?? "Isolated"));
    case "Digits":
      return split(ours(String.raw`\p{N}`), config.individual_digits === true ? "Isolated" : "Contiguous");
    case "CharDelimiterSplit":
      return split(literalPattern(text("delimiter", config.delimiter)), "Removed");
    case "FixedLength": {
      const { length = 5 } = config;
      if (!Number.isInteger(length) || (length as number) < 1 || (length as number) > 2 ** 20)
        throw fault("FixedLength to have an integer length from 1 to 1048576", length);
      return split(ours(`[\\s\\S]{1,${length as number}}`), "Isolated");
    }
    case "Split": {
      const { pattern, behavior, invert = false } = config;
      return split(patternOf(pattern), behaviorOf(behavior), invert === true);
    }
    default:
      throw fault(
        "a pre-tokenizer of type ByteLevel, Metaspace, Whitespace, WhitespaceSplit, BertPreTokenizer, Punctuation, Digits, " +
          "CharDelimiterSplit, FixedLength, Split or Sequence",
        config.type,
      );
  }
}

const behaviors = ["Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"] as const;
type Behavior = (typeof behaviors)[number];

function behaviorOf(behavior: unknown): Behavior {
  const known = behaviors.find((name) => name === behavior);
  if (known !== undefined) return known;
  throw fault(`behavior to be ${oneOf(behaviors)}`, behavior);
}

function* whole(text: string): Generator<string> {
  if (text !== "") yield text;
}

function sequence(steps: readonly PreTokenizer[]): PreTokenizer {
  if (steps.length === 0) return whole;
  return steps.reduce(
    (before, step) =>
      function* (text, first) {
        let atStart = first;
        for (const piece of before(text, first)) {
          if (piece === undefined) yield;
          else yield* step(piece, atStart);
          atStart &&= piece === undefined;
        }
      },
  );
}

/** Puts `given` before every text that does not begin with it. */
function prefix(given: string): PreTokenizer {
  return function* (text) {
    yield text.startsWith(given) ? text : given + text;
  };
}

/** Cuts a text at the matches of a pattern or, with `invert`, at the parts between the matches. */
function split(pattern: TextPattern, behavior: Behavior, invert = false): PreTokenizer {
  return function* (text) {
    /** The current piece, which the next part may still extend, and whether the piece ends with a delimiter. */
    let [start, end, delimits] = [0, 0, null as boolean | null];
    const isKept = (): boolean => start < end && !(behavior === "Removed" && delimits === true);
    for (const part of partsOf(pattern, text)) {
      if (!part) {
        yield;
        continue;
      }
      const now = part.matches !== invert;
      if (delimits === null || !joins(behavior, delimits, now)) {
        if (isKept()) yield text.slice(start, end);
        start = part.start;
      }
      [end, delimits] = [part.end, now];
    }
    if (isKept()) yield text.slice(start, end);
  };
}

/**
 * Returns true if a part extends the piece before it. `before` and `now` tell whether the piece ends with a delimiter,
 * and whether the part is one.
 */
function joins(behavior: Behavior, before: boolean, now: boolean): boolean {
  switch (behavior) {
    case "Contiguous":
      return before === now;
    case "MergedWithPrevious":
      return now && !before;
    case "MergedWithNext":
      return before && !now;
    case "Isolated":
    case "Removed":
      return false;
  }
}

interface Part {
  readonly start: number;
  readonly end: number;
  readonly matches: boolean;
}

/**
 * Yields the matches and the parts between them, in order. A match may be empty unless it directly follows another
 * match.
 */
function* partsOf(pattern: TextPattern, text: string): Generator<Part | undefined> {
  let from = 0;
  for (const match of pattern.matches(text)) {
    if (!match) {
      yield;
      continue;
    }
    const [start, end] = match;
    if (start === end && start === from && from > 0) continue;
    if (from < start) yield { start: from, end: start, matches: false };
    yield { start, end, matches: true };
    from = end;
  }
  if (from < text.length) yield { start: from, end: text.length, matches: false };
}

/**
 * Replaces spaces by a mark and cuts the text into words, unless `split` is false. Older files have `add_prefix_space`
 * instead of `prepend_scheme`.
 */
function metaspace(config: Config): PreTokenizer {
  const { prepend_scheme: scheme, add_prefix_space: prefixed } = config;
  const prepend = scheme ?? (prefixed === false ? "never" : "always");
  const mark = text("replacement", config.replacement ?? "\u2581");
  const spaces = literalPattern(" ");
  const words = config.split === false ? whole : split(literalPattern(mark), "MergedWithNext");
  return function* (text, first) {
    const marked = yield* replaceMatches(spaces, text, () => mark);
    const wanted = prepend === "always" || (prepend === "first" && first);
    yield* words(wanted && !marked.startsWith(mark) ? mark + marked : marked, first);
  };
}

const byteCharacters = [...byteLevel.keys()];

/** Yields a text with each of its UTF-8 bytes written as the character that stands for the byte. */
function* toBytes(text: string): Generator<string | undefined> {
  // These characters stand for themselves.
  if (/^[!-~]*$/.test(text)) {
    yield text;
    return;
  }
  const parts: string[] = [];
  for (const slice of slicesOf(text, 2 ** 12)) {
    // Adding the characters up with + would make a tree of them, and flattening the trees of all slices takes long.
    parts.push(Array.from(Buffer.from(slice), (byte) => byteCharacters[byte]!).join(""));
    if (parts.length > 1) yield;
  }
  yield parts.length === 1 ? parts[0]! : yield* joinTexts(parts);
}

function text(name: string, value: unknown): string {
  if (typeof value === "string") return value;
  throw fault(`a pre-tokenizer's ${name} to be a string`, value);
}

function fault(expected: string, got: unknown): HeedError {
  return new HeedError("ERR_FORMAT", `tokenizer.json: expected ${expected}, got ${describe(got)}`);
}
