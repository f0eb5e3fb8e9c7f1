// GPT-2's tokenizer (Radford et al. 2019; also GPT-3's, "r50k_base"): text is cut into words with the space before
// them, numbers, runs of signs and runs of space; each piece is byte-pair encoded. The ranks come from the npm package
// gpt-tokenizer, which is loaded only here; the rest of it is not used.
import { atOnce, Turns } from "../turns.js";
import { encodePiece, mergesOf, type Ranks } from "./byte-pair-encoding.js";
import { byteLevelJson } from "./byte-level-json.js";
import { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import { type IdParts, joinParts, joinPartsInTurns, partLength } from "./id-parts.js";
import { byteLevel } from "./token-decoder.js";
import { byteStream, checkId, decodeAll, type TokenStream } from "./token-stream.js";
import type { Tokenizer } from "./tokenizer.js";

// Without a bound, a run of some ten million characters overflows the regular expression's stack.
const run = "{1,99999}";
// White_Space is what other engines call \s; JavaScript's lacks U+0085 and has U+FEFF.
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

interface Vocabulary {
  ranks: Ranks;
  /** The bytes of every id. */
  tokens: Uint8Array[];
}
let vocabulary: Promise<Vocabulary> | undefined;

export class Gpt2Tokenizer implements Tokenizer {
  readonly vocabularySize = 50257;
  readonly endOfText = 50256;
  private readonly ranks: Ranks;
  private readonly tokens: readonly Uint8Array[];

  private constructor({ ranks, tokens }: Vocabulary) {
    this.ranks = ranks;
    this.tokens = tokens;
  }

  /** Loads the vocabulary, which all tokenizers of the process share. */
  static async load(): Promise<Gpt2Tokenizer> {
    return new Gpt2Tokenizer(await (vocabulary ??= loadVocabulary()));
  }

  /**
   * With `special`, "<|endoftext|>" in the text becomes the id `endOfText`; without, as for text of users, it is
   * encoded like any other signs.
   */
  encode(text: string, { special = false }: { special?: boolean } = {}): Int32Array {
    return joinParts(this.#parts(text, special));
  }

  /** Resolves to what `encode` gives, in pieces of work between which the event loop goes round. */
  async encodeAsync(text: string, { special = false }: { special?: boolean } = {}): Promise<Int32Array> {
    return joinPartsInTurns(this.#parts(text, special));
  }

  *#parts(text: string, special: boolean): IdParts {
    const documents = special ? text.split(endOfTextToken) : [text];
    for (const [i, document] of documents.entries()) {
      if (i > 0) yield [this.endOfText];
      let ids: number[] = [];
      for (const [piece] of document.matchAll(pieces)) {
        const bytes = asBytes(piece);
        const whole = this.ranks.get(bytes);
        if (whole === undefined) yield* encodePiece(bytes, this.ranks, ids);
        else ids.push(whole);
        if (ids.length < partLength) continue;
        yield ids;
        ids = [];
      }
      yield ids;
    }
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
  const { default: list } = await import("gpt-tokenizer/bpeRanks/r50k_base");
  const turns = new Turns();
  const tokens: Uint8Array[] = [];
  const ranks = new Map<string, number>();
  for (const token of list) {
    const bytes = Buffer.from(token as string);
    ranks.set(bytes.toString("latin1"), tokens.length);
    tokens.push(bytes);
    if (tokens.length % 1024 === 0) await turns.pause();
  }
  return { ranks, tokens: [...tokens, Buffer.from(endOfTextToken)] };
}

/** The UTF-8 of a text, a character a byte. */
function asBytes(text: string): string {
  return /\P{ASCII}/u.test(text) ? Buffer.from(text).toString("latin1") : text;
}
