// Finds the tokens at places of a text. The definition is that the tokens before a place are those that the text up to
// there has in common with the whole text: a token that reaches over the place belongs to what follows.
//
// If each beginning were encoded as a whole, the time would grow with the square of their number. Instead only the part
// since an earlier place is encoded, at which the tokens of the whole text have a border. Some tokenizers encode a part
// otherwise than within a text, for example with a space before it: a result counts only if the part has the tokens of
// the whole text to its end, if parts from two places agree, or if the part is the whole beginning. The unknown token
// has no text of its own, so that no border is certain after it.

/** Place in the text at which a token begins. */
interface Border {
  place: number;
  /** Number of tokens before the place. */
  tokens: number;
}

/** Tokens at places of a text, which are asked for from the left to the right. */
export class TokenBorders {
  readonly #borders: Border[] = [{ place: 0, tokens: 0 }];

  /**
   * `ids` are the tokens of `text`, `unknown` is the token for text that the vocabulary lacks, and `encode` resolves to
   * the tokens of a part.
   */
  constructor(
    private readonly text: string,
    private readonly ids: Int32Array,
    private readonly unknown: number | null,
    private readonly encode: (part: string) => Promise<Int32Array>,
  ) {}

  /**
   * Resolves to the number of tokens that the whole text has in common with a beginning of it, the first `place`
   * characters, which `rest` may follow.
   */
  async before(place: number, rest = ""): Promise<number> {
    if (place === this.text.length && rest === "") return this.ids.length;
    let earlier = -1;
    for (let i = this.#borders.length - 1; i >= 0; i--) {
      const border = this.#borders[i]!;
      if (border.place > place) continue;
      const part = await this.encode(this.text.slice(border.place, place) + rest);
      const common = commonTokens(this.ids.subarray(border.tokens), part);
      const tokens = border.tokens + common;
      const whole = common === part.length && part.at(-1) !== this.unknown && rest === "";
      if (whole && place > border.place) {
        // Borders between were of no use for this one.
        this.#borders.splice(i + 1, Infinity, { place, tokens });
      }
      if (whole || tokens === earlier || i === 0) return tokens;
      earlier = tokens;
    }
    return 0;
  }
}

/** Returns the number of tokens with which two lists begin alike. */
export function commonTokens(a: Int32Array, b: Int32Array): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
