// The pairs of answers of a run with --preference, and the order in which it reads them.
import { createHash } from "node:crypto";
import { readPairs } from "../data/read-pairs.js";
import { TokenShards } from "../data/token-shards.js";
import { HeedError } from "../util/errors.js";
import { orderOf, Permutation, type OrderVersion, orderVersion } from "../util/permutation.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { BatchSource } from "../train/batch-feed.js";
import type { PreferencePair } from "../data/preference-pair.js";
import type { TrainingExample } from "../data/pack-examples.js";
import type { DataPart } from "./data-parts.js";
import { UsageError } from "./failure.js";
import type { RunFlags } from "./train-flags.js";

/** Pairs of answers, read by position. */
export interface PairSource {
  /** Number of pairs. */
  readonly pairs: number;
  /** Returns a pair, counted from 0. */
  pair(index: number): PreferencePair;
}

/** Pairs of answers that fit into the context. */
export interface FittingPairs extends PairSource {
  /** Number of pairs that were left out. */
  leftOut: number;
}

/**
 * Resolves to the pairs in files that fit into the context. An answer that does not is cut off at its end. Pairs of which
 * both answers would be cut, or nothing of an answer would be left, are left out.
 *
 * @throws ERR_FORMAT if a record is no pair, or no pair is left.
 */
export async function pairsIn(
  files: readonly string[],
  tokenizer: Tokenizer,
  { context }: Pick<RunFlags, "context">,
): Promise<FittingPairs> {
  const all = await readPairs(files, tokenizer);
  return fitting({ pairs: all.length, pair: (index) => all[index]! }, files.join(", "), context);
}

/** Returns the pairs that fit into the context, with their answers cut. */
function fitting(source: PairSource, name: string, context: number): FittingPairs {
  const kept: number[] = [];
  for (let i = 0; i < source.pairs; i++) {
    const { chosen, rejected } = source.pair(i);
    const [a, b] = [chosen.ids.length > context + 1, rejected.ids.length > context + 1];
    const cut = cutPair({ chosen, rejected }, context);
    if (!(a && b) && counts(cut.chosen) && counts(cut.rejected)) kept.push(i);
  }
  if (kept.length === 0)
    throw new HeedError(
      "ERR_FORMAT",
      `${name}: expected pairs of answers that fit into the context of ${context} tokens, got none`,
    );
  return {
    pairs: kept.length,
    pair: (index) => cutPair(source.pair(kept[index]!), context),
    leftOut: source.pairs - kept.length,
  };
}

/**
 * Opens shards of pairs, which stay open until the process ends. Pairs that do not fit are left out, as by `pairsIn`.
 *
 * @throws UsageError if a folder has other data, or there are weights.
 */
export function pairsOfShards(
  parts: readonly DataPart[],
  { context }: Pick<RunFlags, "context">,
): FittingPairs & { shards: readonly TokenShards[]; hash: string } {
  const shards = parts.map(({ folder, weight }) => {
    if (weight !== undefined)
      throw new UsageError(`--data ${folder}=${weight}: expected no weights with --preference, which reads all pairs`);
    const opened = TokenShards.open(folder);
    if (opened.kind === "preference") return opened;
    throw new UsageError(
      `--data ${folder}: expected pairs of answers (heed data --kind preference), got data of kind ${opened.kind}`,
    );
  });
  const sources = shards.map((one): PairSource => ({
    pairs: one.documents / 2,
    pair: (index) => one.pair(index),
  }));
  const hash = createHash("sha256").update(JSON.stringify(shards.map((one) => one.hash)));
  const folders = shards.map(({ folder }) => folder).join(", ");
  return { ...fitting(joined(sources), folders, context), shards, hash: hash.digest("hex") };
}

/** Returns the pairs of all sources, one source after the other. */
function joined(sources: readonly PairSource[]): PairSource {
  return {
    pairs: sources.reduce((sum, { pairs }) => sum + pairs, 0),
    pair(index) {
      let rest = index;
      for (const source of sources) {
        if (rest < source.pairs) return source.pair(rest);
        rest -= source.pairs;
      }
      throw new RangeError(`expected a pair below ${index - rest}, got ${index}`);
    },
  };
}

/** Splits off the last share of the pairs for validation. */
export function splitPairs(source: PairSource, fraction: number): { train: PairSource; validation: PairSource | null } {
  const border = source.pairs - Math.floor(source.pairs * fraction);
  const pair = (index: number): PreferencePair => source.pair(index);
  if (border === source.pairs) return { train: source, validation: null };
  return {
    train: { pairs: border, pair },
    validation: { pairs: source.pairs - border, pair: (index) => pair(border + index) },
  };
}

/**
 * Returns batches of pairs. Each epoch has every pair once, in an order that follows from the seed and the epoch, or in
 * the order of the data if the seed is null. The last batch of an epoch may be smaller.
 */
export function pairBatches(
  source: PairSource,
  { batch, seed, version = orderVersion }: { batch: number; seed: number | null; version?: OrderVersion },
): BatchSource<PreferencePair[]> {
  const length = Math.ceil(source.pairs / batch);
  return {
    length,
    order: seed === null ? "in order" : orderOf(seed, version),
    *batches(epoch, first) {
      const order = seed === null ? null : new Permutation(source.pairs, seed, epoch, version);
      for (let i = first; i < length; i++) {
        const count = Math.min(batch, source.pairs - i * batch);
        yield Array.from({ length: count }, (_, j) => source.pair(order ? order.at(i * batch + j) : i * batch + j));
      }
    },
  };
}

/** Cuts what does not fit: the model reads all tokens but the last. */
function cutPair({ chosen, rejected }: PreferencePair, context: number): PreferencePair {
  const cut = ({ ids, mask }: TrainingExample): TrainingExample => ({
    ids: ids.subarray(0, context + 1),
    mask: mask.subarray(0, context + 1),
  });
  return { chosen: cut(chosen), rejected: cut(rejected) };
}

/** Returns true if a token counts. The first token is never predicted. */
function counts({ mask }: TrainingExample): boolean {
  return mask.includes(1, 1);
}
