import { type Backward, record } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { formatShape, sameShape } from "../core/shape.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { type Activation, activationIndex } from "./activation.js";
import { checkFloat, checkRank } from "./check.js";
import { contiguous } from "./views.js";

/**
 * Returns activation(gate) · up, a gated linear unit; `gate`, `up` and the result have the same shape. "silu" makes it
 * SwiGLU (Llama), "gelu" GEGLU (Gemma), "sigmoid" GLU, "relu" ReGLU, and "none" the bilinear layer.
 *
 * @default "silu"
 *
 * @example
 * const y = gated(x, randn([2, 8], { seed: 2 }), "silu");
 *
 * @throws ERR_SHAPE if the shapes differ; ERR_ARGUMENT for an unknown activation.
 * @see Shazeer 2020, "GLU Variants Improve Transformer", arXiv:2002.05202.
 */
export function gated(gate: FloatTensor, up: FloatTensor, activation: Activation = "silu"): FloatTensor {
  const op = "gated";
  checkFloat(op, "gate", gate);
  checkFloat(op, "up", up, gate);
  if (!sameShape(up.shape, gate.shape))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected up to have the shape of gate, ${formatShape(gate.shape)}, got ${formatShape(up.shape)}`,
    );
  const kind = activationIndex(op, activation);
  type Saved = Record<"gate" | "up", FloatTensor>;
  const make = ({ gate, up }: Saved, scoped = false): FloatTensor => {
    const out: FloatTensor = allocate(gate.shape, gate.dtype, gate.device, scoped);
    ops.gated({ out, gate, up, activation: kind });
    return out;
  };
  const backward = ({ dout, needs, gradient, saved }: Backward<Saved>): void => {
    // The kernel computes both gradients in one pass. A gradient that nobody needs goes to memory that is thrown away.
    const slot = (i: number): { out: FloatTensor; accumulate: boolean } =>
      needs(i) ? gradient(i) : { out: allocate(dout.shape, dout.dtype, dout.device, false), accumulate: false };
    const [dgate, dup] = [slot(0), slot(1)];
    // If one tensor is both gate and up, the kernel must not write to its gradient twice.
    const apart = dup.out === dgate.out ? allocate(dout.shape, dout.dtype, dout.device, false) : null;
    ops.gated_backward({
      dgate: dgate.out,
      dup: apart ?? dup.out,
      dout,
      gate: saved.gate,
      up: saved.up,
      activation: kind,
      accumulateDgate: dgate.accumulate,
      accumulateDup: !apart && dup.accumulate,
    });
    if (apart) ops.copy({ out: dgate.out, inp: apart, accumulate: true });
    apart?.dispose();
    if (!needs(0)) dgate.out.dispose();
    if (!needs(1)) dup.out.dispose();
  };
  return record(op, make({ gate, up }, true), [gate, up], { gate, up }, backward, (saved) => make(saved));
}

/**
 * Returns activation(gate) · up, like `gated`, from one projection x [..., 2·F] that holds the gate and then `up` →
 * [..., F]. If x is contiguous, nothing is copied or permuted, forward or backward.
 *
 * @default "silu"
 *
 * @example
 * const y = packedGated(x); // [2, 8] → [2, 4]
 *
 * @throws ERR_SHAPE if the width of x is odd; ERR_ARGUMENT for an unknown activation.
 */
export function packedGated(x: FloatTensor, activation: Activation = "silu"): FloatTensor {
  const op = "packedGated";
  checkFloat(op, "x", x);
  checkRank(op, "x", x, 1);
  if (x.shape.at(-1)! % 2 !== 0)
    throw new HeedError("ERR_SHAPE", `${op}: expected x of an even width, got ${formatShape(x.shape)}`);
  const kind = activationIndex(op, activation);
  const width = x.shape.at(-1)! / 2;
  const shape = x.shape.with(-1, width);
  const half = (packed: FloatTensor, i: number): FloatTensor => packed.viewAs(shape, packed.strides, i * width, false);
  const make = (input: FloatTensor, scoped = false): FloatTensor => {
    const out: FloatTensor = allocate(shape, x.dtype, x.device, scoped);
    using gate = half(input, 0);
    using up = half(input, 1);
    ops.gated({ out, gate, up, activation: kind });
    return out;
  };
  const input = contiguous(x);
  const out = make(input, true);
  const backward = ({ dout, gradient, saved }: Backward<{ input: FloatTensor }>): void => {
    const { out: dx, accumulate } = gradient(0);
    using dgate = half(dx, 0);
    using dup = half(dx, 1);
    using gate = half(saved.input, 0);
    using up = half(saved.input, 1);
    ops.gated_backward({
      dgate,
      dup,
      dout,
      gate,
      up,
      activation: kind,
      accumulateDgate: accumulate,
      accumulateDup: accumulate,
    });
  };
  record(op, out, [input], { input }, backward, (saved) => make(saved.input));
  if (input !== x) input.dispose();
  return out;
}
