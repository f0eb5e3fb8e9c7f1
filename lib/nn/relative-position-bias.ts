import { HeedError } from "../errors.js";
import { largest } from "../largest.js";
import { checkInteger, checkObject } from "../ops/check.js";
import { embedding } from "../ops/embedding.js";
import { add } from "../ops/binary.js";
import { transpose } from "../ops/views.js";
import type { FloatDType } from "../dtype.js";
import { tensor } from "../creation.js";
import type { FloatTensor } from "../tensor.js";
import type { Initializer } from "./init.js";
import { Module } from "./module.js";

export interface RelativePositionBiasConfig {
  heads: number;
  /** Kinds of distance; an even number where queries see both sides. */
  buckets: number;
  /** From this distance on, all are of one kind. */
  furthest: number;
  /** Whether queries see what is before and behind them, or only what is before. */
  bothSides: boolean;
  std?: number;
}

/**
 * The kind of a distance of a key from its query (key − query): half of the kinds, on each side where there are two, are
 * the nearest distances, the others grow logarithmically up to `furthest` (Raffel et al. 2020, §2.1).
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

/** What attention's scores are raised by, by the distance of key and query: a number a head and kind of distance. */
export class RelativePositionBias extends Module {
  /** [buckets, H] */
  readonly weight: FloatTensor;
  readonly #config: RelativePositionBiasConfig;

  constructor(config: RelativePositionBiasConfig, init: Initializer) {
    super();
    const op = "RelativePositionBias";
    checkObject(op, "config", config);
    const { heads, buckets, furthest, bothSides, std = 0.02 } = config;
    checkInteger(op, "heads", heads, 1);
    // At least one exact distance a side.
    checkInteger(op, "buckets", buckets, bothSides ? 4 : 2);
    if (bothSides && buckets % 2 !== 0)
      throw new HeedError("ERR_RANGE", `${op}: expected an even number of buckets for both sides, got ${buckets}`);
    checkInteger(op, "furthest", furthest, Math.floor((bothSides ? buckets / 2 : buckets) / 2) + 1);
    this.#config = { ...config };
    this.weight = init.normal([buckets, heads], std);
  }

  /**
   * The bias of queries at starts[b], starts[b] + 1, … and keys from 0 on: [B, H, Tq, Tk]; where only what is before is
   * seen, −∞ for the keys behind a query.
   */
  forward(starts: ArrayLike<number>, queries: number, keys: number, dtype: FloatDType): FloatTensor {
    const { bothSides } = this.#config;
    const { device } = this.weight;
    const shape = [starts.length, queries, keys];
    // By the distance from −last to keys − 1: far fewer than there are pairs of a query and a key.
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
