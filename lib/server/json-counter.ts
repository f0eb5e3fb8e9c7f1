const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const bracket = 0x5b;
const backslash = 0x5c;
const closingBracket = 0x5d;
const brace = 0x7b;
const closingBrace = 0x7d;

/** Counts the values, names and levels of a JSON text that comes in parts, without parsing it. */
export class JsonCounter {
  values = 0;
  names = 0;
  /** Largest number of arrays and objects that contain each other. */
  depth = 0;
  #level = 0;
  #inString = false;
  /** True if the last part ended in a string, with a backslash that escapes what follows. */
  #escaping = false;

  push(text: string): void {
    let i = this.#inString ? this.#endOfString(text, 0) : 0;
    while (i < text.length)
      switch (text.charCodeAt(i++)) {
        case quote:
          this.#inString = true;
          i = this.#endOfString(text, i);
          break;
        case bracket:
        case brace:
          this.depth = Math.max(this.depth, ++this.#level);
          this.values++;
          break;
        case comma:
          this.values++;
          break;
        case closingBracket:
        case closingBrace:
          this.#level--;
          break;
        case colon:
          this.names++;
      }
  }

  /** Returns the index after the string in which `start` is, or the length of the text if the string goes on after it. */
  #endOfString(text: string, start: number): number {
    for (let from = start; ;) {
      const found = text.indexOf('"', from);
      const end = found === -1 ? text.length : found;
      let escapes = 0;
      while (end - escapes > start && text.charCodeAt(end - escapes - 1) === backslash) escapes++;
      // The backslashes go on from the part before.
      const odd = (escapes % 2 === 1) !== (end - escapes === start && this.#escaping);
      if (found === -1) {
        this.#escaping = odd;
        return end;
      }
      from = end + 1;
      if (odd) continue;
      [this.#inString, this.#escaping] = [false, false];
      return from;
    }
  }
}
