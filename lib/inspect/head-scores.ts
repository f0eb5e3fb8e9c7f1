import { checkBoolean, checkChoice, checkObject } from "../util/check.js";
import { checkTensor } from "../ops/check.js";
import type { IntTensor } from "../core/tensor.js";
import type { InspectedDecoder } from "./hook-names.js";
import { type RunOptions, runWithCache } from "./run.js";

const behaviours = ["previousToken", "duplicateToken", "induction"] as const;
const measures = ["mul", "abs"] as const;

/**
 * Behaviour of a head: it attends to the token before, to earlier occurrences of the same token, or to the tokens that
 * followed them (Olsson et al. 2022).
 */
export type HeadBehaviour = (typeof behaviours)[number];

/** Options of `headScores`. */
export type HeadScoreOptions = Omit<RunOptions<InspectedDecoder>, "stopAtLayer"> & {
  /** Behaviour that is scored. */
  behaviour: HeadBehaviour;
  /**
   * Measure: "mul" is the share of a head's attention that the behaviour explains, "abs" is one minus the mean absolute
   * difference of each row of the pattern to the behaviour's.
   *
   * @default "mul"
   */
  measure?: (typeof measures)[number];
  /** True if attention to the first token does not count. @default false */
  excludeFirst?: boolean;
  /** True if a token's attention to itself does not count. @default false */
  excludeCurrent?: boolean;
};

/**
 * Resolves to a score for each head, `scores[layer][head]`, as TransformerLens' `detect_head` defines it, as a mean over
 * the batch. For "mul", 1 means that a head attends only where the behaviour does.
 *
 * @example
 * const ids = tensor(tokenizer.encode("abcdabcd"), [1, 8]);
 * const scores = await headScores(gpt, ids, { behaviour: "induction", excludeFirst: true });
 * scores[1]![0]; // how much head 0 of the second block is an induction head
 *
 * @throws the errors of `run`; ERR_ARGUMENT if an option has an unknown value.
 * @see Olsson et al. 2022, "In-context Learning and Induction Heads", arXiv:2209.11895.
 */
export async function headScores(
  model: InspectedDecoder,
  ids: IntTensor,
  options: HeadScoreOptions,
): Promise<number[][]> {
  const op = "headScores";
  checkTensor(op, "ids", ids);
  checkObject(op, "options", options);
  const { behaviour, measure = "mul", excludeFirst = false, excludeCurrent = false, ...rest } = options;
  checkChoice(op, "behaviour", behaviour, behaviours);
  checkChoice(op, "measure", measure, measures);
  checkBoolean(op, "excludeFirst", excludeFirst);
  checkBoolean(op, "excludeCurrent", excludeCurrent);
  const scores: number[][] = [];
  const [batch, tokens] = ids.shape as [number, number];
  const values = await ids.data();
  const expected = Array.from({ length: batch }, (_, b) =>
    patternOf(behaviour, values.subarray(b * tokens, (b + 1) * tokens)),
  );
  const counts = (i: number, j: number): boolean => !(excludeFirst && j === 0) && !(excludeCurrent && i === j);
  const score = measure === "mul" ? shareExplained : closeness;
  using cache = runWithCache(model, ids, { ...rest, names: /attn.hook_pattern$/ });
  for (const [, pattern] of cache) {
    const heads = pattern.shape[1]!;
    const data = await pattern.data(); // [B, H, T, T]
    scores.push(
      Array.from({ length: heads }, (_, h) => {
        const each = expected.map((want, b) => {
          const at = (b * heads + h) * tokens * tokens;
          return score(data.subarray(at, at + tokens * tokens), want, tokens, counts);
        });
        return each.reduce((sum, x) => sum + x, 0) / batch;
      }),
    );
  }
  return scores;
}

/** Returns where a head of this behaviour attends, [T, T]: 1 there and 0 elsewhere. */
function patternOf(behaviour: HeadBehaviour, ids: Int32Array): Uint8Array {
  const attends: Record<HeadBehaviour, (i: number, j: number) => boolean> = {
    previousToken: (i, j) => j === i - 1,
    duplicateToken: (i, j) => j < i && ids[j] === ids[i],
    induction: (i, j) => j > 0 && j <= i && ids[j - 1] === ids[i],
  };
  const { length } = ids;
  return Uint8Array.from({ length: length ** 2 }, (_, at) =>
    Number(attends[behaviour](Math.floor(at / length), at % length)),
  );
}

type Counts = (i: number, j: number) => boolean;

function shareExplained(pattern: Float32Array, expected: Uint8Array, tokens: number, counts: Counts): number {
  let [explained, total] = [0, 0];
  for (const [at, weight] of pattern.entries()) {
    if (!counts(Math.floor(at / tokens), at % tokens)) continue;
    total += weight;
    explained += weight * expected[at]!;
  }
  return total === 0 ? 0 : explained / total;
}

function closeness(pattern: Float32Array, expected: Uint8Array, tokens: number, counts: Counts): number {
  let difference = 0;
  for (const [at, weight] of pattern.entries())
    if (counts(Math.floor(at / tokens), at % tokens)) difference += Math.abs(weight - expected[at]!);
  return 1 - difference / tokens;
}
