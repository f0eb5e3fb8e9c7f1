// The tokenizer file of llama2.c (github.com/karpathy/llama2.c): a SentencePiece vocabulary without its model. The two
// neighbouring tokens whose union has the best score are merged, the leftmost pair first, until no union is in the
// vocabulary. A character that is not in the vocabulary is encoded as its UTF-8 bytes, whose tokens are the ids from 3
// on.
//
// Layout of the file, little-endian: the length of the longest token as int32; then for each token its score as
// float32, its length as int32, and its bytes.
import { HeedError } from "../util/errors.js";
import { readSmallFile } from "../util/files.js";
import { atOnce, inTurns, type Steps } from "../util/turns.js";
import { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import { IdList, type IdParts, joinParts, joinPartsInTurns, partLength } from "./id-parts.js";
import { mergeParts } from "./merge-parts.js";
import { type Piece, type PieceKind, sentencePieceJson, wordBoundary } from "./sentencepiece-json.js";
import { remember, type WordCache } from "./token-model.js";
import { byteStream, checkId, decodeAll, type TokenStream } from "./token-stream.js";
import type { Tokenizer } from "./tokenizer.js";

const beginningOfText = 1;
const endOfText = 2;
const firstByte = 3;
/** Score at or below which llama2.c's program does not merge two tokens into this one. */
export const unmergeable = -1e10;
const byteToken = /^<0x([0-9A-F]{2})>$/;

interface Token {
  bytes: Uint8Array;
  /** The bytes as a string with one character for each byte. */
  text: string;
  score: number;
}

/**
 * Tokenizer of a model of llama2.c, as its file tokenizer.bin describes it.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
 * const tokens = ["<unk>", "<s>", "</s>", ...bytes].map((text) => [text, 0]);
 * const smallest = (await tokenizerFromJSON({ type: "llama2c", tokens })) as Llama2cTokenizer;
 * await writeFile("tokenizer.bin", smallest.toBytes());
 * (await Llama2cTokenizer.fromFile("tokenizer.bin")).encode("Hi"); // Int32Array [1, 35, 75, 108]
 *
 * @see https://github.com/karpathy/llama2.c
 */
export class Llama2cTokenizer implements Tokenizer {
  readonly endOfText = endOfText;
  /** The id that begins a text. */
  readonly beginningOfText = beginningOfText;
  readonly #vocabulary: Vocabulary;

  private constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
  }

  /**
   * Resolves to the tokenizer in a file.
   *
   * @throws ERR_IO if the file cannot be read; the message names it.
   * @throws ERR_FORMAT if it is not a tokenizer file of llama2.c; the message names it.
   */
  static async fromFile(file: string): Promise<Llama2cTokenizer> {
    const bytes = await readSmallFile(file);
    return new Llama2cTokenizer(await inTurns(vocabularyOf(parse(bytes, file), file)));
  }

  /** @internal Returns the tokenizer that `toJSON` described, as a list of [bytes in latin1, score] for each token. */
  static fromTokens(list: unknown): Llama2cTokenizer {
    return new Llama2cTokenizer(atOnce(vocabularyOf(entriesOf(list), "Llama2cTokenizer")));
  }

  /**
   * @internal Resolves to the same tokenizer as `fromTokens`. The work is done in short slices, so that the event loop
   * keeps running.
   */
  static async load(list: unknown): Promise<Llama2cTokenizer> {
    return new Llama2cTokenizer(await inTurns(vocabularyOf(entriesOf(list), "Llama2cTokenizer")));
  }

  get vocabularySize(): number {
    return this.#vocabulary.tokens.length;
  }

  /** Returns the ids of a text. With `begin`, which is true by default, the token that begins a text comes first. */
  encode(text: string, { begin = true }: { begin?: boolean } = {}): Int32Array {
    return joinParts(this.#parts(text, begin));
  }

  async encodeAsync(
    text: string,
    { begin = true, ...limit }: { begin?: boolean; maxLength?: number } = {},
  ): Promise<Int32Array> {
    return joinPartsInTurns(this.#parts(text, begin), limit);
  }

  *#parts(text: string, begin: boolean): IdParts {
    if (begin) yield [beginningOfText];
    if (text === "") return;
    const words: WordCache = new Map();
    let ids: number[] = [];
    // A space is put before the text, so that its first word is encoded like a word within a text.
    for (const found of wordsOf(` ${text}`.toWellFormed(), this.#vocabulary)) {
      if (!found) {
        yield;
        continue;
      }
      const [word, symbols] = found;
      let tokens = words.get(word);
      if (!tokens) {
        tokens = yield* merged(symbols, this.#vocabulary);
        remember(words, word, tokens);
      }
      for (const id of tokens) {
        if (ids.push(id) < partLength) continue;
        yield ids;
        ids = [];
      }
    }
    yield ids;
  }

  decode(ids: Iterable<number>): string {
    return decodeAll(this.stream(), ids);
  }

  /** Returns a stream that decodes ids one by one. The tokens that begin and end a text decode to nothing. */
  stream(): TokenStream {
    let first = true;
    return byteStream((id) => {
      checkId(this, id);
      if (id === beginningOfText || id === endOfText) return new Uint8Array(0);
      const bytes = this.#bytesOf(id);
      const shown = first && bytes[0] === 0x20 ? bytes.subarray(1) : bytes;
      first = false;
      return shown;
    });
  }

  bytesOf(id: number): Uint8Array {
    checkId(this, id);
    // The tokens that stand for unknown text, and for the beginning and the end of a text.
    return id < firstByte ? new Uint8Array(0) : this.#bytesOf(id);
  }

  /** Returns the same tokenizer as a tokenizer.json, for libraries that read this format. */
  toHuggingFace(): HuggingFaceTokenizer {
    const names: Record<number, [string, PieceKind]> = {
      0: ["<unk>", "unknown"],
      [beginningOfText]: ["<s>", "control"],
      [endOfText]: ["</s>", "control"],
    };
    const pieces = this.#vocabulary.tokens.map(({ bytes, text, score }, id): Piece => {
      const [name, kind] = names[id] ?? [
        Buffer.from(bytes).toString().replaceAll(" ", wordBoundary),
        byteToken.test(text) ? "byte" : "normal",
      ];
      return { text: name, score, kind };
    });
    const config = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" };
    return new HuggingFaceTokenizer(atOnce(sentencePieceJson(pieces, { before: ["<s>"] })), { config });
  }

  /** Returns the content of a tokenizer file of llama2.c with this vocabulary. */
  toBytes(): Uint8Array {
    const longest = Buffer.alloc(4);
    longest.writeInt32LE(this.#vocabulary.tokens.reduce((most, { bytes }) => Math.max(most, bytes.length), 0));
    const parts = this.#vocabulary.tokens.flatMap(({ bytes, score }) => {
      const head = Buffer.alloc(8);
      head.writeFloatLE(score, 0);
      head.writeInt32LE(bytes.length, 4);
      return [head, bytes];
    });
    return Buffer.concat([longest, ...parts]);
  }

  toJSON(): { type: "llama2c"; tokens: [string, number][] } {
    return { type: "llama2c", tokens: this.#vocabulary.tokens.map(({ text, score }) => [text, score]) };
  }

  #bytesOf(id: number): Uint8Array {
    const { bytes, text } = this.#vocabulary.tokens[id]!;
    const hex = byteToken.exec(text)?.[1];
    return hex === undefined ? bytes : Uint8Array.of(parseInt(hex, 16));
  }
}

interface Vocabulary {
  readonly tokens: readonly Token[];
  /** The id of each token, by its text. */
  readonly ids: ReadonlyMap<string, number>;
  /**
   * The rank of each token, by id: its place in the order of scores, the best first; -1 if it is never made by a merge.
   */
  readonly ranks: Int32Array;
  /** Neighbours by pair of bytes: 1 if some token has the second byte right after the first. */
  readonly neighbours: Uint8Array;
}

/**
 * Builds the tables of a vocabulary.
 *
 * @throws ERR_FORMAT if the tokens of single bytes do not have the ids that encoding expects.
 */
function* vocabularyOf(given: Iterable<Token>, file: string): Steps<Vocabulary> {
  const tokens: Token[] = [];
  for (const token of given) if (tokens.push(token) % stride === 0) yield;
  checkBytes(tokens, file);
  const ids = new Map<string, number>();
  const neighbours = new Uint8Array(2 ** 16);
  for (const [id, { text }] of tokens.entries()) {
    // If a token occurs twice, the first one counts, as in a search.
    if (!ids.has(text)) ids.set(text, id);
    for (let i = 1; i < text.length; i++) neighbours[pairOf(text.charCodeAt(i - 1), text.charCodeAt(i))] = 1;
    if (id % stride === 0) yield;
  }
  return { tokens, ids, ranks: yield* ranksOf(tokens), neighbours };
}

function* ranksOf(tokens: readonly Token[]): Steps<Int32Array> {
  const sorted = Float64Array.from(tokens, ({ score }) => -score).sort();
  yield;
  const rankOf = new Map<number, number>();
  for (const [i, score] of sorted.entries()) {
    if (!rankOf.has(-score)) rankOf.set(-score, rankOf.size);
    if (i % stride === 0) yield;
  }
  const ranks = new Int32Array(tokens.length);
  for (const [id, { score }] of tokens.entries()) {
    ranks[id] = score > unmergeable ? rankOf.get(score)! : -1;
    if (id % stride === 0) yield;
  }
  return ranks;
}

/** Number of tokens or words that are processed between two yields. */
const stride = 2048;

const pairOf = (first: number, second: number): number => first * 256 + second;

/**
 * Yields the words of a text, each with the ids of its characters or of their bytes, and undefined whenever the caller
 * may pause the work. A text is cut into words where no token joins the two sides.
 */
function* wordsOf(
  text: string,
  { tokens, ids, neighbours }: Vocabulary,
): Generator<readonly [word: string, symbols: IdList] | undefined> {
  const spelt = new Map<number, readonly number[]>();
  let symbols = new IdList();
  let start = 0;
  for (let [at, step] = [0, 1]; at < text.length; step++) {
    if (step % stride === 0) yield;
    const character = text.codePointAt(at)!;
    let own = spelt.get(character);
    if (!own) spelt.set(character, (own = spell(String.fromCodePoint(character), ids)));
    if (symbols.length > 0) {
      const [left, right] = [tokens[symbols.last!]!.text, tokens[own[0]!]!.text];
      if (neighbours[pairOf(left.charCodeAt(left.length - 1), right.charCodeAt(0))] === 0) {
        yield [text.slice(start, at), symbols];
        [symbols, start] = [new IdList(), at];
      }
    }
    for (const id of own) symbols.push(id);
    at += character > 0xffff ? 2 : 1;
  }
  yield [text.slice(start), symbols];
}

/** Returns the id of a character or, if it has none, the ids of its bytes. */
function spell(character: string, ids: ReadonlyMap<string, number>): number[] {
  const bytes = Buffer.from(character);
  const id = ids.get(bytes.toString("latin1"));
  return id !== undefined ? [id] : Array.from(bytes, (byte) => firstByte + byte);
}

/** Merges the best pair, the leftmost of equals, until no pair can be merged. Returns the ids. */
function* merged(symbols: IdList, { tokens, ids, ranks }: Vocabulary): Steps<number[]> {
  const own = new Int32Array(symbols.length);
  for (const [at, chunk] of symbols.chunks()) {
    own.set(chunk, at);
    yield;
  }
  const union = (first: number, second: number): number => {
    const id = ids.get(tokens[own[first]!]!.text + tokens[own[second]!]!.text);
    return id === undefined || ranks[id]! < 0 ? -1 : id;
  };
  const next = yield* mergeParts(own.length, {
    rank: (first, second) => ranks[union(first, second)] ?? -1,
    join: (first, second) => void (own[first] = union(first, second)),
  });
  const found: number[] = [];
  for (let i = 0; i < own.length; i = next[i]!) if (found.push(own[i]!) % stride === 0) yield;
  return found;
}

/** Yields the tokens of a file. */
function* parse(bytes: Buffer, file: string): Generator<Token> {
  if (bytes.length < 4) throw new HeedError("ERR_FORMAT", `${file}: expected at least 4 bytes, got ${bytes.length}`);
  const longest = bytes.readInt32LE(0);
  for (let [at, count] = [4, 0]; at < bytes.length; count++) {
    const left = bytes.length - at - 8;
    const length = left < 0 ? 0 : bytes.readInt32LE(at + 4);
    if (left < 0 || length > left)
      throw new HeedError(
        "ERR_FORMAT",
        `${file}: expected ${left < 0 ? 8 : 8 + length} bytes of token ${count} at ${at}, got ${left + 8}: truncated`,
      );
    if (length < 0 || length > longest)
      throw new HeedError(
        "ERR_FORMAT",
        `${file}: expected a token of 0 to ${longest} bytes at ${at}, got ${length}: not a tokenizer of llama2.c`,
      );
    yield tokenOf(bytes.subarray(at + 8, at + 8 + length), bytes.readFloatLE(at));
    at += 8 + length;
  }
}

/** Yields the tokens that `toJSON` described. */
function* entriesOf(list: unknown): Generator<Token> {
  if (!Array.isArray(list) || !list.every(isEntry))
    throw new HeedError("ERR_FORMAT", "Llama2cTokenizer: expected every token to be [bytes, score], got another form");
  for (const [text, score] of list) yield tokenOf(Buffer.from(text, "latin1"), score);
}

/** Checks that the tokens of single bytes have the ids that encoding expects. */
function checkBytes(tokens: readonly Token[], file: string): void {
  for (let byte = 0; byte < 256; byte++) {
    const name = `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
    const token = tokens[firstByte + byte];
    const got = token?.text ?? "none";
    if (got !== name)
      throw new HeedError(
        "ERR_FORMAT",
        `${file}: expected token ${firstByte + byte} to be ${name}, got ${JSON.stringify(got)}`,
      );
  }
}

function isEntry(entry: unknown): entry is [string, number] {
  return Array.isArray(entry) && typeof entry[0] === "string" && typeof entry[1] === "number";
}

function tokenOf(bytes: Buffer, score: number): Token {
  return { bytes, text: bytes.toString("latin1"), score };
}
