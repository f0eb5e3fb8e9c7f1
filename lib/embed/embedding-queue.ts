// Sequences that wait for an encoder, from all calls that run at the same time. Sequences of similar length share a
// batch, whichever call they come from, so that a batch has little padding and many small calls cost little more than
// a large one.
import { noGrad } from "../autograd.js";
import { tensor } from "../creation.js";
import type { Bert } from "../models/bert.js";
import { pool, type Pooling } from "../nn/pooling.js";
import { l2Normalize } from "../ops/l2-normalize.js";
import { keep, scope } from "../scope.js";
import type { FloatTensor } from "../tensor.js";

/** Options by which sequences become vectors. Only sequences of equal options share a batch. */
export interface EmbeddingOptions {
  readonly pooling: Pooling;
  readonly normalize: boolean;
  /** Largest number of sequences in a batch. */
  readonly batchSize: number;
  readonly signal: AbortSignal | undefined;
}

interface Waiting {
  /** Number of the sequence in the order of arrival. */
  readonly arrival: number;
  readonly ids: Int32Array;
  readonly options: EmbeddingOptions;
  readonly resolve: (vector: Float32Array) => void;
  readonly reject: (reason: unknown) => void;
}

/** Sequences of equal options that wait. */
class Group {
  /** The sequences, the longest first; of equally long ones, the oldest first. */
  #sorted: Waiting[] = [];
  #isSorted = true;

  get empty(): boolean {
    return this.#sorted.length === 0;
  }

  add(one: Waiting): void {
    this.#sorted.push(one);
    this.#isSorted = false;
  }

  /** Removes the sequences of a batch, one of which is the given one. */
  take(one: Waiting): Waiting[] {
    if (!this.#isSorted) this.#sorted.sort(longerFirst);
    this.#isSorted = true;
    const { batchSize } = one.options;
    const first = Math.floor(this.#find(one) / batchSize) * batchSize;
    return this.#sorted.splice(first, batchSize);
  }

  #find(one: Waiting): number {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (longerFirst(this.#sorted[middle]!, one) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function longerFirst(a: Waiting, b: Waiting): number {
  return b.ids.length - a.ids.length || a.arrival - b.arrival;
}

const queues = new WeakMap<Bert, EmbeddingQueue>();

/** Sequences that wait for one encoder, and the batches that are computed of them. */
export class EmbeddingQueue {
  readonly #model: Bert;
  readonly #groups = new Map<string, Group>();
  /** The sequences that wait, the oldest first. */
  readonly #waiting = new Set<Waiting>();
  #arrivals = 0;
  #running = false;

  private constructor(model: Bert) {
    this.#model = model;
  }

  /** Returns the queue of a model. */
  static of(model: Bert): EmbeddingQueue {
    const queue = queues.get(model) ?? new EmbeddingQueue(model);
    queues.set(model, queue);
    return queue;
  }

  /** Resolves to the vector of a sequence, [C]. If its signal is aborted before its batch begins, it is left out. */
  add(ids: Int32Array, options: EmbeddingOptions): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      const one = { arrival: this.#arrivals++, ids, options, resolve, reject };
      const key = keyOf(options);
      const group = this.#groups.get(key) ?? new Group();
      this.#groups.set(key, group);
      group.add(one);
      this.#waiting.add(one);
      if (!this.#running) void this.#run();
    });
  }

  /** Computes batches until nothing waits. One batch is computed while the one before it is read. */
  async #run(): Promise<void> {
    this.#running = true;
    // Calls that are made at the same time share the first batch.
    await Promise.resolve();
    let reading: Promise<void> = Promise.resolve();
    for (let batch = this.#next(); batch.length > 0; batch = this.#next()) {
      const read = this.#compute(batch);
      await reading;
      reading = read;
    }
    // Nothing is awaited since there was no batch, so nothing can have come in between.
    this.#running = false;
  }

  /** Removes the sequences of the next batch from the queue, the longest first. The oldest sequence is one of them. */
  #next(): Waiting[] {
    for (const oldest of this.#waiting) {
      const key = keyOf(oldest.options);
      const group = this.#groups.get(key)!;
      const batch = group.take(oldest);
      if (group.empty) this.#groups.delete(key);
      for (const one of batch) this.#waiting.delete(one);
      for (const { options, reject } of batch) if (options.signal?.aborted) reject(options.signal.reason);
      const live = batch.filter(({ options }) => !options.signal?.aborted);
      if (live.length > 0) return live;
    }
    return [];
  }

  /** Computes a batch. A failure concerns its own sequences only. */
  async #compute(batch: readonly Waiting[]): Promise<void> {
    try {
      const { options } = batch[0]!;
      using vectors = vectorsOf(
        this.#model,
        batch.map(({ ids }) => ids),
        options,
      );
      const data = await vectors.data();
      const width = data.length / batch.length;
      for (const [row, { resolve }] of batch.entries()) resolve(data.slice(row * width, (row + 1) * width));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }
}

function keyOf({ pooling, normalize, batchSize }: EmbeddingOptions): string {
  return [pooling, normalize, batchSize].join();
}

/** Returns the vectors of sequences, f32 [B, C]. The first sequence must be the longest. The caller disposes the result. */
function vectorsOf(model: Bert, sequences: Int32Array[], { pooling, normalize }: EmbeddingOptions): FloatTensor {
  const { device, training } = model;
  const [batch, length] = [sequences.length, sequences[0]!.length];
  const lengths = Int32Array.from(sequences, (ids) => ids.length);
  const ids = new Int32Array(batch * length);
  for (const [b, sequence] of sequences.entries()) ids.set(sequence, b * length);
  if (training) model.eval();
  try {
    const vectors = noGrad(() =>
      scope(() => {
        const keyLengths = tensor(lengths, [batch], { device });
        const states = model.forward(tensor(ids, [batch, length], { device }), { keyLengths });
        const pooled = pool(states, lengths, pooling);
        return normalize ? l2Normalize(pooled) : pooled;
      }),
    );
    return keep(vectors);
  } finally {
    if (training) model.train();
  }
}
