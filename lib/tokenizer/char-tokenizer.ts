import { HeedError } from "../errors.js";
import { Turns } from "../turns.js";
import { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import { type IdParts, joinParts, joinPartsInTurns, slicesOf } from "./id-parts.js";
import { checkId, decodeAll, type TokenStream } from "./token-stream.js";
import type { Tokenizer } from "./tokenizer.js";

/** Unicode characters (code points) as ids, in their order: for small texts and small vocabularies. */
export class CharTokenizer implements Tokenizer {
  readonly endOfText = null;
  private readonly characters: readonly string[];
  private readonly ids: ReadonlyMap<string, number>;

  /** The vocabulary is the set of characters of `text`. Throws ERR_ARGUMENT for an empty one. */
  constructor(text: string) {
    this.characters = [...new Set(wellFormed(text))].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
    if (this.characters.length === 0)
      throw new HeedError("ERR_ARGUMENT", "CharTokenizer: expected a text of at least one character, got an empty one");
    this.ids = new Map(this.characters.map((character, id) => [character, id]));
  }

  /** A tokenizer of the characters of a long text, which are collected while the event loop goes round. */
  static async of(text: string): Promise<CharTokenizer> {
    const turns = new Turns();
    const characters = new Set<string>();
    for (const slice of slicesOf(text, 2 ** 14)) {
      for (const character of wellFormed(slice)) characters.add(character);
      await turns.pause();
    }
    return new CharTokenizer([...characters].join(""));
  }

  get vocabularySize(): number {
    return this.characters.length;
  }

  /** Throws ERR_RANGE naming a character that is not in the vocabulary. */
  encode(text: string): Int32Array {
    return joinParts(this.#parts(text));
  }

  /** Resolves to what `encode` gives, in pieces of work between which the event loop goes round. Rejects as it throws. */
  async encodeAsync(text: string): Promise<Int32Array> {
    return joinPartsInTurns(this.#parts(text));
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
            `CharTokenizer: expected characters of the vocabulary, got ${JSON.stringify(character)} (U+${code})`,
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

  /** What is not in the vocabulary it leaves out, as byte-pair encoding has it. */
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
