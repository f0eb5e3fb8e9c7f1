import { HeedError } from "../util/errors.js";
import { largest } from "../util/largest.js";
import { checkInteger, checkObject } from "../ops/check.js";
import { embedding } from "../ops/embedding.js";
import { add } from "../ops/binary.js";
import { contiguous, transpose } from "../ops/views.js";
import { keep, scope } from "../core/scope.js";
import type { FloatDType } from "../core/dtype.js";
import { tensor } from "../core/creation.js";
import type { FloatTensor, IntTensor } from "../core/tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";

/** Configuration of a `RelativePositionBias`. */
export interface RelativePositionBiasConfig {
  /** H, the number of heads. */
  heads: number;
  /** Number of buckets that distances fall into; even if `bothSides`. */
  buckets: number;
  /** Distance beyond which all distances fall into the last bucket. */
  furthest: number;
  /** True if queries see keys before and after them, false if they see only those before. */
  bothSides: boolean;
  /** Standard deviation of the initial biases. @default 0.02 */
  std?: number;
}

/**
 * Returns the bucket of a distance key − query (Raffel et al. 2020, §2.1). With `bothSides`, each direction has half of
 * the buckets. In each direction, half of the buckets hold one distance each, the nearest ones; the widths of the
 * others grow logarithmically up to `furthest`.
 *
 * @example
 * relativePositionBucket(-3, { buckets: 32, furthest: 128, bothSides: true }); // 3
 * relativePositionBucket(3, { buckets: 32, furthest: 128, bothSides: true }); // 19
 *
 * @see https://arxiv.org/abs/1910.10683
 */
export function relativePositionBucket(
  distance: number,
  { buckets, furthest, bothSides }: Pick<RelativePositionBiasConfig, "buckets" | "furthest" | "bothSides">,
): number {
  const count = bothSides ? buckets / 2 : buckets;
  const first = bothSides && distance > 0 ? count : 0;
  const away = bothSides ? Math.abs(distance) : Math.max(-distance, 0);
  const exact = Math.floor(count / 2);
  if (away < exact) return first + away;
  const far = exact + Math.floor((Math.log(away / exact) / Math.log(furthest / exact)) * (count - exact));
  return first + Math.min(far, count - 1);
}

/**
 * Learned bias of attention scores by the distance of key and query: one number for each head and bucket of distances.
 *
 * @example
 * const config = { heads: 4, buckets: 32, furthest: 128, bothSides: true };
 * const bias = new RelativePositionBias(config, new Initializer(1, device()));
 * bias.forward([0], 5, 7, "f32").shape; // [1, 4, 5, 7]
 *
 * @see https://arxiv.org/abs/1910.10683
 */
export class RelativePositionBias extends Module {
  /** Bias of each bucket and head, [buckets, H]. */
  readonly weight: FloatTensor;
  /** Bucket of each distance from −furthest to furthest, i32 [2·furthest + 1]. */
  readonly buckets: IntTensor;
  readonly #config: RelativePositionBiasConfig;

  constructor(config: RelativePositionBiasConfig, init: Initializer) {
    super();
    const op = "RelativePositionBias";
    checkObject(op, "config", config);
    const { heads, buckets, furthest, bothSides, std = 0.02 } = config;
    checkInteger(op, "heads", heads, 1);
    // Each direction needs at least one bucket for an exact distance.
    checkInteger(op, "buckets", buckets, bothSides ? 4 : 2);
    if (bothSides && buckets % 2 !== 0)
      throw new HeedError("ERR_RANGE", `${op}: expected an even number of buckets for bothSides, got ${buckets}`);
    checkInteger(op, "furthest", furthest, Math.floor((bothSides ? buckets / 2 : buckets) / 2) + 1);
    this.#config = { ...config };
    this.weight = init.normal([buckets, heads], std);
    const kinds = Int32Array.from({ length: 2 * furthest + 1 }, (_, i) => relativePositionBucket(i - furthest, config));
    this.buckets = keep(tensor(kinds, [kinds.length], { device: init.device }));
  }

  /**
   * Returns the bias of each head and distance of key and query from −furthest to furthest, f32 [H, 2·furthest + 1], as
   * the option `relative` of `attention` takes it. The largest distances stand for all that are larger.
   *
   * @example
   * const config = { heads: 4, buckets: 32, furthest: 128, bothSides: true };
   * new RelativePositionBias(config, new Initializer(1, device())).table().shape; // [4, 257]
   */
  table(): FloatTensor {
    return scope(() => contiguous(transpose(embedding(this.buckets, this.weight)).to("f32")));
  }

  /**
   * Returns the bias [B, H, Tq, Tk] of queries at positions starts[b], starts[b] + 1, … and keys at positions 0, 1, ….
   * Unless `bothSides`, it is −∞ for keys after a query.
   */
  forward(starts: ArrayLike<number>, queries: number, keys: number, dtype: FloatDType): FloatTensor {
    const { bothSides } = this.#config;
    const { device } = this.weight;
    const shape = [starts.length, queries, keys];
    // One bucket for each distance from −last to keys − 1: there are far fewer distances than pairs of query and key.
    const last = largest(Array.from(starts)) + queries - 1;
    const kindOf = Int32Array.from({ length: last + keys }, (_, i) => relativePositionBucket(i - last, this.#config));
    const kinds = new Int32Array(starts.length * queries * keys);
    const hidden = bothSides ? null : new Float32Array(kinds.length);
    let at = 0;
    for (const start of Array.from(starts))
      for (let query = start; query < start + queries; query++)
        for (let key = 0; key < keys; key++, at++) {
          kinds[at] = kindOf[key - query + last]!;
          if (hidden && key > query) hidden[at] = -Infinity;
        }
    const bias = transpose(embedding(tensor(kinds, shape, { device }), this.weight, { dtype }), [0, 3, 1, 2]);
    if (!hidden) return bias;
    return add(bias, tensor(hidden, [starts.length, 1, queries, keys], { device, dtype }));
  }
}
