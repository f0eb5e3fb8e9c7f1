import { needsGrad, record } from "../autograd.js";
import type { FloatDType } from "../dtype.js";
import { describe, HeedError } from "../errors.js";
import { ops } from "../native.js";
import { scope } from "../scope.js";
import { full, tensor } from "../creation.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { add, div } from "./binary.js";
import { checkDType, checkFloat, checkInteger, checkNumber, checkObject, checkShapeIs, checkTensor } from "./check.js";
import { matmul } from "./matmul.js";
import type { MaskOptions } from "./attention-masks.js";
import { sum } from "./reduce.js";
import { eluPlusOne } from "./unary.js";
import { contiguous, transpose } from "./views.js";

/** φ: "elu", elu(x) + 1, or none, for a map of one's own before. */
export type FeatureMap = "elu" | "none";

/** What is left of the tokens seen so far: a matrix a head, however many they are. */
export interface LinearState {
  /** f32 [B, H, D, Dv]: Σ φ(k)·vᵀ */
  sums: FloatTensor;
  /** f32 [B, H, D, 1]: Σ φ(k); null where nothing is normalised. */
  normalizer: FloatTensor | null;
}

export interface LinearAttentionOptions {
  /** A query sees the keys up to its own; true unless given. Else all, and their number may be another. */
  causal?: boolean;
  /** Of queries and keys; "elu" unless given. */
  featureMap?: FeatureMap;
  /** Divides by Σ φ(q)·φ(k), so that weights sum to 1; true unless given. */
  normalize?: boolean;
  /** Added to what is divided by; 1e-6 unless given. */
  eps?: number;
  /**
   * f32 [H], above 0 and up to 1: what is left of a token's weight from one to the next, in causal attention. It gets no
   * gradient, and one that requires a gradient is refused. See `retentionDecay`.
   */
  decay?: FloatTensor | null;
  /** Tokens before the first; becomes that of all tokens, in place. For causal attention without gradients. */
  state?: LinearState | null;
}

/** The decays of RetNet's heads (Sun et al. 2023, eq. 8), f32 [heads]: 1 − 2^(−5−h). */
export function retentionDecay(heads: number, options: MaskOptions = {}): FloatTensor {
  checkInteger("retentionDecay", "heads", heads, 1, 2 ** 31 - 1);
  checkObject("retentionDecay", "options", options);
  const decays = Float32Array.from({ length: heads }, (_, h) => 1 - 2 ** (-5 - h));
  return tensor(decays, [heads], options);
}

/**
 * Attention whose weights are φ(q)·φ(k) instead of e^(q·k) (Katharopoulos et al. 2020), so that time grows with the length
 * and not with its square:
 *
 *   out_t = Σ_j decay^(t−j) (φ(q_t)·φ(k_j)) v_j / (Σ_j decay^(t−j) φ(q_t)·φ(k_j) + eps), j ≤ t if causal.
 *
 * q [B, Tq, H, D], k [B, Tk, H, D], v [B, Tk, H, Dv] → [B, Tq, H, Dv]. In bf16 and f16, sums and quotients are f32, forward
 * and backward, and the result is rounded once.
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
    throw new HeedError("ERR_ARGUMENT", `${op}: expected featureMap "elu" or "none", got ${describe(featureMap)}`);
  checkNumber(op, "eps", eps, 0);
  if (decay !== null) {
    checkF32(op, "decay", decay, q, [heads]);
    if (needsGrad([decay]))
      throw new HeedError("ERR_ARGUMENT", `${op}: expected a decay that needs no gradient, got one that requires it`);
  }
  if (!causal && (decay !== null || state !== null))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected causal for a ${decay ? "decay" : "state"}, got false`);
  if (state !== null) {
    checkObject(op, "state", state);
    checkF32(op, "state.sums", state.sums, q, [batch, heads, size, v.shape[3]!]);
    if (normalize) checkF32(op, "state.normalizer", state.normalizer, q, [batch, heads, size, 1]);
    if (needsGrad([q, k, v]))
      throw new HeedError(
        "ERR_ARGUMENT",
        `${op}: expected a state without gradients only (noGrad), got inputs that need one`,
      );
  }
  return scope(() => {
    const map = (x: FloatTensor): FloatTensor => (featureMap === "elu" ? eluPlusOne(x) : x);
    // Of causal sums alone, the kernel's own are f32 already. Others grow with the number of keys, beyond what f16 holds.
    const wide = (x: FloatTensor): FloatTensor => (normalize || !causal ? inDType(x, "f32") : x);
    const [fq, fk, fv] = [map(wide(q)), map(wide(k)), wide(v)];
    const sums = (values: FloatTensor, carried: FloatTensor | null): FloatTensor =>
      causal ? causalSums(fq, fk, values, decay, carried) : allSums(fq, fk, values);
    const out = sums(fv, state?.sums ?? null);
    if (!normalize) return inDType(out, v.dtype);
    // [B, Tk, H, 1], one number in memory.
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

/** out_t = Σ_{j ≤ t} decay^(t−j) (q_t·k_j) v_j; `state` is what is before, and then all. */
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
        // The kernel has no accumulating form.
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

/** out_t = Σ_j (q_t·k_j) v_j, through [B, H, D, Dv]. */
function allSums(q: FloatTensor, k: FloatTensor, v: FloatTensor): FloatTensor {
  const state = matmul(transpose(byHead(k)), byHead(v));
  return byHead(matmul(byHead(q), state));
}

/** [B, Tq, H, 1]: Σ_j q_t·k_j. */
function allWeights(q: FloatTensor, k: FloatTensor): FloatTensor {
  const total = sum(byHead(k), { axes: [2], keepDims: true }); // [B, H, 1, D]
  return byHead(matmul(byHead(q), transpose(total)));
}
