// Mixtures of sequences, in an order that can be continued anywhere: which sequence has a number follows from the seed
// and the number alone.
//
// Numbers are dealt in rounds of 2^14. In a round, every source gets its share of the numbers, at places that a
// permutation chooses. The sequences of a source come in the order of their numbers, epoch after epoch, each epoch in a
// permutation of its own.
import { checkArray, checkInteger, checkNumber, checkObject } from "../util/check.js";
import { describe, HeedError } from "../util/errors.js";
import { hash } from "../util/hash.js";
import { orderOf, Permutation, type OrderVersion, orderVersion } from "../util/permutation.js";
import type { SequenceSource, TrainingSequence } from "./sequence-source.js";

/** Source of sequences with its share of a mixture. */
export interface MixturePart {
  /** Sequences, for example of `shardSequences` or `packExamples`. */
  data: SequenceSource;
  /** Share of the sequences, in proportion to the other weights, above 0. @default the number of sequences */
  weight?: number | undefined;
}

/** Options of `mixSequences`. */
export interface MixtureOptions {
  /** Seed of the order, an integer of at least 0. @default 0 */
  seed?: number;
  /** True if each epoch of a source is shuffled, false if its sequences keep their order. @default true */
  shuffle?: boolean;
  /**
   * Number of this process among those that train together, counted from 0. Only for a loop of your own: trainers with
   * `distributed` divide the data by themselves.
   * @default 0
   */
  rank?: number;
  /** Number of processes that train together. Each gets every `worldSize`-th sequence. @default 1 */
  worldSize?: number;
}

/** Length of a round; a power of four, for which a permutation is cheapest. */
const roundLength = 2 ** 14;

/**
 * Returns an endless stream of sequences from several sources. In the long run each source has the share of its weight,
 * to 1/16384, and a source that has been used up begins again: each of its epochs contains every sequence once. With
 * `rank` and `worldSize`, the streams of all ranks together are the stream of a single process.
 *
 * @example
 * const packed = (text: string) =>
 *   packExamples([{ ids: tokenizer.encode(text), mask: new Uint8Array(text.length).fill(1) }], { contextLength: 16 });
 * const data = mixSequences([{ data: packed("to be or not"), weight: 3 }, { data: packed("a whale"), weight: 1 }]);
 * using trainer = new Trainer({ model: gpt, data, batchSize: 2, contextLength: 16, steps: 1 });
 *
 * @throws ERR_ARGUMENT if a part is no source of sequences, or the lengths of their sequences differ.
 * @throws ERR_RANGE if a number is out of range.
 */
export function mixSequences(parts: readonly MixturePart[], options: MixtureOptions = {}): SequenceSource {
  return mixture(parts, options, orderVersion);
}

function mixture(parts: readonly MixturePart[], options: MixtureOptions, version: OrderVersion): SequenceSource {
  const op = "mixSequences";
  checkObject(op, "options", options);
  const { seed = 0, shuffle = true, rank = 0, worldSize = 1 } = options;
  checkInteger(op, "seed", seed, 0);
  checkInteger(op, "worldSize", worldSize, 1);
  checkInteger(op, "rank", rank, 0, worldSize - 1);
  checkArray(op, "parts", parts);
  checkInteger(op, "the number of parts", parts.length, 1, roundLength);
  const streams = parts.map(({ data }, i) => {
    if (typeof data?.sequence !== "function" || data.ordered)
      throw new HeedError("ERR_ARGUMENT", `${op}: expected parts[${i}].data to be sequences, got ${describe(data)}`);
    // Sources of the same length have different orders.
    const own = (seed + (hash(seed, i) >>> 0)) % Number.MAX_SAFE_INTEGER;
    return new Epochs(data, shuffle ? (epoch) => new Permutation(data.sequences, own, epoch, version) : null);
  });
  const [{ contextLength }] = streams as [Epochs, ...Epochs[]];
  const other = streams.find((stream) => stream.contextLength !== contextLength);
  if (other)
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected sequences of one length, got ${contextLength} and ${other.contextLength} tokens`,
    );
  const weights = parts.map(({ weight, data }, i) => {
    if (weight !== undefined) checkNumber(op, `parts[${i}].weight`, weight, Number.MIN_VALUE, Number.MAX_VALUE);
    return weight ?? data.sequences;
  });
  const shares = sharesOf(weights);
  const rounds = new Rounds(shares, seed);
  const sequences = streams.reduce((sum, stream) => sum + stream.sequences, 0);
  return {
    ordered: true,
    order: `${orderOf(seed, version)}, shares ${shares.join(":")}, ${shuffle ? "shuffled" : "in order"}, rank ${rank} of ${worldSize}`,
    divided: worldSize > 1 ? { rank, size: worldSize } : undefined,
    withOrder: (other) => mixture(parts, options, other),
    contextLength,
    sequences: Math.max(1, Math.floor(sequences / worldSize)),
    sequence(index) {
      const { part, number } = rounds.at(index * worldSize + rank);
      return streams[part]!.sequence(number);
    },
  };
}

/** Sequences of a source over all of its epochs. */
class Epochs {
  readonly contextLength: number;
  readonly sequences: number;
  #order: { epoch: number; permutation: Permutation } | null = null;

  /** `orderOf` returns the order of an epoch; null keeps the order of the source. */
  constructor(
    private readonly data: SequenceSource,
    private readonly orderOf: ((epoch: number) => Permutation) | null,
  ) {
    [this.contextLength, this.sequences] = [data.contextLength, data.sequences];
    checkInteger("mixSequences", "the number of sequences", this.sequences, 1);
  }

  sequence(number: number): TrainingSequence {
    const position = number % this.sequences;
    if (!this.orderOf) return this.data.sequence(position);
    const epoch = (number - position) / this.sequences;
    if (this.#order?.epoch !== epoch) this.#order = { epoch, permutation: this.orderOf(epoch) };
    return this.data.sequence(this.#order.permutation.at(position));
  }
}

/** Returns how many numbers of a round each part gets: at least one, and in proportion to the weights otherwise. */
function sharesOf(weights: readonly number[]): number[] {
  const largest = Math.max(...weights);
  // Divided first, the weights have a finite sum.
  const scaled = weights.map((weight) => weight / largest);
  const sum = scaled.reduce((a, b) => a + b, 0);
  const exact = scaled.map((weight) => (weight / sum) * (roundLength - weights.length) + 1);
  const shares = exact.map(Math.floor);
  // The largest remainders get what is left.
  const order = [...exact.keys()].sort((a, b) => exact[b]! - shares[b]! - (exact[a]! - shares[a]!) || a - b);
  const left = roundLength - shares.reduce((a, b) => a + b, 0);
  for (const part of order.slice(0, left)) shares[part]!++;
  return shares;
}

/** Deals the numbers of sequences to the parts. */
class Rounds {
  /** The last round: the part at each place, and how many places before it are the same part's. */
  #last: { round: number; parts: Uint16Array; counts: Uint16Array } | null = null;

  constructor(
    private readonly shares: readonly number[],
    private readonly seed: number,
  ) {}

  /** Returns the part that gets a number, and how many numbers before it the same part gets. */
  at(number: number): { part: number; number: number } {
    if (this.shares.length === 1) return { part: 0, number };
    const place = number % roundLength;
    const round = (number - place) / roundLength;
    if (this.#last?.round !== round) this.#last = this.#deal(round);
    const part = this.#last.parts[place]!;
    return { part, number: round * this.shares[part]! + this.#last.counts[place]! };
  }

  #deal(round: number): { round: number; parts: Uint16Array; counts: Uint16Array } {
    const ofSlot = new Uint16Array(roundLength);
    let from = 0;
    for (const [part, share] of this.shares.entries()) ofSlot.fill(part, from, (from += share));
    const order = new Permutation(roundLength, this.seed, round);
    const parts = new Uint16Array(roundLength);
    const counts = new Uint16Array(roundLength);
    const dealt = new Uint16Array(this.shares.length);
    for (let place = 0; place < roundLength; place++) {
      const part = ofSlot[order.at(place)]!;
      parts[place] = part;
      counts[place] = dealt[part]!++;
    }
    return { round, parts, counts };
  }
}
