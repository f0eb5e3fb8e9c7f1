// The "normalizer" of a tokenizer.json (huggingface.co/docs/tokenizers, "Normalizers"): how a text is brought to a common
// form before it is cut. A long text is normalized in slices, with the result of the whole: what a pattern matches may
// lie anywhere, so each step goes through the text by itself.
import { describe, HeedError } from "../errors.js";
import type { Steps } from "../turns.js";
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

/** Returns the text in its common form. */
export type Normalizer = (text: string) => Steps<string>;

/** Throws ERR_FORMAT, or what the library throws, for a part that is not understood. */
export function normalizerOf(part: unknown): Normalizer {
  const steps = stepsOf(part);
  return function* (text) {
    // In a few steps a text could grow beyond all bounds.
    const most = 16 * text.length + 4096;
    let result = text;
    for (const step of steps) {
      result = yield* step(result);
      if (result.length > most)
        throw new HeedError(
          "ERR_FORMAT",
          `tokenizer.json: expected normalizers that make at most ${most} characters of a text`,
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
          `tokenizer.json: expected normalizers in an array, got ${describe(normalizers)}`,
        );
      return normalizers.flatMap(stepsOf);
    }
    case "Strip":
      return [stripped(config.strip_left === true, config.strip_right === true)];
    case "Lowercase":
      return [oneSigma, inSlices(part)];
    case "BertNormalizer":
      return [
        ...(config.handle_chinese_chars === true ? [rareIdeographs] : []),
        ...(config.lowercase === true ? [oneSigma] : []),
        inSlices(part),
      ];
    case "Prepend":
      return [prepended(shortText("prepend", config.prepend))];
    case "Replace": {
      const content = shortText("content", config.content);
      return [replaced(patternOf(config.pattern), () => content)];
    }
    default:
      return [inSlices(part)];
  }
}

/** Checks a text that a normalizer inserts. It has to be short, since it may be inserted at every character. */
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

/** JavaScript has another small letter for a capital sigma that ends a word. */
const oneSigma = replaced(literalPattern("\u03a3"), () => "\u03c3");

/** Puts spaces around ideographs of more than one UTF-16 unit, each a word. */
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

/** Leaves out white space at the beginning or the end of a text. */
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

/** UTF-16 units of a slice: half a millisecond. */
const sliceLength = 2 ** 13;

/** A step of the library's, for slices that it makes of what it would make of them in the whole text. */
function inSlices(part: unknown): Normalizer {
  const library: LibraryNormalizer = libraryParts(part).normalizer;
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

/** The first place from `at` on where a character begins anew; the end of the text where there is none. */
function* cutBehind(text: string, at: number): Steps<number> {
  let place = text.codePointAt(at - 1)! > 0xffff ? at + 1 : at;
  for (let step = 1; place < text.length; step++) {
    const character = String.fromCodePoint(text.codePointAt(place)!);
    if (beginsAnew(character)) return place;
    place += character.length;
    if (step % 4096 === 0) yield;
  }
  return text.length;
}

// Letters, digits, signs and white space; not a control character, which may be left out, so that what follows it meets
// what is before.
const visible = /^[\n\r\t\p{L}\p{N}\p{P}\p{S}\p{Zs}]/u;
// Marks, and the second parts that Hangul and Kirat Rai compose.
const composes = /^[\p{M}\u1160-\u11ff\ud7b0-\ud7ff\ufffd\u{16d63}-\u{16d6a}]/u;

/**
 * Whether what is before a character has no part in how it is normalized, and the other way round. That holds in all
 * forms of Unicode for what does not begin, when it is taken apart, with something that composes with what is before it.
 */
export function beginsAnew(character: string): boolean {
  return visible.test(character) && !composes.test(character.normalize("NFKD"));
}
