import { needsGrad, record } from "../core/autograd.js";
import type { FloatDType } from "../core/dtype.js";
import { describe, HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { scope } from "../core/scope.js";
import { full, tensor } from "../core/creation.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { add, div } from "./binary.js";
import { checkDType, checkFloat, checkInteger, checkNumber, checkObject, checkShapeIs, checkTensor } from "./check.js";
import { matmul } from "./matmul.js";
import type { MaskOptions } from "./attention-masks.js";
import { sum } from "./reduce.js";
import { eluPlusOne } from "./unary.js";
import { contiguous, transpose } from "./views.js";

/** Feature map φ: "elu" is elu(x) + 1; "none" is the identity, for a map that you apply yourself. */
export type FeatureMap = "elu" | "none";

/** State that stands for all tokens seen so far: one matrix for each head, however many tokens there were. */
export interface LinearState {
  /** Σ φ(k)·vᵀ, f32 [B, H, D, Dv]. */
  sums: FloatTensor;
  /** Σ φ(k), f32 [B, H, D, 1]; null if `normalize` is false. */
  normalizer: FloatTensor | null;
}

/** Options of `linearAttention`. */
export interface LinearAttentionOptions {
  /**
   * Lets a query see only the keys up to its own position. If it is false, a query sees all keys, and there may be more
   * or fewer keys than queries.
   *
   * @default true
   */
  causal?: boolean;
  /** Feature map of queries and keys. @default "elu" */
  featureMap?: FeatureMap;
  /** Divides by Σ φ(q)·φ(k), so that weights sum to 1. @default true */
  normalize?: boolean;
  /** Number that is added to the divisor. @default 1e-6 */
  eps?: number;
  /**
   * f32 [H], above 0 and up to 1: share of a token's weight that remains from one token to the next, in causal
   * attention. It gets no gradient and must not require one. `retentionDecay` returns the decays of RetNet.
   */
  decay?: FloatTensor | null;
  /**
   * State of the tokens before the first one; it is overwritten with the state of all tokens. Only for causal attention
   * without gradients.
   */
  state?: LinearState | null;
}

/**
 * Returns the decays of RetNet's heads, f32 [heads]: 1 − 2^(−5−h) for head h.
 *
 * @example
 * const q = randn([2, 6, 4, 16], { seed: 1 });
 * const y = linearAttention(q, q, q, { featureMap: "none", normalize: false, decay: retentionDecay(4) });
 *
 * @throws ERR_RANGE if `heads` is not an integer of at least 1.
 * @see Sun et al. 2023, "Retentive Network", eq. 8, arXiv:2307.08621.
 */
export function retentionDecay(heads: number, options: MaskOptions = {}): FloatTensor {
  checkInteger("retentionDecay", "heads", heads, 1, 2 ** 31 - 1);
  checkObject("retentionDecay", "options", options);
  const decays = Float32Array.from({ length: heads }, (_, h) => 1 - 2 ** (-5 - h));
  return tensor(decays, [heads], options);
}

/**
 * Returns attention with the weights φ(q)·φ(k) instead of e^(q·k), so that time grows with the length and not with its
 * square:
 *
 *   out_t = Σ_j decay^(t−j) (φ(q_t)·φ(k_j)) v_j / (Σ_j decay^(t−j) φ(q_t)·φ(k_j) + eps), j ≤ t if causal.
 *
 * q [B, Tq, H, D], k [B, Tk, H, D], v [B, Tk, H, Dv] → [B, Tq, H, Dv]. In bf16 and f16, sums and quotients are f32,
 * forward and backward, and the result is rounded once.
 *
 * @example
 * const q = randn([2, 6, 4, 16], { seed: 1 });
 * const y = linearAttention(q, q, q); // [2, 6, 4, 16]
 *
 * @throws ERR_SHAPE if the shapes do not fit; ERR_ARGUMENT for an unknown feature map, a decay or state without
 *   `causal`, a decay that requires a gradient, or a state with inputs that require one; ERR_RANGE if `eps` is
 *   negative.
 * @see Katharopoulos et al. 2020, "Transformers are RNNs", arXiv:2006.16236.
 */
export function linearAttention(
  q: FloatTensor,
  k: FloatTensor,
  v: FloatTensor,
  options: LinearAttentionOptions = {},
): FloatTensor {
  const op = "linearAttention";
  checkObject(op, "options", options);
  const { causal = true, featureMap = "elu", normalize = true, eps = 1e-6, decay = null, state = null } = options;
  checkFloat(op, "q", q);
  checkFloat(op, "k", k, q);
  checkFloat(op, "v", v, q);
  checkShapeIs(op, "q", q, [-1, -1, -1, -1]);
  const [batch, queries, heads, size] = q.shape as [number, number, number, number];
  checkShapeIs(op, "k", k, [batch, causal ? queries : -1, heads, size]);
  checkShapeIs(op, "v", v, [batch, k.shape[1]!, heads, -1]);
  if (featureMap !== "elu" && featureMap !== "none")
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected featureMap to be "elu" or "none", got ${describe(featureMap)}`,
    );
  checkNumber(op, "eps", eps, 0);
  if (decay !== null) {
    checkF32(op, "decay", decay, q, [heads]);
    if (needsGrad([decay]))
      throw new HeedError("ERR_ARGUMENT", `${op}: expected a decay that requires no gradient, got one that does`);
  }
  if (!causal && (decay !== null || state !== null))
    throw new HeedError(
      "ERR_ARGUMENT",
      `${op}: expected causal to be true for a ${decay ? "decay" : "state"}, got false`,
    );
  if (state !== null) {
    checkObject(op, "state", state);
    checkF32(op, "state.sums", state.sums, q, [batch, heads, size, v.shape[3]!]);
    if (normalize) checkF32(op, "state.normalizer", state.normalizer, q, [batch, heads, size, 1]);
    if (needsGrad([q, k, v]))
      throw new HeedError(
        "ERR_ARGUMENT",
        `${op}: expected inputs that require no gradient if there is a state, got some that do; use noGrad()`,
      );
  }
  return scope(() => {
    const map = (x: FloatTensor): FloatTensor => (featureMap === "elu" ? eluPlusOne(x) : x);
    // The kernel sums in f32, which is enough if there are only causal sums. The others, and the divisors, grow with
    // the number of keys, beyond what f16 holds.
    const wide = (x: FloatTensor): FloatTensor => (normalize || !causal ? inDType(x, "f32") : x);
    const [fq, fk, fv] = [map(wide(q)), map(wide(k)), wide(v)];
    const sums = (values: FloatTensor, carried: FloatTensor | null): FloatTensor =>
      causal ? causalSums(fq, fk, values, decay, carried) : allSums(fq, fk, values);
    const out = sums(fv, state?.sums ?? null);
    if (!normalize) return inDType(out, v.dtype);
    // [B, Tk, H, 1], with one number in memory.
    const ones = full([1], 1, { dtype: fv.dtype, device: v.device }).viewAs(
      [batch, k.shape[1]!, heads, 1],
      [0, 0, 0, 1],
    );
    const weights = causal ? sums(ones, state?.normalizer ?? null) : allWeights(fq, fk);
    return inDType(div(out, add(weights, eps)), v.dtype); // [B, Tq, H, Dv] / [B, Tq, H, 1]
  });
}

const inDType = (x: FloatTensor, dtype: FloatDType): FloatTensor => (x.dtype === dtype ? x : x.to(dtype));

function checkF32(op: string, name: string, value: FloatTensor | null, like: FloatTensor, shape: number[]): void {
  checkTensor(op, name, value, like);
  checkDType(op, name, value, "f32");
  checkShapeIs(op, name, value, shape);
}

/**
 * Returns out_t = Σ_{j ≤ t} decay^(t−j) (q_t·k_j) v_j. `state` holds the sums over earlier tokens and is overwritten
 * with those over all tokens.
 */
function causalSums(
  q: FloatTensor,
  k: FloatTensor,
  v: FloatTensor,
  decay: FloatTensor | null,
  state: FloatTensor | null,
): FloatTensor {
  const inputs = [q, k, v].map((x) => (x.strides[3] === 1 || x.shape[3]! <= 1 ? x : contiguous(x)));
  const run = (
    out: FloatTensor,
    a: FloatTensor,
    b: FloatTensor,
    c: FloatTensor,
    d: FloatTensor | null,
    back: boolean,
  ) => ops.linear_attention({ out, finalState: state, q: a, k: b, v: c, initialState: state, decay: d, reverse: back });
  const out: FloatTensor = allocate(v.shape, v.dtype, v.device);
  const [a, b, c] = inputs as [FloatTensor, FloatTensor, FloatTensor];
  run(out, a, b, c, decay, false);
  state?.overwritten();
  return record(
    "linearAttention",
    out,
    inputs,
    { q: a, k: b, v: c, decay },
    ({ dout, needs, gradient, pass, saved }) => {
      const { q, k, v, decay } = saved;
      const write = (i: number, a: FloatTensor, b: FloatTensor, c: FloatTensor, back: boolean): void => {
        if (!needs(i)) return;
        const slot = gradient(i);
        if (!slot.accumulate) return run(slot.out, a, b, c, decay, back);
        // The kernel cannot accumulate.
        using apart: FloatTensor = allocate(slot.out.shape, slot.out.dtype, slot.out.device, false);
        run(apart, a, b, c, decay, back);
        pass(i, apart);
      };
      write(0, dout, v, k, false);
      write(1, v, dout, q, true);
      write(2, k, q, dout, true);
    },
  );
}

const byHead = (x: FloatTensor): FloatTensor => transpose(x, [0, 2, 1, 3]); // [B, T, H, D] ⇄ [B, H, T, D]

/** Returns out_t = Σ_j (q_t·k_j) v_j, computed through [B, H, D, Dv]. */
function allSums(q: FloatTensor, k: FloatTensor, v: FloatTensor): FloatTensor {
  const state = matmul(transpose(byHead(k)), byHead(v));
  return byHead(matmul(byHead(q), state));
}

/** Returns Σ_j q_t·k_j, [B, Tq, H, 1]. */
function allWeights(q: FloatTensor, k: FloatTensor): FloatTensor {
  const total = sum(byHead(k), { axes: [2], keepDims: true }); // [B, H, 1, D]
  return byHead(matmul(byHead(q), transpose(total)));
}
