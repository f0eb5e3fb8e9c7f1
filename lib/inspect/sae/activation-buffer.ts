import { noGrad } from "../../core/autograd.js";
import { ops } from "../../core/native.js";
import { narrow } from "../../ops/views.js";
import { Permutation } from "../../util/permutation.js";
import { keep, scope } from "../../core/scope.js";
import { allocate, type FloatTensor } from "../../core/tensor.js";
import { rowsAt } from "../corpus.js";

/**
 * Buffer of activations that gives them in random batches. It is filled, gives half of its rows in random order, and is
 * filled again, so that a batch has tokens of many texts while memory stays flat.
 */
export class ActivationBuffer implements Disposable {
  readonly #batch: number;
  readonly #seed: number;
  /** Rows [capacity, C], of which the first `#filled` count; null before the first activations. */
  #rows: FloatTensor | null = null;
  readonly #capacity: number;
  #filled = 0;
  #rounds = 0;
  /** True if a batch has been given since the last `end`. */
  #gave = false;

  /** @param capacity number of rows that it holds, at least two batches */
  constructor({ batch, capacity, seed }: { batch: number; capacity: number; seed: number }) {
    this.#batch = batch;
    this.#capacity = Math.max(2 * batch, capacity);
    this.#seed = seed;
  }

  /** Adds rows f32 [N, C], and yields the batches [batch, C] that this makes ready. Each is freed when the next one is. */
  *add(rows: FloatTensor): Generator<FloatTensor> {
    const count = rows.shape[0]!;
    for (let taken = 0; taken < count;) {
      const part = Math.min(count - taken, this.#capacity - this.#filled);
      this.#write(rows, taken, part);
      taken += part;
      if (this.#filled === this.#capacity) yield* this.#take(Math.ceil(this.#capacity / this.#batch / 2));
    }
  }

  /**
   * Yields batches of the rows that are left. A rest that fills no batch is dropped, unless it is all that there was since
   * the last `end`.
   */
  *end(): Generator<FloatTensor> {
    const batches = Math.floor(this.#filled / this.#batch);
    if (batches > 0) yield* this.#take(batches);
    else if (!this.#gave && this.#filled > 0) yield* this.#take(1, this.#filled);
    this.#filled = 0;
    this.#gave = false;
  }

  /** Frees the rows. */
  dispose(): void {
    this.#rows?.dispose();
    this.#rows = null;
    this.#filled = 0;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #write(rows: FloatTensor, start: number, count: number): void {
    const { device } = rows;
    this.#rows ??= allocate([this.#capacity, rows.shape[1]!], "f32", device, false);
    const target = this.#rows;
    noGrad(() =>
      scope(() => ops.copy({ out: narrow(target, 0, this.#filled, count), inp: narrow(rows, 0, start, count) })),
    );
    this.#filled += count;
  }

  /** Yields random batches and moves the rows that are left to the front. */
  *#take(batches: number, size = this.#batch): Generator<FloatTensor> {
    const order = new Permutation(this.#filled, this.#seed, this.#rounds++);
    const places = Array.from({ length: this.#filled }, (_, i) => order.at(i));
    this.#gave = true;
    for (let i = 0; i < batches; i++) {
      using batch = this.#gather(places.slice(i * size, (i + 1) * size));
      yield batch;
    }
    const rest = places.slice(batches * size);
    this.#filled = 0;
    if (rest.length === 0) return;
    using left = this.#gather(rest);
    this.#write(left, 0, rest.length);
  }

  #gather(places: readonly number[]): FloatTensor {
    return noGrad(() => scope(() => keep(rowsAt(narrow(this.#rows!, 0, 0, this.#capacity), places))));
  }
}
