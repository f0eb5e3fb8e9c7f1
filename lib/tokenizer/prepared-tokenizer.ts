// The parts of a tokenizer that are computed from its tokenizer.json, and the ids of a text by them. A text is
// normalized, cut into pieces and encoded in steps; the encoding of a long text can pause between two steps.
import { HeedError } from "../util/errors.js";
import type { Steps } from "../util/turns.js";
import { type AddedToken, type Section, TokenFinder } from "./added-tokens.js";
import { parseTokenizerJson, type TokenizerDefinition } from "./huggingface-json.js";
import { IdList, type IdParts, joinParts, partLength } from "./id-parts.js";
import { noRanges, overlaps, type Ranges, rangesWithin } from "./jinja/ranges.js";
import { normalizedRanges } from "./normalized-ranges.js";
import { compileDecoder, type TextDecoding } from "./token-decoder.js";
import type { WordCache } from "./token-model.js";

/**
 * Finders of the tokens that are searched for in the original text, and of those searched for in the normalized text.
 */
type Finders = readonly [TokenFinder, TokenFinder];

/** The parts that are computed from a tokenizer.json, which takes a while. */
export interface Prepared {
  readonly definition: TokenizerDefinition;
  readonly decoding: TextDecoding;
  /** Finders that do not find special tokens. */
  readonly plain: Finders;
  /** Finders that also find special tokens. */
  readonly whole: Finders;
}

/** Prepares a tokenizer.json, which takes a while if its vocabulary is large. */
export function* prepare(json: unknown): Steps<Prepared> {
  return yield* trusting(
    (function* () {
      const definition = yield* parseTokenizerJson(json);
      const decoding = compileDecoder(definition.decoder);
      const plain = yield* findersOf(
        definition,
        definition.added.filter((token) => !token.special),
      );
      const whole = yield* findersOf(definition, definition.added);
      // Encoding one letter reveals parts that fail on every text.
      joinParts(encoded("a", definition, plain));
      return { definition, decoding, plain, whole };
    })(),
  );
}

function* findersOf({ normalize }: TokenizerDefinition, tokens: readonly AddedToken[]): Steps<Finders> {
  const [raw, normal]: [string, AddedToken][][] = [[], []];
  for (const token of tokens)
    if (token.normalized) normal!.push([yield* normalize(token.content), token]);
    else raw!.push([token.content, token]);
  return [yield* TokenFinder.of(raw!), yield* TokenFinder.of(normal!)];
}

/**
 * Yields the ids of a text, and undefined whenever the caller may pause the work. If `special` is true, the names of
 * special tokens in the text become their ids, unless they lie in its untrusted parts.
 */
export function encodeSteps(
  text: string,
  { definition, plain, whole }: Prepared,
  special: boolean,
  untrusted = noRanges,
): IdParts {
  return trusting(encoded(text, definition, special ? whole : plain, untrusted));
}

/** Yields the ids of a text, and undefined whenever the caller may pause the work. */
function* encoded(
  text: string,
  definition: TokenizerDefinition,
  finders: Finders,
  untrusted = noRanges,
): Generator<Int32Array | undefined> {
  const { cut, model } = definition;
  const words: WordCache = new Map();
  let first = true;
  let ids = new IdList();
  for (const section of sectionsOf(text, definition, finders, untrusted)) {
    if (section === undefined) yield;
    else if (typeof section === "number") ids.push(section);
    else if (section !== "")
      for (const piece of cut(section, first)) {
        if (piece === undefined) yield;
        else yield* model.encode(piece, ids, words);
        if (ids.length < partLength) continue;
        for (const [, chunk] of ids.chunks()) yield chunk;
        ids = new IdList();
      }
    first &&= section === undefined;
  }
  for (const [, chunk] of ids.chunks()) yield chunk;
}

/**
 * Yields the ids of the added tokens in a text and the normalized text between them, and undefined whenever the caller
 * may pause the work.
 */
function* sectionsOf(
  text: string,
  { normalize }: TokenizerDefinition,
  [raw, normal]: Finders,
  untrusted: Ranges,
): Generator<number | string | undefined> {
  for (const part of raw.split(text, untrusted)) {
    if (typeof part !== "object") {
      yield part;
      continue;
    }
    const within = yield* normalize(part.text);
    if (within === "") yield "";
    const ranges = normal.hasSpecial ? yield* untrustedWithin(part, untrusted, normalize, within) : noRanges;
    for (const one of normal.split(within, ranges)) yield typeof one === "object" ? one.text : one;
  }
}

/** Returns the untrusted parts of a section that has been normalized. */
function* untrustedWithin(
  { text, from }: Section,
  untrusted: Ranges,
  normalize: TokenizerDefinition["normalize"],
  normalized: string,
): Steps<Ranges> {
  if (!overlaps(untrusted, from, from + text.length)) return noRanges;
  return yield* normalizedRanges(text, rangesWithin(untrusted, from, from + text.length), normalize, normalized);
}

/** Runs steps that rely on a valid tokenizer.json. Any error that is not a HeedError becomes an ERR_FORMAT. */
function* trusting<Y, R>(steps: Generator<Y, R>): Generator<Y, R> {
  try {
    return yield* steps;
  } catch (cause) {
    if (cause instanceof HeedError) throw cause;
    const { message } = cause as Error;
    throw new HeedError("ERR_FORMAT", `tokenizer.json: expected parts that work together: ${message.slice(0, 500)}`, {
      cause,
    });
  }
}
