import { checkArray, checkInteger, checkNumber, checkObject, checkValues } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { hash } from "../util/hash.js";

/** Options of `maskTokens`. */
export interface MaskingOptions {
  /** Id of the mask token, which replaces hidden tokens. */
  maskToken: number;
  /** Number of tokens in the vocabulary, from which random replacements are drawn. */
  vocabularySize: number;
  /** Seed of the choices. Each depends only on the seed and the token's place. */
  seed: number;
  /** Probability that a token is to be predicted. @default 0.15 */
  probability?: number;
  /** Ids that are never chosen or drawn, such as padding and the tokens around a text. @default [] */
  special?: readonly number[];
}

/** Tokens with some of them masked. */
export interface MaskedTokens {
  /** Ids after masking, in the original order. */
  ids: Int32Array;
  /** Places of the tokens to predict, in rising order. */
  positions: Int32Array;
  /** Original ids at these places. */
  targets: Int32Array;
}

/**
 * Masks tokens by BERT's recipe (Devlin et al. 2019, §3.1): of the tokens to predict, 80 % become the mask, 10 %
 * another token and 10 % stay. At least one token is to be predicted. `tokens` may be a whole batch, one sequence after
 * the other; `positions` then have the form that `BertForMaskedLM.loss` takes.
 *
 * @example
 * const { ids, positions, targets } = maskTokens([5, 17, 31, 8], { maskToken: 4, vocabularySize: 100, seed: 1 });
 *
 * @throws ERR_ARGUMENT if all tokens are special or no other tokens can be drawn.
 * @throws ERR_RANGE if an option is out of range.
 * @see https://arxiv.org/abs/1810.04805
 */
export function maskTokens(tokens: ArrayLike<number>, options: MaskingOptions): MaskedTokens {
  const op = "maskTokens";
  checkValues(op, tokens);
  checkObject(op, "options", options);
  const { maskToken, vocabularySize, seed, probability = 0.15 } = options;
  checkInteger(op, "vocabularySize", vocabularySize, 1, 2 ** 31 - 1);
  checkInteger(op, "maskToken", maskToken, 0, vocabularySize - 1);
  checkInteger(op, "seed", seed, 0);
  checkNumber(op, "probability", probability, 0, 1);
  checkArray(op, "special", options.special ?? []);
  const special = new Set(options.special ?? []);
  const never = new Set([...special, maskToken]);
  const ordinary = vocabularySize - [...never].filter((id) => id >= 0 && id < vocabularySize).length;
  const key = [seed, seed / 2 ** 32].reduce(hash, 0);
  /** Returns a pseudorandom number in [0, 1) for a place and a purpose. */
  const draw = (place: number, use: number): number => (hash(hash(key, place), use) >>> 0) / 2 ** 32;
  const another = (place: number): number => {
    for (let use = 2; ; use++) {
      const id = Math.floor(draw(place, use) * vocabularySize);
      if (!never.has(id)) return id;
    }
  };

  const ids = Int32Array.from(tokens);
  const places = [...ids.keys()].filter((place) => !special.has(ids[place]!));
  if (places.length === 0 || ordinary === 0)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected at least one token that may be masked, got only special tokens`,
    );
  const chosen = places.filter((place) => draw(place, 0) < probability);
  if (chosen.length === 0) chosen.push(places.reduce((a, b) => (draw(a, 0) <= draw(b, 0) ? a : b)));
  const positions = Int32Array.from(chosen);
  const targets = positions.map((place) => ids[place]!);
  for (const place of chosen) {
    const kind = draw(place, 1);
    if (kind < 0.8) ids[place] = maskToken;
    else if (kind < 0.9) ids[place] = another(place);
  }
  return { ids, positions, targets };
}
