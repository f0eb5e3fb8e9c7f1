import { HeedError } from "../util/errors.js";
import { add, div } from "../ops/binary.js";
import { checkChoice, checkFloat, checkInteger, checkObject, checkShapeIs } from "../ops/check.js";
import { matmul } from "../ops/matmul.js";
import { max } from "../ops/reduce.js";
import { narrow, reshape } from "../ops/views.js";
import { scope } from "../core/scope.js";
import { tensor } from "../core/creation.js";
import { lastTokens } from "./last-tokens.js";
import type { FloatTensor } from "../core/tensor.js";

/**
 * Way to make one vector of the states of a text's tokens: "cls" takes the first token's, "last" the last token's, "mean"
 * their mean, "max" the largest value of each dimension.
 */
export type Pooling = "cls" | "last" | "mean" | "max";

const poolings: readonly Pooling[] = ["cls", "last", "mean", "max"];

/**
 * Checks a value for being a pooling.
 *
 * @throws ERR_ARGUMENT if it is none.
 */
export function checkPooling(op: string, pooling: unknown): asserts pooling is Pooling {
  checkChoice(op, "pooling", pooling, poolings);
}

/**
 * Returns one vector for each sequence, f32 [B, C], from the states [B, T, C] of its tokens (Reimers & Gurevych 2019).
 * The first lengths[b] tokens of sequence b are real; the rest is padding and is ignored.
 *
 * @example
 * const states = randn([2, 5, 16], { seed: 1 });
 * pool(states, [5, 3], "mean").shape; // [2, 16]
 *
 * @throws ERR_SHAPE if `states` is not [B, T, C] or there are not B lengths.
 * @throws ERR_RANGE if a length is not from 1 to T.
 * @throws ERR_ARGUMENT if `pooling` is unknown.
 * @see https://arxiv.org/abs/1908.10084
 */
export function pool(states: FloatTensor, lengths: ArrayLike<number>, pooling: Pooling): FloatTensor {
  checkPooling("pool", pooling);
  checkFloat("pool", "states", states);
  checkShapeIs("pool", "states", states, [-1, -1, -1]);
  const [batch, tokens, width] = states.shape as [number, number, number];
  checkObject("pool", "lengths", lengths);
  if (lengths.length !== batch)
    throw new HeedError("ERR_SHAPE", `pool: expected lengths for ${batch} sequences, got ${lengths.length}`);
  for (let b = 0; b < batch; b++) checkInteger("pool", `lengths[${b}]`, lengths[b], 1, tokens);
  const { device } = states;
  /** Returns a number for each token, [B·T]: `real` for real tokens, `padding` for the others. */
  const mask = (real: number, padding: number): Float32Array =>
    Float32Array.from({ length: batch * tokens }, (_, i) =>
      i % tokens < lengths[Math.floor(i / tokens)]! ? real : padding,
    );
  return scope(() => {
    if (pooling === "cls") return reshape(narrow(states, 1, 0, 1), [batch, width]).to("f32");
    if (pooling === "last") return lastTokens(states, lengths).to("f32");
    const x = states.to("f32");
    if (pooling === "max")
      return max(add(x, tensor(mask(0, -Infinity), [batch, tokens, 1], { device })), { axes: [1] });
    const sums = matmul(tensor(mask(1, 0), [batch, 1, tokens], { device }), x); // [B, 1, C]
    return div(reshape(sums, [batch, width]), tensor(Float32Array.from(lengths), [batch, 1], { device }));
  });
}
