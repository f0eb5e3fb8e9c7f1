/** Code that layer norm and RMS norm share. */
import { type Backward, needsGrad, record } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { formatShape, sameShape } from "../core/shape.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
import { checkFloat, checkNumber, checkObject, checkParameter, checkRank, checkShapeIs } from "./check.js";
import { contiguous } from "./views.js";

/** Options of the norms. */
export interface NormOptions {
  /** Factor of each normalised element, [C]. @default null */
  weight?: FloatTensor | null;
  /** Number added to each normalised element, [C]. @default null */
  bias?: FloatTensor | null;
  /** Epsilon that is added to the variance (layer norm) or to the mean square (RMS norm). @default 1e-5 */
  eps?: number;
}

/** Computes the layer norm or the RMS norm of inp (+ residual). `sum` is null without a residual. */
export function normalise(
  op: string,
  inp: FloatTensor,
  residual: FloatTensor | null,
  options: NormOptions,
  rms: boolean,
): { sum: FloatTensor | null; out: FloatTensor } {
  checkObject(op, "options", options);
  const { weight = null, bias = null, eps = 1e-5 } = options;
  checkFloat(op, "x", inp);
  checkRank(op, "x", inp, 1);
  checkNumber(op, "eps", eps, 0);
  const width = inp.shape.at(-1)!;
  const check = (name: string, tensor: FloatTensor): void => {
    checkParameter(op, name, tensor, inp);
    checkShapeIs(op, name, tensor, [width]);
  };
  if (weight) check("weight", weight);
  if (bias) check("bias", bias);
  if (residual) {
    checkFloat(op, "residual", residual, inp);
    if (!sameShape(residual.shape, inp.shape))
      throw new HeedError(
        "ERR_SHAPE",
        `${op}: expected residual of shape ${formatShape(inp.shape)}, got ${formatShape(residual.shape)}`,
      );
  }
  const x = contiguous(inp);
  const r = residual && contiguous(residual);
  const make = (): FloatTensor => allocate(x.shape, x.dtype, x.device);
  const recorded = needsGrad([x, r, weight, bias]);
  const out = make();
  const sum = r && make();
  const rows = x.shape.slice(0, -1);
  const statistic = (): FloatTensor => allocate(rows, "f32", x.device, false);
  const mean = recorded && !rms ? statistic() : null;
  const rstd = recorded ? statistic() : null;
  ops.layernorm_forward({ out, sum, mean, rstd, inp: x, residual: r, weight, bias, eps, rms });
  if (rstd) {
    const saved = { h: sum ?? x, mean, rstd, weight, bias };
    const backward = (context: Backward<typeof saved>): void => {
      const { douts, needs, gradient, pass, saved } = context;
      const [dout, dsum] = [douts[0] ?? null, douts[1] ?? null];
      if (!dout) {
        // Only the sum has a gradient.
        pass(0, dsum!);
        pass(1, dsum!);
        return;
      }
      // Both inputs get the same gradient. If only one needs it, the kernel writes it where it belongs.
      const slot = needs(0) !== needs(1) ? gradient(needs(0) ? 0 : 1) : null;
      const dinp = slot?.out ?? allocate(saved.h.shape, saved.h.dtype, saved.h.device, false);
      const dweight = needs(2) ? gradient(2) : null;
      const dbias = needs(3) ? gradient(3) : null;
      ops.layernorm_backward({
        dinp,
        dweight: dweight?.out,
        dbias: dbias?.out,
        dout,
        dsum,
        inp: saved.h,
        weight: saved.weight,
        mean: saved.mean,
        rstd: saved.rstd,
        accumulateDinp: slot?.accumulate,
        accumulateDweight: dweight?.accumulate,
        accumulateDbias: dbias?.accumulate,
      });
      if (slot) return;
      pass(0, dinp);
      pass(1, dinp);
      dinp.dispose();
    };
    const remake = ({ h, weight, bias }: typeof saved): FloatTensor => {
      const again: FloatTensor = allocate(h.shape, h.dtype, h.device, false);
      ops.layernorm_forward({ out: again, inp: h, weight, bias, eps, rms });
      return again;
    };
    // For bf16 and f16 the norm is computed from the unrounded f32 sum; only the stored sum is rounded. It cannot be
    // recomputed exactly from that.
    const exact = !sum || x.dtype === "f32";
    record(op, sum ? [out, sum] : [out], [x, r, weight, bias], saved, backward, exact ? remake : null);
  }
  mean?.dispose();
  rstd?.dispose();
  if (x !== inp) x.dispose();
  if (r !== residual) r?.dispose();
  return { sum, out };
}
