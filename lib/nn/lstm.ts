import { ops } from "../core/native.js";
import { mul } from "../ops/binary.js";
import { checkInteger, checkObject, checkShapeIs } from "../ops/check.js";
import { linear } from "../ops/linear.js";
import { lstm, type LstmState } from "../ops/lstm.js";
import { reshape, transpose } from "../ops/views.js";
import { tensor } from "../core/creation.js";
import type { FloatTensor } from "../core/tensor.js";
import { Dropout, type DropoutSeeds } from "./dropout.js";
import type { Initializer } from "./init.js";
import type { KvCache } from "./kv-cache.js";
import { Module } from "./module.js";

/** Configuration of an `Lstm`. */
export interface LstmConfig {
  /** Width of the input. */
  inputs: number;
  /** H, the width of state and output. */
  size: number;
  /** Number of layers, one on top of the other. */
  layers: number;
  /** True if the layers have biases. @default true */
  bias?: boolean;
  /** Dropout probability between layers. @default 0 */
  dropout?: number;
}

/** Parameters of one layer; the four gates lie one after the other in 4H, in PyTorch's order. */
interface LstmLayer {
  /** Weight of the input, [4H, in]. */
  weightIh: FloatTensor;
  /** Weight of the recurrence, [4H, H]. */
  weightHh: FloatTensor;
  biasIh: FloatTensor | null;
  biasHh: FloatTensor | null;
}

/**
 * Stacked layers of long short-term memory (Hochreiter & Schmidhuber 1997). Parameters have the names (`weight_ih_l0`,
 * …), layouts and initial distribution of PyTorch's, except that biases begin at 0 and the forget gate's bias at 1,
 * with which an LSTM learns long dependencies faster (Jozefowicz et al. 2015).
 *
 * @example
 * const rnn = new Lstm({ inputs: 8, size: 16, layers: 2 }, new Initializer(1, device()), new DropoutSeeds(0));
 * rnn.forward(randn([5, 2, 8], { seed: 1 })).shape; // [5, 2, 16]: T, B, H
 */
export class Lstm extends Module {
  readonly size: number;
  readonly dropout: Dropout;
  readonly #layers: readonly LstmLayer[];

  constructor(config: LstmConfig, init: Initializer, seeds: DropoutSeeds) {
    super();
    checkObject("Lstm", "config", config);
    const { inputs, size, layers, bias = true, dropout = 0 } = config;
    for (const [name, value] of Object.entries({ inputs, size, layers })) checkInteger("Lstm", name, value, 1);
    this.size = size;
    this.dropout = new Dropout(dropout, seeds);
    const bound = 1 / Math.sqrt(size);
    this.#layers = Array.from({ length: layers }, (_, i) => {
      const weightIh = init.uniform([4 * size, i === 0 ? inputs : size], -bound, bound);
      const weightHh = init.uniform([4 * size, size], -bound, bound);
      const biasIh = bias ? init.constant([4 * size], 0) : null;
      const biasHh = bias ? init.constant([4 * size], 0) : null;
      if (biasIh) {
        using forget = biasIh.viewAs([size], [1], size);
        ops.fill({ out: forget, value: 1 });
      }
      Object.assign(this, { [`weight_ih_l${i}`]: weightIh, [`weight_hh_l${i}`]: weightHh });
      if (bias) Object.assign(this, { [`bias_ih_l${i}`]: biasIh, [`bias_hh_l${i}`]: biasHh });
      return { weightIh, weightHh, biasIh, biasHh };
    });
  }

  /**
   * Returns the last layer's output [T, B, H] for x [T, B, in]. With a cache, on which `begin` was called, each
   * sequence continues from its last token: the cache stores the state after every token, h as keys and c as values.
   */
  forward(x: FloatTensor, cache: KvCache | null = null): FloatTensor {
    checkShapeIs("Lstm", "x", x, [-1, cache?.batch ?? -1, -1]);
    let out = x;
    for (const [i, { weightIh, weightHh, biasIh, biasHh }] of this.#layers.entries()) {
      const shares = linear(i === 0 ? out : this.dropout.forward(out), weightIh, { bias: biasIh }); // [T, B, 4H]
      const { h, c } = lstm(shares, weightHh, { bias: biasHh, state: cache && lastState(cache, i) });
      cache?.write(i, asHead(h), asHead(c));
      c.dispose();
      out = h; // [T, B, H]
    }
    return out;
  }
}

/** Returns the state after each sequence's last token, or null if no sequence has tokens yet. */
function lastState(cache: KvCache, layer: number): LstmState | null {
  const last = cache.last(layer);
  if (last === null) return null;
  const { lengths, batch, dtype } = cache;
  // A sequence without tokens gets another's state, which is multiplied by 0.
  const begun = lengths.every((tokens) => tokens > 0)
    ? null
    : tensor(Float32Array.from(lengths, Math.sign), [batch, 1], { device: last.keys.device, dtype });
  const state = (part: FloatTensor): FloatTensor => {
    const rows = reshape(part, [batch, part.shape[2]!]);
    return begun ? mul(rows, begun) : rows;
  };
  return { h: state(last.keys), c: state(last.values) };
}

/** Views h or c in the shape that a cache stores: [T, B, H] → [B, T, 1, H]. */
function asHead(x: FloatTensor): FloatTensor {
  const [steps, batch, size] = x.shape as [number, number, number];
  return transpose(x.viewAs([steps, batch, 1, size], [...x.strides.slice(0, 2), size, 1]), [1, 0, 2, 3]);
}
