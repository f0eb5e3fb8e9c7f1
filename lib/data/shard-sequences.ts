// Sequences of one length from shards: windows of the stream of tokens, or documents that are packed together.
import { checkBoolean, checkChoice, checkInteger, checkObject } from "../util/check.js";
import { HeedError } from "../util/errors.js";
import { joinExamples, packLengths, type TrainingExample } from "./pack-examples.js";
import { ignored, type SequenceSource, type TrainingSequence } from "./sequence-source.js";
import type { TokenShards } from "./token-shards.js";

/** Options of `shardSequences`. */
export interface ShardSequenceOptions {
  /** T, the number of tokens in a sequence. */
  contextLength: number;
  /**
   * "windows" cuts the stream of all documents into sequences that lie side by side. "documents" fills each sequence with
   * whole documents that do not see each other, so that little of it is padding.
   * @default "windows" for texts, "documents" for examples
   */
  packing?: "windows" | "documents" | undefined;
  /** True if a token of a window sees only its own document. Packed documents never see each other. @default false */
  separate?: boolean | undefined;
  /**
   * Rule for packed documents of more than T + 1 tokens: they are cut into several ("split"), the end is cut off ("end"),
   * the beginning is ("start"), or they are left out ("drop").
   * @default "split" for texts, "end" for examples
   */
  truncation?: "split" | "end" | "start" | "drop" | undefined;
}

/** Number of documents that are packed together. Which ones does not depend on the order of training. */
const groupLength = 1024;
/** Number of groups whose packing is kept in memory. */
const mostGroups = 32;

/**
 * Returns sequences of T tokens from shards, for `Trainer`, `mixSequences` or `DataLoader`. They are read by position; in
 * memory is only a number for each thousand documents.
 *
 * @example
 * import { writeFile } from "node:fs/promises";
 * await writeFile("packed.txt", "Call me Ishmael. Some years ago");
 * await writeShards("packed.txt", { out: "packed-shards", tokenizer, threads: 0 });
 * using shards = TokenShards.open("packed-shards");
 * const data = shardSequences(shards, { contextLength: 8 });
 * using trainer = new Trainer({ model: gpt, data, batchSize: 1, contextLength: 8, steps: 1 });
 *
 * @throws ERR_ARGUMENT if an option is invalid, or the shards contain pairs of answers.
 * @throws ERR_RANGE if the data does not fill a sequence.
 */
export function shardSequences(shards: TokenShards, options: ShardSequenceOptions): SequenceSource {
  const op = "shardSequences";
  checkObject(op, "options", options);
  const { contextLength, separate = false } = options;
  const isText = shards.kind === "text";
  const { packing = isText ? "windows" : "documents", truncation = isText ? "split" : "end" } = options;
  checkInteger(op, "contextLength", contextLength, 1);
  checkChoice(op, "packing", packing, ["windows", "documents"]);
  checkBoolean(op, "separate", separate);
  checkChoice(op, "truncation", truncation, ["split", "end", "start", "drop"]);
  if (shards.kind === "preference")
    throw new HeedError("ERR_ARGUMENT", `${op}: expected texts or examples, got pairs of answers; use pair()`);
  return packing === "windows"
    ? windows(shards, contextLength, separate)
    : new PackedDocuments(shards, contextLength, truncation);
}

/** Examples of shards that fit into a sequence, and the numbers of the others. */
export interface FittingExamples extends SequenceSource {
  /** Number of examples that are longer than a sequence and are left out. */
  readonly long: number;
  /** Number of examples that are left out because no token of theirs counts. */
  readonly empty: number;
  /** Returns the number of tokens that count for the loss in the sequences before this one. */
  targetsBefore(sequence: number): number;
}

/**
 * @internal Returns sequences of the examples that fit into them whole. Texts, of which every token counts, are split.
 *
 * @throws ERR_RANGE if there is none.
 */
export function fittingExamples(shards: TokenShards, contextLength: number): FittingExamples {
  return new PackedDocuments(shards, contextLength, "fit");
}

function windows(shards: TokenShards, contextLength: number, separate: boolean): SequenceSource {
  const sequences = Math.floor((shards.length - 1) / contextLength);
  if (sequences < 1)
    throw new HeedError(
      "ERR_RANGE",
      `${shards.folder}: expected at least ${contextLength + 1} tokens for a sequence and its targets, got ${shards.length}`,
    );
  return {
    sequences,
    contextLength,
    sequence(index) {
      const start = index * contextLength;
      const { ids, mask } = shards.example(start, contextLength + 1);
      const targets = ids.slice(1).map((id, t) => (mask[t + 1] ? id : ignored));
      const documents = separate ? documentLengths(shards, start, contextLength) : null;
      // Nothing in a document predicts how the next one begins.
      if (documents) {
        let end = 0;
        for (const length of documents) {
          end += length;
          const next = start + end;
          if (next === shards.length || shards.documentStart(shards.documentOf(next)) === next)
            targets[end - 1] = ignored;
        }
      }
      return { inputs: ids.subarray(0, contextLength), targets, documents };
    },
  };
}

/** Returns the lengths of the parts of documents in a window. */
function documentLengths(shards: TokenShards, start: number, length: number): number[] {
  const lengths: number[] = [];
  for (let at = start, document = shards.documentOf(start); at < start + length; document++) {
    const end = Math.min(shards.documentStart(document + 1), start + length);
    if (end > at) lengths.push(end - at);
    at = end;
  }
  return lengths;
}

/** Part of a document that is packed as one. */
interface Item {
  start: number;
  /** Number of tokens, one more than that of its targets. */
  length: number;
  /** Number of tokens that count. */
  targets: number;
}

/** Documents of a group, the sequences that they are packed into, and the numbers of those that are left out. */
interface Group {
  items: Item[];
  rows: number[][];
  long: number;
  empty: number;
}

/** Documents that are packed in groups of neighbours. */
class PackedDocuments implements FittingExamples {
  readonly sequences: number;
  readonly long: number = 0;
  readonly empty: number = 0;
  /** Number of sequences before each group; the last number is that of all. */
  readonly #before = [0];
  /** Number of tokens that count before each group; the last number is that of all. */
  readonly #targetsBefore = [0];
  readonly #groups = new Map<number, Group>();

  constructor(
    private readonly shards: TokenShards,
    readonly contextLength: number,
    private readonly truncation: "split" | "end" | "start" | "drop" | "fit",
  ) {
    const groups = Math.ceil(shards.documents / groupLength);
    for (let group = 0; group < groups; group++) {
      const { items, rows, long, empty } = this.#pack(group);
      this.#before.push(this.#before.at(-1)! + rows.length);
      this.#targetsBefore.push(this.#targetsBefore.at(-1)! + sumOf(items.map(({ targets }) => targets)));
      this.long += long;
      this.empty += empty;
    }
    this.sequences = this.#before.at(-1)!;
    if (this.sequences === 0)
      throw new HeedError(
        "ERR_RANGE",
        `${shards.folder}: expected a document with a token to learn${this.long > 0 ? ` that fits into ${contextLength} tokens` : ""}, got none`,
      );
  }

  sequence(index: number): TrainingSequence {
    checkInteger("sequence", "index", index, 0, this.sequences - 1);
    const { items, row } = this.#find(index);
    const examples = row.map((i): TrainingExample => this.shards.example(items[i]!.start, items[i]!.length));
    return joinExamples(examples, this.contextLength);
  }

  targetsBefore(sequence: number): number {
    if (sequence === this.sequences) return this.#targetsBefore.at(-1)!;
    const { group, items, within, rows } = this.#find(sequence);
    const before = rows.slice(0, within).flat();
    return this.#targetsBefore[group]! + sumOf(before.map((i) => items[i]!.targets));
  }

  /** Returns the group of a sequence, and the items in the sequence. */
  #find(index: number): Group & { group: number; within: number; row: number[] } {
    let [low, high] = [0, this.#before.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#before[middle]! <= index) low = middle;
      else high = middle;
    }
    const group = this.#group(low);
    const within = index - this.#before[low]!;
    return { ...group, group: low, within, row: group.rows[within]! };
  }

  #group(group: number): Group {
    let packed = this.#groups.get(group);
    if (packed) this.#groups.delete(group);
    else {
      packed = this.#pack(group);
      if (this.#groups.size >= mostGroups) this.#groups.delete(this.#groups.keys().next().value!);
    }
    this.#groups.set(group, packed);
    return packed;
  }

  #pack(group: number): Group {
    const { shards, contextLength } = this;
    const items: Item[] = [];
    let [long, empty] = [0, 0];
    const last = Math.min(shards.documents, (group + 1) * groupLength);
    for (let document = group * groupLength; document < last; document++) {
      const start = shards.documentStart(document);
      const length = shards.documentStart(document + 1) - start;
      const added = this.#add(items, start, length);
      if (added === 0 && length > contextLength + 1) long++;
      else if (added === 0) empty++;
    }
    return {
      items,
      long,
      empty,
      rows: packLengths(
        items.map(({ length }) => length - 1),
        contextLength,
      ),
    };
  }

  /** Adds a document, or its parts; returns how many items that are. */
  #add(items: Item[], start: number, length: number): number {
    const before = items.length;
    const most = this.contextLength + 1;
    const add = (start: number, length: number): void => {
      // Nothing predicts the first token.
      const targets = length > 1 ? this.#targetsIn(start + 1, length - 1) : 0;
      if (targets > 0) items.push({ start, length, targets });
    };
    const splits =
      this.truncation === "split" || (this.truncation === "fit" && length > most && this.#isText(start, length));
    if (length <= most) add(start, length);
    else if (this.truncation === "end") add(start, most);
    else if (this.truncation === "start") add(start + length - most, most);
    else if (splits)
      // The last token of a part is the first one of the next, which it does not count for.
      for (let at = 0; at < length - 1; at += this.contextLength) add(start + at, Math.min(most, length - at));
    return items.length - before;
  }

  /** Returns true if every token of a document counts. */
  #isText(start: number, length: number): boolean {
    return this.#targetsIn(start, length) === length;
  }

  #targetsIn(start: number, length: number): number {
    if (this.shards.kind === "text") return length;
    const mask = new Int32Array(length);
    this.shards.readMask(start, length, mask);
    return sumOf(mask);
  }
}

function sumOf(numbers: readonly number[] | Int32Array): number {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
}
