// Finds the tokens at places of a text. The definition is that the tokens before a place are those that the text up to
// there has in common with the whole text: a token that reaches over the place belongs to what follows.
//
// If each beginning were encoded as a whole, the time would grow with the square of their number. Instead only the part
// since an earlier border is encoded. Only the end of an added token, such as one that ends a turn, is a border for
// certain: what follows it is encoded by itself, whatever the tokenizer does elsewhere. Even so, some tokenizers put a
// space before a part alone, as before a text. So a result counts only if the part has the tokens of the whole text to
// its end, if parts from two borders agree, or if the part is the whole beginning.

/** Place in the text at which a token begins. */
interface Border {
  place: number;
  /** Number of tokens before the place. */
  tokens: number;
}

/** Token that a text has wherever it contains the token's own text. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
}

/** Tokens at places of a text. */
export class TokenBorders {
  readonly #borders: readonly Border[];

  /**
   * `ids` are the tokens of `text`, among which may be `added` ones, and `encode` resolves to the tokens of the text from
   * one place to another, which `rest` follows.
   */
  constructor(
    private readonly text: string,
    private readonly ids: Int32Array,
    added: readonly AddedToken[],
    private readonly encode: (from: number, to: number, rest: string) => Promise<Int32Array>,
  ) {
    this.#borders = bordersAfter(added, text, ids);
  }

  /**
   * Resolves to the number of tokens that the whole text has in common with a beginning of it, the first `place`
   * characters, which `rest` may follow.
   */
  async before(place: number, rest = ""): Promise<number> {
    if (place === this.text.length && rest === "") return this.ids.length;
    let earlier = -1;
    for (let i = lastBefore(this.#borders, place); i >= 0; i--) {
      const border = this.#borders[i]!;
      const part = await this.encode(border.place, place, rest);
      const common = commonTokens(this.ids.subarray(border.tokens), part);
      const tokens = border.tokens + common;
      if (i === 0) return tokens;
      // Equal tokens may be those of the text moved by one, which is put before the part.
      if (common > 0 && part.subarray(0, common).every((id) => id === part[0])) continue;
      if (tokens === earlier || (rest === "" && common === part.length)) return tokens;
      earlier = tokens;
    }
    return 0;
  }
}

/** Returns the beginning of a text and the ends of the added tokens in it. */
function bordersAfter(added: readonly AddedToken[], text: string, ids: Int32Array): Border[] {
  const borders: Border[] = [{ place: 0, tokens: 0 }];
  for (const { id, content } of added) {
    if (!ids.includes(id)) continue;
    const ends: number[] = [];
    for (let at = text.indexOf(content); at >= 0; at = text.indexOf(content, at + content.length))
      ends.push(at + content.length);
    const counts: number[] = [];
    for (let at = ids.indexOf(id); at >= 0; at = ids.indexOf(id, at + 1)) counts.push(at + 1);
    // Otherwise a text of the token belongs to another token.
    if (ends.length === counts.length) borders.push(...ends.map((place, i) => ({ place, tokens: counts[i]! })));
  }
  borders.sort((a, b) => a.place - b.place);
  return borders.filter(({ tokens }, i) => i === 0 || tokens > borders[i - 1]!.tokens);
}

/** Returns the index of the last border that does not lie after a place. */
function lastBefore(borders: readonly Border[], place: number): number {
  let [low, high] = [0, borders.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (borders[middle]!.place <= place) low = middle;
    else high = middle;
  }
  return low;
}

/** Returns the number of tokens with which two lists begin alike. */
export function commonTokens(a: Int32Array, b: Int32Array): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}
