// The "normalizer" of a tokenizer.json (huggingface.co/docs/tokenizers, "Normalizers"): how a text is brought to a
// common form before it is cut into pieces. A long text is normalized in slices, with the same result as if it were
// normalized as a whole. A pattern may match across any two slices, so every step goes through the whole text before
// the next step begins.
import { describe, HeedError } from "../util/errors.js";
import { CharacterMap } from "./character-map.js";
import type { Steps } from "../util/turns.js";
import { type LibraryNormalizer, libraryParts } from "./library-parts.js";
import {
  expressionPattern,
  joinTexts,
  literalPattern,
  patternOf,
  replaceMatches,
  type TextPattern,
} from "./text-pattern.js";

type Config = Record<string, unknown>;

/** Returns a text in its normalized form. */
export type Normalizer = (text: string) => Steps<string>;

/**
 * Compiles a normalizer.
 *
 * @throws ERR_FORMAT, or the error of Hugging Face's library, if the part is malformed or unknown.
 */
export function normalizerOf(part: unknown): Normalizer {
  const steps = stepsOf(part);
  return function* (text) {
    // Without a limit, a few steps could make a text grow enormously.
    const most = 16 * text.length + 4096;
    let result = text;
    for (const step of steps) {
      result = yield* step(result);
      if (result.length > most)
        throw new HeedError(
          "ERR_FORMAT",
          `tokenizer.json: expected the normalizers to return at most ${most} characters`,
        );
    }
    return result;
  };
}

function stepsOf(part: unknown): Normalizer[] {
  if (part === null || part === undefined) return [];
  const config = Object(part) as Config;
  switch (config.type) {
    case "Sequence": {
      const { normalizers } = config;
      if (!Array.isArray(normalizers))
        throw new HeedError(
          "ERR_FORMAT",
          `tokenizer.json: expected normalizers to be an array, got ${describe(normalizers)}`,
        );
      return normalizers.flatMap(stepsOf);
    }
    case "Strip":
      return [stripped(config.strip_left === true, config.strip_right === true)];
    case "Lowercase":
      return [oneSigma, inSlices(libraryParts(part).normalizer)];
    case "BertNormalizer":
      return [
        ...(config.handle_chinese_chars === true ? [rareIdeographs] : []),
        ...(config.lowercase === true ? [oneSigma] : []),
        inSlices(libraryParts(part).normalizer),
      ];
    case "Prepend":
      return [prepended(shortText("prepend", config.prepend))];
    case "Replace": {
      const content = shortText("content", config.content);
      return [replaced(patternOf(config.pattern), () => content)];
    }
    case "Precompiled":
      return [inSlices(new CharacterMap(config.precompiled_charsmap))];
    default:
      return [inSlices(libraryParts(part).normalizer)];
  }
}

/** Checks a text that a normalizer inserts. The text must be short, since it may be inserted at every character. */
function shortText(name: string, value: unknown): string {
  if (typeof value === "string" && value.length <= 256) return value;
  throw new HeedError(
    "ERR_FORMAT",
    `tokenizer.json: expected a normalizer's ${name} of at most 256 characters, got ${describe(value)}`,
  );
}

function prepended(given: string): Normalizer {
  return function* (text) {
    yield;
    // An empty text stays empty.
    return text === "" ? "" : given + text;
  };
}

function replaced(pattern: TextPattern, content: (match: string) => string): Normalizer {
  return (text) => replaceMatches(pattern, text, content);
}

/**
 * Lowercases a capital sigma to σ everywhere. JavaScript's toLowerCase() makes a final sigma (ς) at the end of a word.
 */
const oneSigma = replaced(literalPattern("\u03a3"), () => "\u03c3");

/** Puts spaces around ideographs of two UTF-16 units, so that each becomes a word. */
const rareIdeographs: Normalizer = (text) =>
  replaceMatches(
    (ideographs ??= expressionPattern(
      String.raw`[\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B740}-\x{2B81F}\x{2B920}-\x{2CEAF}\x{2F800}-\x{2FA1F}]`,
      { trusted: true },
    )),
    text,
    (match) => ` ${match} `,
  );
let ideographs: TextPattern | undefined;

const space = /\p{White_Space}/u;

/** Removes white space at the beginning or at the end of a text. */
function stripped(left: boolean, right: boolean): Normalizer {
  return function* (text) {
    let [from, to] = [0, text.length];
    for (let step = 1; left && from < to && space.test(text[from]!); step++) {
      from++;
      if (step % 4096 === 0) yield;
    }
    for (let step = 1; right && to > from && space.test(text[to - 1]!); step++) {
      to--;
      if (step % 4096 === 0) yield;
    }
    return text.slice(from, to);
  };
}

/** Number of UTF-16 units in a slice; a slice takes about half a millisecond. */
const sliceLength = 2 ** 13;

/**
 * Returns a step that is applied to slices of a text. The cuts are chosen so that the joined result is the same as for
 * the whole text.
 */
function inSlices(library: LibraryNormalizer): Normalizer {
  return function* (text) {
    const parts: string[] = [];
    for (let from = 0; from < text.length || from === 0;) {
      const to = text.length - from <= sliceLength ? text.length : yield* cutBehind(text, from + sliceLength);
      parts.push(library.normalize(text.slice(from, to)));
      if (to === text.length) break;
      from = to;
      yield;
    }
    return parts.length === 1 ? parts[0]! : yield* joinTexts(parts);
  };
}

/** Returns the first position from `at` on at which the text can be cut, or the end of the text if there is none. */
function* cutBehind(text: string, at: number): Steps<number> {
  let place = text.codePointAt(at - 1)! > 0xffff ? at + 1 : at;
  for (let step = 1; place < text.length; step++) {
    const character = String.fromCodePoint(text.codePointAt(place)!);
    // A carriage return and a line feed are one grapheme.
    if (beginsAnew(character) && !(character === "\n" && text[place - 1] === "\r")) return place;
    place += character.length;
    if (step % 4096 === 0) yield;
  }
  return text.length;
}

// Matches letters, digits, signs and white space. Control characters are not included: they may be removed, so that the
// characters on both sides meet.
const visible = /^[\n\r\t\p{L}\p{N}\p{P}\p{S}\p{Zs}]/u;
// Matches marks, and the second parts of the compositions of Hangul and Kirat Rai.
const composes = /^[\p{M}\u1160-\u11ff\ud7b0-\ud7ff\ufffd\u{16d63}-\u{16d6a}]/u;

/**
 * Returns true if a character and the text before it are normalized independently of each other. This is so in all of
 * Unicode's normalization forms if the character's decomposition does not begin with a character that composes with the
 * one before it.
 */
export function beginsAnew(character: string): boolean {
  return visible.test(character) && !composes.test(character.normalize("NFKD"));
}
