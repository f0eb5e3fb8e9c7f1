import { checkArray, checkInteger, checkNumber, checkObject, checkValues } from "../check.js";
import { HeedError } from "../errors.js";
import { hash } from "../hash.js";

export interface MaskingOptions {
  /** What stands for a hidden token. */
  maskToken: number;
  /** Of which other tokens are drawn. */
  vocabularySize: number;
  /** What is hidden follows from it and from a token's place. */
  seed: number;
  /** Share of the tokens that are to be said; 0.15 unless given. */
  probability?: number;
  /** Tokens that are never to be said or drawn, such as padding and those around a text; none unless given. */
  special?: readonly number[];
}

export interface MaskedTokens {
  /** The tokens with some of them hidden, in their order. */
  ids: Int32Array;
  /** Where tokens are to be said, in rising order. */
  positions: Int32Array;
  /** What stood there. */
  targets: Int32Array;
}

/**
 * Hides tokens by BERT's recipe (Devlin et al. 2019, §3.1): of those that are to be said, eight of ten become the mask, one
 * becomes another token and one stays. At least one is to be said. `tokens` may be those of a batch, one sequence after
 * the other: positions then are what `BertForMaskedLM.loss` takes.
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
  /** A number in [0, 1) for each place and use. */
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
      `${op}: expected at least one token that may be hidden, got special ones alone`,
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
