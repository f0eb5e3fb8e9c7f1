import { type Backward, record } from "../autograd.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { formatShape, sameShape } from "../shape.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { type Activation, activationIndex } from "./activation.js";
import { checkFloat, checkRank } from "./check.js";
import { contiguous } from "./views.js";

/**
 * activation(gate) · up, the gated linear units of Shazeer 2020: "silu" makes SwiGLU (Llama), "gelu" GEGLU (Gemma),
 * "sigmoid" GLU, "relu" ReGLU, "none" the bilinear layer. gate, up [...] of one shape → [...].
 */
export function gated(gate: FloatTensor, up: FloatTensor, activation: Activation = "silu"): FloatTensor {
  const op = "gated";
  checkFloat(op, "gate", gate);
  checkFloat(op, "up", up, gate);
  if (!sameShape(up.shape, gate.shape))
    throw new HeedError(
      "ERR_SHAPE",
      `${op}: expected up of gate's shape ${formatShape(gate.shape)}, got ${formatShape(up.shape)}`,
    );
  const kind = activationIndex(op, activation);
  type Saved = Record<"gate" | "up", FloatTensor>;
  const make = ({ gate, up }: Saved, scoped = false): FloatTensor => {
    const out: FloatTensor = allocate(gate.shape, gate.dtype, gate.device, scoped);
    ops.gated({ out, gate, up, activation: kind });
    return out;
  };
  const backward = ({ dout, needs, gradient, saved }: Backward<Saved>): void => {
    // Whoever wants no gradient gets one that is thrown away: the kernel computes both in passing.
    const slot = (i: number): { out: FloatTensor; accumulate: boolean } =>
      needs(i) ? gradient(i) : { out: allocate(dout.shape, dout.dtype, dout.device, false), accumulate: false };
    const [dgate, dup] = [slot(0), slot(1)];
    // One tensor that is both gate and up: the kernel must not get its gradient twice.
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
 * The same over one projection x [..., 2·F], the gate first and then what it gates → [..., F]. Nothing is copied or
 * permuted, forward or backward.
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
