// The tokenizer file of llama2.c (github.com/karpathy/llama2.c): a SentencePiece vocabulary without its model. The two
// neighbours whose union has the best score are merged, the leftmost first, until no union is in the vocabulary; what
// is not in the vocabulary is spelt in bytes, which are the ids from 3 on.
//
// The file: int32 the longest token; then for each token float32 score, int32 length, bytes. Little-endian.
import { HeedError } from "../errors.js";
import { readSmallFile } from "../files.js";
import { HuggingFaceTokenizer } from "./huggingface-tokenizer.js";
import { type IdParts, joinParts, joinPartsInTurns, partLength, slicesOf } from "./id-parts.js";
import { type Piece, type PieceKind, sentencePieceJson, wordBoundary } from "./sentencepiece-json.js";
import { byteStream, checkId, decodeAll, type TokenStream } from "./token-stream.js";
import type { Tokenizer } from "./tokenizer.js";

const beginningOfText = 1;
const endOfText = 2;
const firstByte = 3;
/** The score from which on llama2.c's program makes no token of two others. */
export const unmergeable = -1e10;
const byteToken = /^<0x([0-9A-F]{2})>$/;

interface Token {
  bytes: Uint8Array;
  /** The bytes, a character each. */
  text: string;
  score: number;
}

export class Llama2cTokenizer implements Tokenizer {
  readonly endOfText = endOfText;
  readonly beginningOfText = beginningOfText;
  readonly #tokens: readonly Token[];
  /** By text. */
  readonly #ids: ReadonlyMap<string, number>;

  private constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
    // Of equal tokens the first counts, as in a search.
    this.#ids = new Map(tokens.map(({ text }, id) => [text, id] as const).reverse());
  }

  /** Reads a tokenizer file. Throws ERR_IO or ERR_FORMAT with its name. */
  static async fromFile(file: string): Promise<Llama2cTokenizer> {
    const bytes = await readSmallFile(file);
    return new Llama2cTokenizer(parse(bytes, file));
  }

  /** @internal The tokenizer that `toJSON` described: [text of latin1, score] a token. */
  static fromTokens(list: unknown): Llama2cTokenizer {
    if (!Array.isArray(list) || !list.every(isEntry))
      throw new HeedError("ERR_FORMAT", "Llama2cTokenizer: expected tokens as [bytes, score], got others");
    const tokens = list.map(([text, score]) => tokenOf(Buffer.from(text, "latin1"), score));
    return new Llama2cTokenizer(checkTokens(tokens, "Llama2cTokenizer"));
  }

  get vocabularySize(): number {
    return this.#tokens.length;
  }

  /** With `begin` (true unless given), the token that begins a text comes first. */
  encode(text: string, { begin = true }: { begin?: boolean } = {}): Int32Array {
    return joinParts(this.#parts(text, begin));
  }

  /** Resolves to what `encode` gives, in pieces of work between which the event loop goes round. */
  async encodeAsync(text: string, { begin = true }: { begin?: boolean } = {}): Promise<Int32Array> {
    return joinPartsInTurns(this.#parts(text, begin));
  }

  *#parts(text: string, begin: boolean): IdParts {
    if (begin) yield [beginningOfText];
    if (text === "") return;
    const ids: number[] = [];
    // A text begins with a space, as a word within it does.
    for (const slice of slicesOf(` ${text}`, 2 ** 14)) {
      this.#spell(slice.replace(/\p{Surrogate}/gu, "\ufffd"), ids);
      yield [];
    }
    yield* mergePairs(ids, (left, right) => this.#union(left, right));
  }

  decode(ids: Iterable<number>): string {
    return decodeAll(this.stream(), ids);
  }

  /** The tokens that begin and end a text are not shown. */
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

  /** The same vocabulary for the libraries that read a tokenizer.json. */
  toHuggingFace(): HuggingFaceTokenizer {
    const names: Record<number, [string, PieceKind]> = {
      0: ["<unk>", "unknown"],
      [beginningOfText]: ["<s>", "control"],
      [endOfText]: ["</s>", "control"],
    };
    const pieces = this.#tokens.map(({ bytes, text, score }, id): Piece => {
      const [name, kind] = names[id] ?? [
        Buffer.from(bytes).toString().replaceAll(" ", wordBoundary),
        byteToken.test(text) ? "byte" : "normal",
      ];
      return { text: name, score, kind };
    });
    const config = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>" };
    return new HuggingFaceTokenizer(sentencePieceJson(pieces, { before: ["<s>"] }), { config });
  }

  /** The tokenizer as a file of llama2.c. */
  toBytes(): Uint8Array {
    const longest = Buffer.alloc(4);
    longest.writeInt32LE(this.#tokens.reduce((most, { bytes }) => Math.max(most, bytes.length), 0));
    const parts = this.#tokens.flatMap(({ bytes, score }) => {
      const head = Buffer.alloc(8);
      head.writeFloatLE(score, 0);
      head.writeInt32LE(bytes.length, 4);
      return [head, bytes];
    });
    return Buffer.concat([longest, ...parts]);
  }

  toJSON(): { type: "llama2c"; tokens: [string, number][] } {
    return { type: "llama2c", tokens: this.#tokens.map(({ text, score }) => [text, score]) };
  }

  #bytesOf(id: number): Uint8Array {
    const { bytes, text } = this.#tokens[id]!;
    const hex = byteToken.exec(text)?.[1];
    return hex === undefined ? bytes : Uint8Array.of(parseInt(hex, 16));
  }

  /** Appends the ids of a text's characters, or of their bytes. */
  #spell(text: string, ids: number[]): void {
    for (const character of text) {
      const bytes = Buffer.from(character);
      const id = this.#ids.get(bytes.toString("latin1"));
      if (id !== undefined) ids.push(id);
      else for (const byte of bytes) ids.push(firstByte + byte);
    }
  }

  /** The token of two neighbours, if there is one. */
  #union(left: number, right: number): { id: number; score: number } | null {
    const text = this.#tokens[left]!.text + this.#tokens[right]!.text;
    const id = this.#ids.get(text);
    const score = id === undefined ? unmergeable : this.#tokens[id]!.score;
    return score > unmergeable ? { id: id!, score } : null;
  }
}

/** A candidate: two neighbours and what they would be. */
interface Pair {
  left: number;
  right: number;
  /** What the two were when the pair was found: another merge may have come first. */
  ids: [number, number];
  id: number;
  score: number;
}

/**
 * Merges the best pair, the leftmost of equals, until there is none. Ids form a linked list and pairs a heap, so that a
 * long text takes n log n steps, not n². Parts without ids come before, one for so many steps.
 */
function* mergePairs(
  given: readonly number[],
  union: (left: number, right: number) => { id: number; score: number } | null,
): IdParts {
  const ids = Int32Array.from(given);
  const n = ids.length;
  const next = Int32Array.from(ids, (_, i) => i + 1);
  const previous = Int32Array.from(ids, (_, i) => i - 1);
  const heap: Pair[] = [];
  const consider = (left: number): void => {
    const right = left < 0 ? n : next[left]!;
    if (right >= n) return;
    const found = union(ids[left]!, ids[right]!);
    if (found) push(heap, { left, right, ids: [ids[left]!, ids[right]!], ...found });
  };
  for (let i = 0; i + 1 < n; i++) {
    consider(i);
    if (i % partLength === 0) yield [];
  }
  for (let step = 0; heap.length > 0; step++) {
    if (step % partLength === 0) yield [];
    const { left, right, ids: found, id } = pop(heap);
    if (ids[left] !== found[0] || next[left] !== right || ids[right] !== found[1]) continue;
    ids[left] = id;
    ids[right] = -1;
    next[left] = next[right]!;
    if (next[left] < n) previous[next[left]] = left;
    consider(previous[left]!);
    consider(left);
  }
  let merged: number[] = [];
  for (let i = 0; i < n; i = next[i]!) {
    if (merged.push(ids[i]!) < partLength) continue;
    yield merged;
    merged = [];
  }
  yield merged;
}

function before(a: Pair, b: Pair): boolean {
  return a.score > b.score || (a.score === b.score && a.left < b.left);
}

function push(heap: Pair[], pair: Pair): void {
  let i = heap.push(pair) - 1;
  for (; i > 0; i = (i - 1) >> 1) {
    const parent = heap[(i - 1) >> 1]!;
    if (!before(pair, parent)) break;
    heap[i] = parent;
  }
  heap[i] = pair;
}

/** Takes out the best pair of a heap that has one. */
function pop(heap: Pair[]): Pair {
  const best = heap[0]!;
  const last = heap.pop()!;
  const n = heap.length;
  if (n === 0) return best;
  let i = 0;
  for (let child = 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && before(heap[child + 1]!, heap[child]!)) child++;
    if (!before(heap[child]!, last)) break;
    heap[i] = heap[child]!;
    i = child;
  }
  heap[i] = last;
  return best;
}

function parse(bytes: Buffer, file: string): Token[] {
  const tokens: Token[] = [];
  if (bytes.length < 4) throw new HeedError("ERR_FORMAT", `${file}: expected at least 4 bytes, got ${bytes.length}`);
  const longest = bytes.readInt32LE(0);
  for (let at = 4; at < bytes.length;) {
    const left = bytes.length - at - 8;
    const length = left < 0 ? 0 : bytes.readInt32LE(at + 4);
    if (left < 0 || length > left)
      throw new HeedError(
        "ERR_FORMAT",
        `${file}: expected ${left < 0 ? 8 : 8 + length} bytes of token ${tokens.length} at ${at}, got ${left + 8}: truncated`,
      );
    if (length < 0 || length > longest)
      throw new HeedError(
        "ERR_FORMAT",
        `${file}: expected a token of 0 to ${longest} bytes at ${at}, got ${length}: not a tokenizer of llama2.c`,
      );
    tokens.push(tokenOf(bytes.subarray(at + 8, at + 8 + length), bytes.readFloatLE(at)));
    at += 8 + length;
  }
  return checkTokens(tokens, file);
}

/** The bytes have to be where encoding looks for them. */
function checkTokens(tokens: readonly Token[], file: string): Token[] {
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
  return [...tokens];
}

function isEntry(entry: unknown): entry is [string, number] {
  return Array.isArray(entry) && typeof entry[0] === "string" && typeof entry[1] === "number";
}

function tokenOf(bytes: Buffer, score: number): Token {
  return { bytes, text: bytes.toString("latin1"), score };
}
