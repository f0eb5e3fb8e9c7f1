// GPT-2's tokenizer (Radford et al. 2019), which GPT-3 uses too ("r50k_base"). Text is cut into words (each with the
// space before it), numbers, runs of signs and runs of white space; each piece is encoded by byte-pair encoding. The
// tokens lie in data/gpt2-ranks.br in the order of their ranks: a byte with a token's length, and its bytes, all of it
// packed by Brotli (scripts/generate-ranks.mjs).
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { brotliDecompress } from "node:zlib";
import { atOnce, pauseIfLong } from "../util/turns.js";
import { encodePiece, mergesOf, type Ranks } from "./byte-pair-encoding.js";
import { byteLevelJson } from "./byte-level-json.js";
import { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import { type IdParts, joinParts, joinPartsInTurns, partLength } from "./id-parts.js";
import { byteLevel } from "./token-decoder.js";
import { byteStream, checkId, decodeAll, type TokenStream } from "./token-stream.js";
import type { Tokenizer } from "./tokenizer.js";

// Without a bound, a run of about ten million characters overflows the stack of the regular expression engine.
const run = "{1,99999}";
// In other engines \s means White_Space; JavaScript's \s lacks U+0085 and includes U+FEFF.
const pieces = new RegExp(
  [
    String.raw`'(?:[sdmt]|ll|ve|re)`,
    String.raw` ?\p{L}${run}`,
    String.raw` ?\p{N}${run}`,
    String.raw` ?[^\p{White_Space}\p{L}\p{N}]${run}`,
    String.raw`\p{White_Space}${run}(?!\P{White_Space})`,
    String.raw`\p{White_Space}${run}`,
  ].join("|"),
  "gu",
);

const endOfTextToken = "<|endoftext|>";

/** Number of words whose tokens are remembered; words repeat, and their tokens need not be merged again. */
const mostWords = 2 ** 16;
/** Longest word that is remembered, in UTF-16 units. */
const longestWord = 32;

interface Vocabulary {
  ranks: Ranks;
  /** The bytes of every token, by id. */
  tokens: Uint8Array[];
}
let vocabulary: Promise<Vocabulary> | undefined;

/**
 * GPT-2's tokenizer: byte-level byte-pair encoding with 50,257 tokens.
 *
 * @example
 * const gpt2 = await Gpt2Tokenizer.load();
 * gpt2.encode("Hello world"); // Int32Array [15496, 995]
 * gpt2.encode("<|endoftext|>", { special: true }); // Int32Array [50256]
 *
 * @see Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
 */
export class Gpt2Tokenizer implements Tokenizer {
  readonly vocabularySize = 50257;
  readonly endOfText = 50256;
  private readonly ranks: Ranks;
  private readonly tokens: readonly Uint8Array[];
  /** Ids of words that were encoded; a word that is one token has a number. */
  private readonly words = new Map<string, number | readonly number[]>();

  private constructor({ ranks, tokens }: Vocabulary) {
    this.ranks = ranks;
    this.tokens = tokens;
  }

  /** Resolves to the tokenizer. All tokenizers of the process share one vocabulary, which is loaded only once. */
  static async load(): Promise<Gpt2Tokenizer> {
    return new Gpt2Tokenizer(await (vocabulary ??= loadVocabulary()));
  }

  /**
   * Returns the ids of a text. With `special`, "<|endoftext|>" in the text becomes the id `endOfText`. By default it is
   * encoded like any other text, which is safe for text from users.
   */
  encode(text: string, { special = false }: { special?: boolean } = {}): Int32Array {
    return joinParts(this.#parts(text, special));
  }

  /** Resolves to the same ids as `encode`. The work is done in short slices, so that the event loop keeps running. */
  async encodeAsync(
    text: string,
    { special = false, ...limit }: { special?: boolean; maxLength?: number } = {},
  ): Promise<Int32Array> {
    return joinPartsInTurns(this.#parts(text, special), limit);
  }

  *#parts(text: string, special: boolean): IdParts {
    const documents = special ? text.split(endOfTextToken) : [text];
    for (const [i, document] of documents.entries()) {
      if (i > 0) yield [this.endOfText];
      let ids: number[] = [];
      for (const [piece] of document.matchAll(pieces)) {
        const known = this.words.get(piece);
        if (typeof known === "number") ids.push(known);
        else if (known) for (const id of known) ids.push(id);
        else {
          const from = ids.length;
          const bytes = asBytes(piece);
          const whole = this.ranks.get(bytes);
          if (whole === undefined) yield* encodePiece(bytes, this.ranks, ids);
          else ids.push(whole);
          if (piece.length <= longestWord) this.#remember(piece, whole ?? ids.slice(from));
        }
        if (ids.length < partLength) continue;
        yield ids;
        ids = [];
      }
      yield ids;
    }
  }

  #remember(word: string, ids: number | readonly number[]): void {
    if (this.words.size >= mostWords) this.words.clear();
    // The word is a slice, which would keep its whole text in memory; the copy does not.
    this.words.set(Buffer.from(word, "utf16le").toString("utf16le"), ids);
  }

  decode(ids: Iterable<number>): string {
    return decodeAll(this.stream(), ids);
  }

  stream(): TokenStream {
    return byteStream((id) => {
      checkId(this, id);
      return this.tokens[id]!;
    });
  }

  bytesOf(id: number, { special = false }: { special?: boolean } = {}): Uint8Array {
    checkId(this, id);
    return id === this.endOfText && !special ? new Uint8Array(0) : this.tokens[id]!;
  }

  toHuggingFace(): HuggingFaceTokenizer {
    const characters = [...byteLevel.keys()];
    const written = (bytes: string): string => Array.from(bytes, (byte) => characters[byte.charCodeAt(0)]!).join("");
    const tokens = [...this.ranks.keys()].map(written);
    const merges = mergesOf(this.ranks).map(([left, right]) => `${written(left)} ${written(right)}`);
    const json = byteLevelJson({
      tokens: [...tokens, endOfTextToken],
      merges,
      control: new Set([this.endOfText]),
      user: new Set(),
    });
    return new HuggingFaceTokenizer(atOnce(json), { config: { bos_token: endOfTextToken, eos_token: endOfTextToken } });
  }

  toJSON(): { type: "gpt2" } {
    return { type: "gpt2" };
  }
}

async function loadVocabulary(): Promise<Vocabulary> {
  // This file is two folders down from the package in lib/ (tests) and in dist/ alike.
  const packed = await readFile(new URL("../../data/gpt2-ranks.br", import.meta.url));
  const all = await promisify(brotliDecompress)(packed);
  const tokens: Uint8Array[] = [];
  const ranks = new Map<string, number>();
  for (let at = 0; at < all.length; at += 1 + all[at]!) {
    const bytes = all.subarray(at + 1, at + 1 + all[at]!);
    ranks.set(bytes.toString("latin1"), tokens.length);
    tokens.push(bytes);
    if (tokens.length % 1024 === 0) await pauseIfLong();
  }
  return { ranks, tokens: [...tokens, Buffer.from(endOfTextToken)] };
}

/** Returns the UTF-8 bytes of a text as a string with one character for each byte. */
function asBytes(text: string): string {
  return /\P{ASCII}/u.test(text) ? Buffer.from(text).toString("latin1") : text;
}
