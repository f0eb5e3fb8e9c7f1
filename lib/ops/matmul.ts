import { record } from "../autograd.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { broadcastShapes, contiguousStrides, formatShape, sameShape, type Shape } from "../shape.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { checkFloat, checkRank } from "./check.js";

/** `x` with its leading dimensions stretched to `batch`; in no scope and no graph. */
function expandBatch(x: FloatTensor, batch: Shape): FloatTensor {
  const inner = x.shape.length - 2;
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

function swapLast(x: FloatTensor): FloatTensor {
  const rank = x.shape.length;
  const swap = (list: Shape): number[] => [...list.slice(0, rank - 2), list[rank - 1]!, list[rank - 2]!];
  return x.viewAs(swap(x.shape), swap(x.strides), 0, false);
}

/** out (+)= a · b; all of the same leading dimensions. */
function multiply(out: FloatTensor, a: FloatTensor, b: FloatTensor, accumulate: boolean): void {
  ops.gemm(out.handle, null, a.handle, b.handle, null, null, null, null, 0, false, accumulate, false);
}

/** Writes or adds a · b into the gradient of input i, summed over batch dimensions that were stretched. */
function gradientOf(a: FloatTensor, b: FloatTensor, shape: Shape, out: FloatTensor, accumulate: boolean): void {
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  using left = expandBatch(a, batch);
  using right = expandBatch(b, batch);
  const full = [...batch, ...shape.slice(-2)];
  if (sameShape(full, shape)) {
    multiply(out, left, right, accumulate);
    return;
  }
  using product = allocate(full, out.dtype, a.device, false);
  multiply(product, left, right, false);
  const kept = [...Array.from({ length: full.length - shape.length }, () => 1), ...shape];
  using target = out.viewAs(kept, contiguousStrides(kept), 0, false);
  ops.reduce(target.handle, product.handle, 0, accumulate);
}

/**
 * Matrix product [..., M, K] · [..., K, N] → [..., M, N]; leading dimensions broadcast. Transposed and other strided
 * views are read in place.
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
  using left = expandBatch(a, batch);
  using right = expandBatch(b, batch);
  multiply(out, left, right, false);
  return record("matmul", out, [a, b], { a, b }, ({ dout, needs, gradient, saved }) => {
    if (needs(0)) {
      using transposed = swapLast(saved.b);
      const { out: da, accumulate } = gradient(0);
      gradientOf(dout, transposed, da.shape, da, accumulate);
    }
    if (needs(1)) {
      using transposed = swapLast(saved.a);
      const { out: db, accumulate } = gradient(1);
      gradientOf(transposed, dout, db.shape, db, accumulate);
    }
  });
}
