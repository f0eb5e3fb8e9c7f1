// Turns blocks of input into tokens. It runs in worker threads, and needs nothing but the block and the settings.
import { append } from "../util/append.js";
import { HeedError } from "../util/errors.js";
import { HuggingFaceTokenizer } from "../tokenizer/huggingface-tokenizer.js";
import { Llama2cTokenizer } from "../tokenizer/llama2c-tokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { recordExamples } from "./example-record.js";
import type { TrainingExample } from "./pack-examples.js";
import type { TokenDType } from "./token-data.js";
import { documentsOf, valuesOf } from "./block-text.js";
import type { BadLine } from "./bad-lines.js";
import type { Block } from "./blocks.js";
import { preferencePair } from "./preference-pair.js";
import { checkKind, type DataKind, type DataRecord, dataRecord } from "./records.js";

/** Settings of the encoding of a data set. */
export interface EncodingSettings {
  readonly kind: DataKind;
  /** Text between the documents of a text file, or null. */
  readonly separator: string | null;
  readonly textColumn: string;
  readonly dtype: TokenDType;
}

/** Tokens of a block. */
export interface EncodedBlock {
  /** Ids of the data set's dtype. */
  readonly ids: Uint8Array | Uint16Array | Int32Array;
  /** Mask of the tokens, 1 for those that count for the loss; null if all do. */
  readonly mask: Uint8Array | null;
  /** Number of ids before the end of each document that ends in the block. */
  readonly ends: Int32Array;
  /** Number of UTF-8 bytes of the texts. */
  readonly textBytes: number;
  /** Lines that were left out. */
  readonly bad: readonly BadLine[];
  /** Number of records that were left out because their answers are bad ones. */
  readonly badAnswers: number;
}

const arrays = { u8: Uint8Array, u16: Uint16Array, i32: Int32Array } as const;

/** Returns the smallest dtype that holds the ids of a vocabulary. */
export function dtypeOf(vocabularySize: number): TokenDType {
  return vocabularySize <= 2 ** 8 ? "u8" : vocabularySize <= 2 ** 16 ? "u16" : "i32";
}

/** Collects the documents of a block. */
class Output {
  readonly bad: BadLine[] = [];
  textBytes = 0;
  badAnswers = 0;
  #length = 0;
  readonly #ids: Int32Array[] = [];
  readonly #masks: Uint8Array[] = [];
  readonly #ends: number[] = [];

  /** Adds tokens to the current document. */
  add(ids: Int32Array, mask?: Uint8Array): void {
    this.#ids.push(ids);
    if (mask) this.#masks.push(mask);
    this.#length += ids.length;
  }

  endDocument(): void {
    this.#ends.push(this.#length);
  }

  result({ kind, dtype }: EncodingSettings): EncodedBlock {
    const ids = new arrays[dtype](this.#length);
    const mask = kind === "text" ? null : new Uint8Array(this.#length);
    let at = 0;
    for (const [i, part] of this.#ids.entries()) {
      ids.set(part, at);
      // A document of text has no mask: all of its tokens count.
      if (mask && this.#masks[i]) mask.set(this.#masks[i], at);
      else mask?.fill(1, at, at + part.length);
      at += part.length;
    }
    const { textBytes, bad, badAnswers } = this;
    return { ids, mask, ends: Int32Array.from(this.#ends), textBytes, bad, badAnswers };
  }
}

/** Encoder of blocks. */
export class BlockEncoder {
  constructor(
    readonly tokenizer: Tokenizer,
    readonly settings: EncodingSettings,
  ) {}

  /** Resolves to the tokens of a block. Input that is malformed is left out and reported. */
  async encode(block: Block): Promise<EncodedBlock> {
    const output = new Output();
    append(output.bad, block.bad);
    if (block.kind === "text") this.#encodeText(block, output);
    else
      for (const [line, parse] of valuesOf(block, output.bad))
        await this.#guarded(line, output, () => this.#encodeRecord(parse(), output));
    return output.result(this.settings);
  }

  async #guarded(line: number, output: Output, body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (cause) {
      if (!(cause instanceof HeedError || cause instanceof SyntaxError)) throw cause;
      output.bad.push({ line, message: cause.message });
    }
  }

  async #encodeRecord(value: unknown, output: Output): Promise<void> {
    const { kind, textColumn } = this.settings;
    const record = dataRecord(value, textColumn, kind);
    checkKind(record, kind);
    if (kind === "text") {
      const { text } = record as { text: string };
      if (text.trim() === "") return;
      output.textBytes += Buffer.byteLength(text);
      output.add(this.#idsOf(text, true, true));
      output.endDocument();
      return;
    }
    const examples = await this.#examplesOf(record);
    if (examples.length === 0) {
      output.badAnswers++;
      return;
    }
    output.textBytes += bytesIn(record);
    for (const { ids, mask } of examples) {
      output.add(ids, mask);
      output.endDocument();
    }
  }

  async #examplesOf(record: DataRecord): Promise<TrainingExample[]> {
    if (!("chosen" in record)) return recordExamples(record, this.tokenizer);
    const { chosen, rejected } = await preferencePair(record, this.tokenizer);
    return [chosen, rejected];
  }

  #encodeText(block: Block & { kind: "text" }, output: Output): void {
    for (const { text, begins, ends } of documentsOf(block, this.settings.separator, output.bad)) {
      output.textBytes += Buffer.byteLength(text);
      output.add(this.#idsOf(text, begins, ends));
      if (ends) output.endDocument();
    }
  }

  /** Returns the ids of a document or a part of one, with the tokens that begin and end a text. */
  #idsOf(text: string, begins: boolean, ends: boolean): Int32Array {
    const { tokenizer } = this;
    let ids: Int32Array;
    const affixes: { before: readonly number[]; after: readonly number[] } = { before: [], after: [] };
    if (tokenizer instanceof HuggingFaceTokenizer) {
      ids = tokenizer.encode(text, { addSpecialTokens: false });
      if (begins) affixes.before = tokenizer.before;
      if (ends) affixes.after = tokenizer.after;
    } else if (tokenizer instanceof Llama2cTokenizer) ids = tokenizer.encode(text, { begin: begins });
    else ids = tokenizer.encode(text);
    const { endOfText } = tokenizer;
    if (ends && endOfText !== null && (affixes.after.at(-1) ?? ids.at(-1)) !== endOfText)
      affixes.after = [...affixes.after, endOfText];
    if (affixes.before.length + affixes.after.length === 0) return ids;
    const all = new Int32Array(affixes.before.length + ids.length + affixes.after.length);
    all.set(affixes.before);
    all.set(ids, affixes.before.length);
    all.set(affixes.after, affixes.before.length + ids.length);
    return all;
  }
}

/** Returns the number of UTF-8 bytes of the texts in a value. */
function bytesIn(value: unknown): number {
  if (typeof value === "string") return Buffer.byteLength(value);
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce((sum: number, part) => sum + bytesIn(part), 0);
}
