// Streams the activations of a corpus: a batch of sequences at a time, so that memory does not grow with the corpus.
import { noGrad } from "../core/autograd.js";
import { checkInteger, checkObject, checkValues } from "../util/check.js";
import { tensor } from "../core/creation.js";
import { describe, HeedError } from "../util/errors.js";
import { embedding } from "../ops/embedding.js";
import { padSequences } from "../ops/pad-sequences.js";
import { reshape } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import { hookNames, type HookNameOf, type InspectedStack, stackOf } from "./hook-names.js";
import { runWithCache } from "./run.js";

/** Texts as sequences of token ids, each of at most the model's context length. They may come as they are read. */
export type TokenSequences = Iterable<ArrayLike<number>> | AsyncIterable<ArrayLike<number>>;

/** Options of functions that read a corpus. */
export interface CorpusOptions {
  /** Number of sequences that the model runs together. @default 8 */
  batch?: number;
}

/** Consecutive sequences of a corpus. */
export interface CorpusBatch {
  sequences: readonly ArrayLike<number>[];
  /** Index of the first of them in the corpus. */
  first: number;
}

/** Token ids of a batch with its lengths, for a pass; null if no sequence is padded. */
export interface PaddedBatch {
  ids: IntTensor;
  keyLengths: IntTensor | null;
}

/**
 * Yields the sequences of a corpus in batches.
 *
 * @throws ERR_ARGUMENT if the corpus is not iterable or a sequence is empty; ERR_RANGE if a token or a length is out of
 *   range.
 */
export async function* batchesOf(
  op: string,
  model: InspectedStack,
  corpus: TokenSequences,
  batch = 8,
): AsyncGenerator<CorpusBatch> {
  checkInteger(op, "batch", batch, 1);
  checkCorpus(op, corpus);
  const { vocabularySize, contextLength } = stackOf(model).config;
  let sequences: ArrayLike<number>[] = [];
  let count = 0;
  for await (const sequence of corpus) {
    checkSequence(op, count, sequence, vocabularySize, contextLength);
    sequences.push(sequence);
    count++;
    if (sequences.length < batch) continue;
    yield { sequences, first: count - batch };
    sequences = [];
  }
  if (sequences.length > 0) yield { sequences, first: count - sequences.length };
}

function checkCorpus(op: string, corpus: TokenSequences): void {
  checkObject(op, "corpus", corpus);
  if (Symbol.iterator in corpus || Symbol.asyncIterator in corpus) return;
  throw new HeedError("ERR_ARGUMENT", `${op}: expected corpus to be iterable, got ${describe(corpus)}`);
}

function checkSequence(op: string, index: number, sequence: unknown, vocabulary: number, context: number): void {
  const name = `corpus[${index}]`;
  checkValues(op, sequence);
  if (sequence.length === 0) throw new HeedError("ERR_ARGUMENT", `${op}: expected ${name} to have tokens, got none`);
  checkInteger(op, `the length of ${name}`, sequence.length, 1, context);
  for (let t = 0; t < sequence.length; t++) checkInteger(op, `${name}[${t}]`, sequence[t], 0, vocabulary - 1);
}

/** Returns the ids of sequences as a pass takes them. */
export function padded({ sequences }: CorpusBatch, model: InspectedStack): PaddedBatch {
  const { ids, lengths } = padSequences(sequences, { device: model.device });
  if (sequences.every(({ length }) => length === ids.shape[1])) return { ids, keyLengths: null };
  return { ids, keyLengths: lengths };
}

/** Activations of a batch. */
export interface ActivationBatch<Name extends string> extends CorpusBatch {
  /**
   * Values by name, f32 [N, D], with a row for each token of the sequences, in order, and none for padding. D is the
   * number of elements that a token has. They are freed when the next batch is requested.
   */
  rows: ReadonlyMap<Name, FloatTensor>;
}

/** Name of a value of a model of one stack. */
export type StackHookName = HookNameOf<InspectedStack>;

/**
 * Yields the activations of a corpus. The passes stop after the last block that has one of the values.
 *
 * @throws the errors of `batchesOf`; ERR_ARGUMENT if the model has no value of a name, or a value is not one of tokens.
 */
export async function* activationsOf<Name extends StackHookName>(
  op: string,
  model: InspectedStack,
  corpus: TokenSequences,
  { names, batch }: { names: readonly Name[]; batch?: number | undefined },
): AsyncGenerator<ActivationBatch<Name>> {
  for (const name of names) checkOfTokens(op, name);
  const stop = stopFor(model, names);
  for await (const part of batchesOf(op, model, corpus, batch)) {
    const rows = noGrad(() =>
      scope(() => {
        const { ids, keyLengths } = padded(part, model);
        const given = { keyLengths, names, ...(stop === null ? {} : { stopAtLayer: stop }) };
        using cache = runWithCache<InspectedStack>(model, ids, given);
        const found = names.map((name) => [name, keep(realRows(cache.get(name), part))] as const);
        return new Map<Name, FloatTensor>(found);
      }),
    );
    try {
      yield { ...part, rows };
    } finally {
      for (const row of rows.values()) row.dispose();
    }
  }
}

/**
 * Checks that each token has its part of a value.
 *
 * @throws ERR_ARGUMENT if the value has a part for each pair of tokens.
 */
export function checkOfTokens(op: string, name: string): void {
  if (!/hook_(attn_scores|pattern)$/.test(name)) return;
  throw new HeedError("ERR_ARGUMENT", `${op}: expected a value of tokens, not of pairs of them, got ${name}`);
}

/** Returns the number of blocks that have to run for these values; null for the whole model. */
function stopFor(model: InspectedStack, names: readonly string[]): number | null {
  const layers = names.map((name) => {
    const found = /^blocks\.(\d+)\./.exec(name);
    if (found) return Number(found[1]) + 1;
    return name.startsWith("ln_final") ? Infinity : 0;
  });
  const last = Math.max(...layers);
  // A Bert has no value after its last block, and whatever is not known is for the pass to refuse.
  const known = hookNames(model) as string[];
  return Number.isFinite(last) && known.includes(`blocks.${Math.max(0, last - 1)}.hook_resid_pre`) ? last : null;
}

/** Returns a value [B, T, …] without padding, f32 [N, D]. */
function realRows(value: FloatTensor, { sequences }: CorpusBatch): FloatTensor {
  const [batch, tokens] = value.shape as [number, number];
  const flat = reshape(value, [batch * tokens, value.size / (batch * tokens)]);
  const places = sequences.flatMap(({ length }, b) => Array.from({ length }, (_, t) => b * tokens + t));
  if (places.length === batch * tokens) return flat.to("f32");
  return rowsAt(flat, places).to("f32");
}

/** Returns rows of a matrix [N, D] by their indices. */
export function rowsAt(rows: FloatTensor, places: ArrayLike<number>): FloatTensor {
  return embedding(tensor(Int32Array.from(places), [places.length], { device: rows.device }), rows);
}
