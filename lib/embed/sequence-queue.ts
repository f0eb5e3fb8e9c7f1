// Sequences that wait for a model, from all calls that run at the same time: texts to embed, classify or rank.
// Sequences of similar length share a batch, whichever call they come from, so that a batch has little padding and many
// small calls cost little more than a large one.
import { noGrad } from "../core/autograd.js";
import { tensor } from "../core/creation.js";
import type { Device } from "../core/device.js";
import type { Module } from "../nn/module.js";
import { keep, scope } from "../core/scope.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";

/** A model with a queue of its own. */
export type QueuedModel = Module & { readonly device: Device };

/** Tokens of a text or of a pair of texts. */
export interface TokenSequence {
  readonly ids: Int32Array;
  /** Type of each token; null if all types are 0. */
  readonly tokenTypes: Int32Array | null;
}

/** Sequences of one forward pass, the longest first, padded at their ends. */
export interface SequenceBatch {
  /** Ids, i32 [B, T]. */
  readonly ids: IntTensor;
  /** Type of each token, i32 [B, T]; null if all types are 0. */
  readonly tokenTypes: IntTensor | null;
  /** Number of real tokens in each sequence, i32 [B]. */
  readonly keyLengths: IntTensor;
  /** Number of real tokens in each sequence, for JavaScript. */
  readonly lengths: Int32Array;
}

/** Computation whose result is a row of numbers for each sequence. */
export interface SequenceTask {
  /** Name of the task with its options. Sequences share a batch only if their tasks' keys are equal. */
  readonly key: string;
  /** Largest number of sequences in a batch. */
  readonly batchSize: number;
  /** Returns a row of numbers for each sequence, f32 [B, R]. */
  compute(batch: SequenceBatch): FloatTensor;
}

interface Waiting {
  /** Number of the sequence in the order of arrival. */
  readonly arrival: number;
  readonly sequence: TokenSequence;
  readonly task: SequenceTask;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (row: Float32Array) => void;
  readonly reject: (reason: unknown) => void;
}

/** Sequences of equal tasks that wait. */
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
    const { batchSize } = one.task;
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
  return b.sequence.ids.length - a.sequence.ids.length || a.arrival - b.arrival;
}

const queues = new WeakMap<QueuedModel, SequenceQueue>();

/** Sequences that wait for one model, and the batches that are computed of them. */
export class SequenceQueue {
  readonly #model: QueuedModel;
  readonly #groups = new Map<string, Group>();
  /** The sequences that wait, the oldest first. */
  readonly #waiting = new Set<Waiting>();
  #arrivals = 0;
  #running = false;

  private constructor(model: QueuedModel) {
    this.#model = model;
  }

  /** Returns the queue of a model. */
  static of(model: QueuedModel): SequenceQueue {
    const queue = queues.get(model) ?? new SequenceQueue(model);
    queues.set(model, queue);
    return queue;
  }

  /** Resolves to the row of a sequence, [R]. If its signal is aborted before its batch begins, it is left out. */
  add(sequence: TokenSequence, task: SequenceTask, signal: AbortSignal | undefined): Promise<Float32Array> {
    return new Promise((resolve, reject) => {
      const one = { arrival: this.#arrivals++, sequence, task, signal, resolve, reject };
      const key = keyOf(task);
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
      const key = keyOf(oldest.task);
      const group = this.#groups.get(key)!;
      const batch = group.take(oldest);
      if (group.empty) this.#groups.delete(key);
      for (const one of batch) this.#waiting.delete(one);
      for (const { signal, reject } of batch) if (signal?.aborted) reject(signal.reason);
      const live = batch.filter(({ signal }) => !signal?.aborted);
      if (live.length > 0) return live;
    }
    return [];
  }

  /** Computes a batch. A failure concerns its own sequences only. */
  async #compute(batch: readonly Waiting[]): Promise<void> {
    try {
      using rows = this.#rowsOf(
        batch.map(({ sequence }) => sequence),
        batch[0]!.task,
      );
      const data = await rows.data();
      const width = data.length / batch.length;
      for (const [row, { resolve }] of batch.entries()) resolve(data.slice(row * width, (row + 1) * width));
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  /** Returns the rows of sequences, f32 [B, R]. The caller disposes the result. */
  #rowsOf(sequences: readonly TokenSequence[], task: SequenceTask): FloatTensor {
    const model = this.#model;
    const { training } = model;
    if (training) model.eval();
    try {
      return keep(noGrad(() => scope(() => task.compute(batchOf(sequences, model.device)))));
    } finally {
      if (training) model.train();
    }
  }
}

function keyOf({ key, batchSize }: SequenceTask): string {
  return `${key},${batchSize}`;
}

/** Returns sequences as tensors. The first sequence must be the longest. */
function batchOf(sequences: readonly TokenSequence[], device: Device): SequenceBatch {
  const [batch, length] = [sequences.length, sequences[0]!.ids.length];
  const padded = (rows: readonly (Int32Array | null)[]): IntTensor => {
    const values = new Int32Array(batch * length);
    for (const [b, row] of rows.entries()) if (row) values.set(row, b * length);
    return tensor(values, [batch, length], { device });
  };
  const types = sequences.map(({ tokenTypes }) => tokenTypes);
  const lengths = Int32Array.from(sequences, ({ ids }) => ids.length);
  return {
    ids: padded(sequences.map(({ ids }) => ids)),
    tokenTypes: types.some((row) => row !== null) ? padded(types) : null,
    keyLengths: tensor(lengths, [batch], { device }),
    lengths,
  };
}
