import { noGrad } from "../core/autograd.js";
import { ops } from "../core/native.js";
import { embedding } from "../ops/embedding.js";
import { contiguous, narrow, reshape } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import { tensor } from "../core/creation.js";
import { allocate, type FloatTensor, type IntTensor } from "../core/tensor.js";

/** Encoded sources in the form that a decoder's layers attend to. */
export interface EncodedSource {
  /** Keys and values [B, S, H, D] for each layer of the decoder. */
  readonly layers: readonly { readonly keys: FloatTensor; readonly values: FloatTensor }[];
  /** Number of real tokens in each source, i32 [B]; the rest is padding at its end. null if no source has padding. */
  readonly lengths: IntTensor | null;
}

/**
 * Encoded sources for the sequences of a `KvCache`, one row per sequence. `KvCache.take` takes the rows along with the
 * sequences. The contents never change, so that several caches share one copy.
 *
 * @example
 * const [keys, values] = [1, 2].map((seed) => randn([2, 9, 4, 8], { seed }));
 * using memory = CrossMemory.of({ layers: [{ keys: keys!, values: values! }], lengths: null });
 * using beams = memory.take([0, 0, 1, 1]);
 * beams.batch; // 4
 */
export class CrossMemory implements EncodedSource, Disposable {
  /** Index of the source that each row belongs to. */
  readonly #sources: Int32Array;

  private constructor(
    readonly layers: EncodedSource["layers"],
    readonly lengths: IntTensor | null,
    sources: Int32Array,
  ) {
    this.#sources = sources;
    for (const part of this.#parts()) keep(part);
  }

  /** Copies encoded sources into a new memory. The copies live until its `dispose()`. */
  static of({ layers, lengths }: EncodedSource): CrossMemory {
    const copied = (part: FloatTensor): FloatTensor => contiguous(part).alias();
    return noGrad(() =>
      scope(
        () =>
          new CrossMemory(
            layers.map(({ keys, values }) => ({ keys: copied(keys), values: copied(values) })),
            lengths && contiguous(lengths).alias(),
            Int32Array.from({ length: layers[0]!.keys.shape[0]! }, (_, row) => row),
          ),
      ),
    );
  }

  /** Number of rows. */
  get batch(): number {
    return this.#sources.length;
  }

  /**
   * Returns a memory with the sources of rows[0], rows[1], …; a row may be named several times. It only enqueues work
   * and does not wait for the device.
   */
  take(rows: ArrayLike<number>): CrossMemory {
    const sources = Int32Array.from(rows, (row) => this.#sources[row]!);
    const same = sources.length === this.batch && sources.every((source, row) => source === this.#sources[row]);
    const { layers, lengths } = this;
    if (same) {
      const shared = layers.map(({ keys, values }) => ({ keys: keys.alias(), values: values.alias() }));
      return new CrossMemory(shared, lengths?.alias() ?? null, sources);
    }
    return noGrad(() =>
      scope(() => {
        const ids = tensor(Int32Array.from(rows), [rows.length], { device: layers[0]!.keys.device });
        const taken = layers.map(({ keys, values }) => ({ keys: gather(keys, ids), values: gather(values, ids) }));
        return new CrossMemory(taken, lengths && gatherLengths(lengths, rows), sources);
      }),
    );
  }

  /** Frees the tensors. */
  dispose(): void {
    for (const part of this.#parts()) part.dispose();
  }

  /** Does the same as `dispose()`, at the end of the block that declares it with `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  *#parts() {
    for (const { keys, values } of this.layers) {
      yield keys;
      yield values;
    }
    if (this.lengths) yield this.lengths;
  }
}

/** Gathers rows of keys or values: [B, S, H, D] → [rows, S, H, D]. */
function gather(part: FloatTensor, rows: IntTensor): FloatTensor {
  const [batch, ...rest] = part.shape as [number, ...number[]];
  return reshape(embedding(rows, reshape(part, [batch, -1])), [rows.size, ...rest]);
}

function gatherLengths(lengths: IntTensor, rows: ArrayLike<number>): IntTensor {
  const taken: IntTensor = allocate([rows.length], "i32", lengths.device);
  for (let i = 0; i < rows.length; i++) ops.copy({ out: narrow(taken, 0, i, 1), inp: narrow(lengths, 0, rows[i]!, 1) });
  return taken;
}
