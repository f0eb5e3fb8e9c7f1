// The map of characters that SentencePiece compiles into a model, and that a tokenizer.json holds as the normalizer
// "Precompiled": the size of a trie, the trie, and the texts that its leaves point to, each ended by a zero byte. The
// trie is a double array (Aoe 1989; Yata's Darts-clone): the node that byte b leads to is at `node ^ b`. As Hugging
// Face's Rust library does, a short grapheme is looked up as a whole, and other characters one by one; the shortest
// beginning that the trie has decides.
import { describe, HeedError } from "../util/errors.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Graphemes of as many bytes of UTF-8 or more are looked up character by character. */
const longGrapheme = 6;
const mostSingles = 2 ** 16;

const isAscii = (text: string, at: number): boolean => text.charCodeAt(at) < 128;

/** Returns true if a character is ASCII and a grapheme of its own: nothing but a line feed joins one, or a mark. */
function isSingle(text: string, at: number): boolean {
  if (!isAscii(text, at) || (at + 1 < text.length && !isAscii(text, at + 1))) return false;
  return text[at] !== "\r" && !(text[at] === "\n" && text[at - 1] === "\r");
}

/** A map of characters. */
export class CharacterMap {
  readonly #trie: Uint32Array;
  readonly #texts: Uint8Array;
  /** The characters that have been looked up. */
  readonly #singles = new Map<string, string>();
  readonly #graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

  /**
   * Reads a map.
   *
   * @throws ERR_FORMAT if `base64` is not a map.
   */
  constructor(base64: unknown) {
    const bytes = typeof base64 === "string" ? Buffer.from(base64, "base64") : Buffer.alloc(0);
    const size = bytes.length < 4 ? 0 : bytes.readUInt32LE(0);
    if (size === 0 || size % 4 !== 0 || size > bytes.length - 4)
      throw new HeedError(
        "ERR_FORMAT",
        `tokenizer.json: expected precompiled_charsmap to be a compiled map of characters, got ${describe(base64)}`,
      );
    this.#trie = Uint32Array.from({ length: size / 4 }, (_, i) => bytes.readUInt32LE(4 + 4 * i));
    this.#texts = bytes.subarray(4 + size);
  }

  /** Returns a text with its characters replaced. */
  normalize(text: string): string {
    const parts: string[] = [];
    for (let at = 0; at < text.length;) {
      if (isSingle(text, at)) {
        parts.push(this.#single(text[at++]!));
        continue;
      }
      // The search for graphemes is slow, so it gets only what is not plain.
      let end = at + 1;
      while (end < text.length && !(isAscii(text, end - 1) && isSingle(text, end))) end++;
      for (const { segment } of this.#graphemes.segment(text.slice(at, end))) {
        const whole = Buffer.byteLength(segment) < longGrapheme ? this.#lookUp(segment) : undefined;
        if (whole !== undefined) parts.push(whole);
        else for (const character of segment) parts.push(this.#single(character));
      }
      at = end;
    }
    return parts.join("");
  }

  /** Returns what a character becomes, by itself. */
  #single(character: string): string {
    let text = this.#singles.get(character);
    if (text === undefined) {
      text = this.#lookUp(character) ?? character;
      if (this.#singles.size < mostSingles) this.#singles.set(character, text);
    }
    return text;
  }

  /** Returns the text for the shortest beginning of `key` that the map has; undefined if it has none. */
  #lookUp(key: string): string | undefined {
    let node = offsetOf(this.#trie[0]!);
    for (const byte of encoder.encode(key)) {
      if (byte === 0) return undefined;
      node ^= byte;
      const unit = this.#trie[node];
      if (unit === undefined || labelOf(unit) !== byte) return undefined;
      node ^= offsetOf(unit);
      if (!hasLeaf(unit)) continue;
      const from = (this.#trie[node] ?? 0) & 0x7fffffff;
      const end = this.#texts.indexOf(0, from);
      return decoder.decode(this.#texts.subarray(from, end < 0 ? undefined : end));
    }
    return undefined;
  }
}

const hasLeaf = (unit: number): boolean => ((unit >>> 8) & 1) === 1;
/** Returns the byte that leads to a unit; a leaf has none. */
const labelOf = (unit: number): number => unit & 0x800000ff;
const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);
