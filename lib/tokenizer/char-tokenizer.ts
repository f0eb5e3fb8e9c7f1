import { HeedError } from "../util/errors.js";
import { pauseIfLong } from "../util/turns.js";
import { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import { type IdParts, joinParts, joinPartsInTurns, slicesOf } from "./id-parts.js";
import { checkId, decodeAll, type TokenStream } from "./token-stream.js";
import type { Tokenizer } from "./tokenizer.js";

/**
 * Tokenizer whose ids are characters (Unicode code points), numbered by code point. It suits small texts with small
 * vocabularies.
 *
 * @example
 * const tokenizer = new CharTokenizer("hello");
 * tokenizer.vocabularySize; // 4: e, h, l, o
 * tokenizer.encode("hole"); // Int32Array [1, 3, 2, 0]
 */
export class CharTokenizer implements Tokenizer {
  readonly endOfText = null;
  private readonly characters: readonly string[];
  private readonly ids: ReadonlyMap<string, number>;

  /**
   * Creates a tokenizer whose vocabulary is the set of characters of `text`.
   *
   * @throws ERR_ARGUMENT if the text is empty.
   */
  constructor(text: string) {
    this.characters = [...new Set(wellFormed(text))].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
    if (this.characters.length === 0)
      throw new HeedError("ERR_ARGUMENT", "CharTokenizer: expected a text of at least one character, got an empty one");
    this.ids = new Map(this.characters.map((character, id) => [character, id]));
  }

  /**
   * Resolves to the tokenizer that the constructor creates. The characters of a long text are collected in short
   * slices, so that the event loop keeps running.
   *
   * @example
   * const tokenizer = await CharTokenizer.of("To be, or not to be");
   *
   * @throws ERR_ARGUMENT if the text is empty.
   */
  static async of(text: string): Promise<CharTokenizer> {
    const characters = new Set<string>();
    for (const slice of slicesOf(text, 2 ** 14)) {
      for (const character of wellFormed(slice)) characters.add(character);
      await pauseIfLong();
    }
    return new CharTokenizer([...characters].join(""));
  }

  get vocabularySize(): number {
    return this.characters.length;
  }

  /**
   * Returns the ids of the characters of `text`.
   *
   * @throws ERR_RANGE if a character is not in the vocabulary; the message names it.
   */
  encode(text: string): Int32Array {
    return joinParts(this.#parts(text));
  }

  /**
   * Resolves to the same ids as `encode`. The work is done in short slices, so that the event loop keeps running.
   *
   * @throws ERR_RANGE if a character is not in the vocabulary; the message names it.
   */
  async encodeAsync(text: string, limit: { maxLength?: number } = {}): Promise<Int32Array> {
    return joinPartsInTurns(this.#parts(text), limit);
  }

  *#parts(text: string): IdParts {
    for (const slice of slicesOf(text, 2 ** 14)) {
      const ids = new Int32Array(slice.length);
      let length = 0;
      for (const character of wellFormed(slice)) {
        const id = this.ids.get(character);
        if (id === undefined) {
          const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0");
          throw new HeedError(
            "ERR_RANGE",
            `CharTokenizer: expected only characters of the vocabulary, got ${JSON.stringify(character)} (U+${code})`,
          );
        }
        ids[length++] = id;
      }
      yield ids.subarray(0, length);
    }
  }

  decode(ids: Iterable<number>): string {
    return decodeAll(this.stream(), ids);
  }

  stream(): TokenStream {
    const push = (id: number) => {
      checkId(this, id);
      return this.characters[id]!;
    };
    return { push, end: () => "" };
  }

  bytesOf(id: number): Uint8Array {
    checkId(this, id);
    return Buffer.from(this.characters[id]!);
  }

  /**
   * Returns the same tokenizer as a tokenizer.json. As byte-pair encoding does, it leaves out characters that are not
   * in the vocabulary instead of throwing an error.
   */
  toHuggingFace(): HuggingFaceTokenizer {
    const { ids } = this;
    return new HuggingFaceTokenizer({
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: { type: "Fuse" },
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab: Object.fromEntries(ids),
        merges: [],
      },
    });
  }

  toJSON(): { type: "char"; characters: string } {
    return { type: "char", characters: this.characters.join("") };
  }
}

function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}
