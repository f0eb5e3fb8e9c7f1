// Batches that the caller makes. An epoch is one iteration over them. A run that resumes skips those that it has had.
import { describe, HeedError } from "../util/errors.js";
import { orderOf, orderVersion, Permutation } from "../util/permutation.js";
import { alone, type Feed, type Share } from "./feed.js";
import { type BatchPosition, checkOrder, isBatchPosition, type ResumedRun } from "./position.js";

/** Source of batches that can begin anywhere in an epoch. */
export interface BatchSource<B> {
  /** Number of batches in an epoch, if it is known. Without it a run needs `steps` or `maxSeconds`. */
  readonly length?: number | undefined;
  /**
   * Text that tells the order of the batches apart from others, such as one of another seed. A trainer saves it in its
   * checkpoints, and refuses to resume with data of another order.
   */
  readonly order?: string | undefined;
  /** Returns the batches of an epoch, counted from 0, from number `first` on. The same arguments give the same batches. */
  batches(epoch: number, first: number): Iterable<B> | AsyncIterable<B>;
}

/**
 * Batches to train on: an array, which `TaskTrainer` shuffles, or another iterable that can be iterated again, a function
 * that returns an iterable for an epoch (counted from 0), or a `BatchSource`. To resume a run, the batches of an epoch are
 * iterated from their start again; a `BatchSource` begins where it should.
 */
export type BatchData<B> =
  BatchSource<B> | Iterable<B> | AsyncIterable<B> | ((epoch: number) => Iterable<B> | AsyncIterable<B>);

type Iteration<B> = Iterator<B> | AsyncIterator<B>;

/**
 * Returns data as a source of batches. With a seed, each epoch has the batches of an array in an order of its own.
 *
 * @throws ERR_ARGUMENT if it is none of the forms of `BatchData`.
 */
export function batchSourceOf<B>(
  op: string,
  name: string,
  data: BatchData<B>,
  seed: number | null = null,
): BatchSource<B> {
  if (Array.isArray(data) && seed !== null) return shuffled(data as readonly B[], seed);
  if (typeof data === "function") return { batches: (epoch, first) => skipped(data(epoch), first) };
  if (typeof (data as Partial<BatchSource<B>> | null)?.batches === "function") return data as BatchSource<B>;
  if (!isIterable(data))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected ${name} to be an iterable of batches, a function that returns one, or a source of batches, got ${describe(data)}`,
    );
  const iterable = data as Iterable<B> | AsyncIterable<B>;
  return {
    length: Array.isArray(data) ? data.length : undefined,
    batches: (_, first) => skipped(iterable, first),
  };
}

/** Returns a source of the batches of an array, in an order that follows from the seed and the epoch. */
function shuffled<B>(batches: readonly B[], seed: number): BatchSource<B> {
  const { length } = batches;
  return {
    length,
    order: orderOf(seed, orderVersion),
    *batches(epoch, first) {
      if (length === 0) return;
      const order = new Permutation(length, seed, epoch);
      for (let i = first; i < length; i++) yield batches[order.at(i)]!;
    },
  };
}

function isIterable(value: unknown): boolean {
  const { [Symbol.iterator]: iterates, [Symbol.asyncIterator]: iteratesLater } = Object(value) as Record<
    symbol,
    unknown
  >;
  return typeof iterates === "function" || typeof iteratesLater === "function";
}

/** Yields the batches of one process, of which all take turns, among the first `limit` batches. */
export async function* everyNth<B>(
  batches: Iterable<B> | AsyncIterable<B>,
  { rank, size }: Share,
  limit = Infinity,
): AsyncGenerator<B, void, undefined> {
  let at = 0;
  for await (const batch of batches) {
    if (at++ % size === rank) yield batch;
    if (at >= limit) return;
  }
}

/** Yields the batches from number `first` on. */
async function* skipped<B>(batches: Iterable<B> | AsyncIterable<B>, first: number): AsyncGenerator<B, void, undefined> {
  let at = 0;
  for await (const batch of batches) if (at++ >= first) yield batch;
}

function iterate<B>(batches: Iterable<B> | AsyncIterable<B>): Iteration<B> {
  return Symbol.asyncIterator in batches ? batches[Symbol.asyncIterator]() : batches[Symbol.iterator]();
}

/** A batch that was read, with the position of the next one. */
interface Read<B> {
  /** null for the batch of another process. */
  batch: { value: B } | null;
  next: { epoch: number; batch: number };
}

/** Feed of batches that the caller makes. It reads ahead while the device computes. */
export class BatchFeed<B> implements Feed<B> {
  readonly batchesPerEpoch: number | null;
  readonly order: string | null;
  position: BatchPosition;
  readonly #op: string;
  readonly #source: BatchSource<B>;
  readonly #share: Share;
  /** Iteration over the batches of the present epoch, and the place of the next one. */
  #iteration: Iteration<B> | null = null;
  #place: { epoch: number; batch: number };
  /** Batches that were read and not passed. */
  readonly #ahead: Read<B>[] = [];
  /** Reading that is going on. */
  #reading: Promise<void> | null = null;
  #peeked = 0;

  /**
   * @throws ERR_ARGUMENT if the run to resume had data of another kind or in another order, unless `newData` is true.
   */
  constructor(op: string, source: BatchSource<B>, resumed: ResumedRun | null, newData: boolean, share: Share = alone) {
    this.#share = share;
    this.#op = op;
    this.#source = source;
    this.batchesPerEpoch = source.length === undefined ? null : source.length / share.size;
    const before = resumed?.position ?? null;
    if (resumed && !newData && !(before && isBatchPosition(before)))
      throw new HeedError(
        "ERR_ARGUMENT",
        `${op}: expected a checkpoint of a run on batches, got one of a run on other data; set newData: true to read the batches from their start`,
      );
    const microBatches = before?.microBatches ?? resumed?.step ?? 0;
    this.order = source.order ?? null;
    if (before && isBatchPosition(before) && !newData) {
      checkOrder(op, resumed!.order, this.order);
      this.position = { ...before };
    } else this.position = { microBatches, epoch: 0, batch: 0 };
    this.#place = { epoch: this.position.epoch, batch: this.position.batch };
  }

  get epoch(): number {
    const { epoch, batch } = this.position;
    const { length } = this.#source;
    return epoch + (length ? batch / length : 0);
  }

  async peek(count: number): Promise<readonly B[]> {
    const all = count * this.#share.size;
    this.#peeked = all;
    while (this.#ahead.length < all) await this.#read(all);
    return this.#ahead.slice(0, all).flatMap(({ batch }) => (batch ? [batch.value] : []));
  }

  advance(): void {
    const passed = this.#ahead.splice(0, this.#peeked);
    const last = passed.at(-1);
    if (last)
      this.position = { ...this.position, microBatches: this.position.microBatches + passed.length, ...last.next };
    // The next batches are read while the device computes. A failure is reported when they are peeked at.
    this.#read(this.#peeked).catch(() => undefined);
    this.#peeked = 0;
  }

  close(): void {
    const iteration = this.#iteration;
    this.#iteration = null;
    this.#place = { epoch: this.position.epoch, batch: this.position.batch };
    this.#ahead.length = 0;
    void Promise.resolve(this.#reading)
      .catch(() => undefined)
      .then(() => iteration?.return?.())
      .catch(() => undefined);
  }

  /** Reads until `count` batches are ahead. Only one reading goes on at a time. */
  async #read(count: number): Promise<void> {
    const before = this.#reading;
    if (before) return before;
    this.#reading = this.#fill(count).finally(() => (this.#reading = null));
    return this.#reading;
  }

  async #fill(count: number): Promise<void> {
    while (this.#ahead.length < count) {
      const { epoch, batch } = this.#place;
      const iteration = (this.#iteration ??= iterate(this.#source.batches(epoch, batch)));
      let result: IteratorResult<B, unknown>;
      try {
        result = await iteration.next();
      } catch (error) {
        // The next attempt iterates again: what remains of this iteration would look like the end of the epoch.
        if (this.#iteration === iteration) this.#iteration = null;
        throw error;
      }
      if (this.#iteration !== iteration) return; // closed meanwhile
      if (!result.done) {
        this.#place = { epoch, batch: batch + 1 };
        // Processes take turns from the next batch of the run on.
        const own = this.#ahead.length % this.#share.size === this.#share.rank;
        this.#ahead.push({ batch: own ? { value: result.value } : null, next: this.#place });
      } else {
        if (batch === 0)
          throw new HeedError(
            "ERR_ARGUMENT",
            `${this.#op}: expected batches in epoch ${epoch}, got none; pass data that can be iterated again, such as an array or a function that returns an iterable`,
          );
        this.#iteration = null;
        this.#place = { epoch: epoch + 1, batch: 0 };
      }
    }
  }
}
