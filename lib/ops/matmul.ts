import { record } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { reduceKinds } from "../core/native-kinds.js";
import { broadcastShapes, contiguousStrides, formatShape, sameShape, type Shape } from "../core/shape.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { checkFloat, checkRank } from "./check.js";
import { transposed } from "./views.js";

/** Returns `x` if its leading dimensions are `batch`, otherwise a view that has them, in no scope and no graph. */
function expandBatch(x: FloatTensor, batch: Shape): FloatTensor {
  const inner = x.shape.length - 2;
  if (sameShape(x.shape.slice(0, inner), batch)) return x;
  const missing = batch.length - inner;
  return x.viewAs(
    [...batch, ...x.shape.slice(inner)],
    [
      ...batch.map((_, i) => (i < missing || x.shape[i - missing] === 1 ? 0 : x.strides[i - missing]!)),
      ...x.strides.slice(inner),
    ],
    0,
    false,
  );
}

/** Computes out (+)= a · b, with the leading dimensions of a and b stretched to those of out. */
function multiply(out: FloatTensor, a: FloatTensor, b: FloatTensor, accumulate: boolean): void {
  const batch = out.shape.slice(0, -2);
  const left = expandBatch(a, batch);
  const right = expandBatch(b, batch);
  try {
    ops.gemm({ out, a: left, b: right, accumulate });
  } finally {
    if (left !== a) left.dispose();
    if (right !== b) right.dispose();
  }
}

/** Writes or adds a · b to a gradient, summed over the batch dimensions that were stretched. */
function gradientOf(a: FloatTensor, b: FloatTensor, shape: Shape, out: FloatTensor, accumulate: boolean): void {
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const full = [...batch, ...shape.slice(-2)];
  if (sameShape(full, shape)) {
    multiply(out, a, b, accumulate);
    return;
  }
  using product = allocate(full, out.dtype, a.device, false);
  multiply(product, a, b, false);
  const kept = [...Array.from({ length: full.length - shape.length }, () => 1), ...shape];
  using target = out.viewAs(kept, contiguousStrides(kept), 0, false);
  ops.reduce({ out: target, inp: product, kind: reduceKinds.sum, accumulate });
}

/**
 * Returns the matrix product [..., M, K] · [..., K, N] → [..., M, N]. Leading dimensions broadcast. Transposed and
 * other strided views are read in place.
 *
 * @example
 * const y = matmul(x, transpose(x)); // [2, 8] · [8, 2] → [2, 2]
 *
 * @throws ERR_SHAPE if K differs or the leading dimensions do not broadcast.
 */
export function matmul(a: FloatTensor, b: FloatTensor): FloatTensor {
  checkFloat("matmul", "a", a);
  checkFloat("matmul", "b", b, a);
  checkRank("matmul", "a", a, 2);
  checkRank("matmul", "b", b, 2);
  if (a.shape.at(-1) !== b.shape.at(-2))
    throw new HeedError(
      "ERR_SHAPE",
      `matmul: expected b of shape [..., ${a.shape.at(-1)}, N] for a of shape ${formatShape(a.shape)}, got ${formatShape(b.shape)}`,
    );
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  const out: FloatTensor = allocate([...batch, a.shape.at(-2)!, b.shape.at(-1)!], a.dtype, a.device);
  multiply(out, a, b, false);
  return record("matmul", out, [a, b], { a, b }, ({ dout, needs, gradient, saved }) => {
    if (needs(0)) {
      using bT = transposed(saved.b);
      const { out: da, accumulate } = gradient(0);
      gradientOf(dout, bT, da.shape, da, accumulate);
    }
    if (needs(1)) {
      using aT = transposed(saved.a);
      const { out: db, accumulate } = gradient(1);
      gradientOf(aT, dout, db.shape, db, accumulate);
    }
  });
}
