import { attach, needsGrad } from "../core/autograd.js";
import { full } from "../core/creation.js";
import { isFloat } from "../core/dtype.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { scope } from "../core/scope.js";
import { broadcastShapes, type Shape } from "../core/shape.js";
import { allocate, type FloatTensor, Tensor } from "../core/tensor.js";
import { contribute, expand } from "./broadcast.js";
import { checkDType, checkTensor, describe } from "./check.js";

const op = "where";

/** Writes a where the condition is not 0, and b elsewhere. All three stretch to the shape of `out`. */
function select(out: Tensor, condition: Tensor, a: Tensor, b: Tensor): void {
  const operands = [condition, a, b].map((x) => expand(x, out.shape)) as [Tensor, Tensor, Tensor];
  try {
    ops.where({ out, condition: operands[0], a: operands[1], b: operands[2] });
  } finally {
    for (const [i, x] of [condition, a, b].entries()) if (operands[i] !== x) operands[i]!.dispose();
  }
}

/**
 * Returns a where the condition is not 0, and b elsewhere. Shapes broadcast by NumPy's rule. The condition may have any
 * dtype; NaN is not 0. At least one of a and b is a tensor; a number takes its dtype.
 *
 * Gradients flow to a and b, to each where it was chosen: what was not chosen gets exactly 0, also beside NaN or infinity.
 *
 * @example
 * const safe = where(greater(x, 0), log(x), 0);
 *
 * @throws ERR_SHAPE if the shapes do not broadcast; ERR_DTYPE if a and b have different dtypes; ERR_RANGE if a number does
 *   not fit an integer dtype; ERR_ARGUMENT if a and b are both numbers.
 */
export function where<T extends Tensor>(condition: Tensor, a: T | number, b: T | number): T {
  checkTensor(op, "condition", condition);
  const like = a instanceof Tensor ? a : b;
  if (!(like instanceof Tensor))
    throw new HeedError("ERR_ARGUMENT", `${op}: expected a or b to be a tensor, got ${describe(a)} and ${describe(b)}`);
  const operand = (value: T | number, name: string): Tensor => {
    if (typeof value === "number") return full([], value, { dtype: like.dtype, device: condition.device });
    checkTensor(op, name, value, condition);
    checkDType(op, name, value, like.dtype);
    return value;
  };
  const [x, y] = [operand(a, "a"), operand(b, "b")];
  const shape = broadcastShapes(op, broadcastShapes(op, condition.shape, x.shape), y.shape);
  const out = allocate(shape, like.dtype, condition.device) as T;
  select(out, condition, x, y);
  if (isFloat(like.dtype) && needsGrad([x, y]))
    attachGradients(out as unknown as FloatTensor, condition, x as FloatTensor, y as FloatTensor, shape);
  if (x !== a) x.dispose();
  if (y !== b) y.dispose();
  return out;
}

function attachGradients(out: FloatTensor, condition: Tensor, x: FloatTensor, y: FloatTensor, shape: Shape): void {
  attach(op, out, [x, y], { condition }, (context) => {
    const { dout, saved } = context;
    scope(() => {
      const zero = full([], 0, { dtype: dout.dtype, device: dout.device });
      const chosen = (a: FloatTensor, b: FloatTensor): FloatTensor => {
        const part: FloatTensor = allocate(shape, dout.dtype, dout.device);
        select(part, saved.condition, a, b);
        return part;
      };
      if (context.needs(0)) contribute(context, 0, x, chosen(dout, zero));
      if (context.needs(1)) contribute(context, 1, y, chosen(zero, dout));
    });
  });
}
