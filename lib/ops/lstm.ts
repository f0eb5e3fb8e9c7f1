import { record } from "../autograd.js";
import { HeedError } from "../errors.js";
import { ops } from "../native.js";
import { binaryKinds, nativeActivations, unaryKinds } from "../native-kinds.js";
import { formatShape } from "../shape.js";
import { scope } from "../scope.js";
import { allocate, type FloatTensor } from "../tensor.js";
import { checkFloat, checkObject, checkShapeIs } from "./check.js";
import { rounded } from "./precision.js";
import { checkProjection, projectionGradients } from "./projection.js";
import { contiguous } from "./views.js";

/** State of an LSTM layer after a step. */
export interface LstmState {
  /** Output of the step, [B, H]. */
  h: FloatTensor;
  /** Cell state, [B, H]. */
  c: FloatTensor;
}

/** Options of `lstm`. */
export interface LstmOptions {
  /** Bias of the recurrence, [4H]. @default null */
  bias?: FloatTensor | null;
  /** State before the first step, which gets no gradients; by default it is zeros. */
  state?: LstmState | null;
}

const { sigmoid } = nativeActivations;
const { tanh } = unaryKinds;
const { add } = binaryKinds;

/**
 * Returns the outputs h and the cell states c of a long short-term memory after each step, [T, B, H] each:
 *
 *     i, f, g, o = x_t + h_{t−1}·Wᵀ + b        c_t = σ(f)·c_{t−1} + σ(i)·tanh(g)        h_t = σ(o)·tanh(c_t)
 *
 * x [T, B, 4H] is the contribution of the input, which one product computes for all steps. weight is [4H, H]; it and
 * the order of the gates are PyTorch's. No gradients flow through c.
 *
 * A step is one product and five elementwise operations, and the backward pass takes as many. tanh(g_t) and c_{t−1} lie
 * side by side in `memory` [T + 1, B, 2, H], so that one operation computes both σ(i)·tanh(g) and σ(f)·c_{t−1}.
 *
 * @example
 * const gates = randn([6, 2, 4 * 8], { seed: 1 }); // T = 6, B = 2, H = 8
 * const { h, c } = lstm(gates, randn([32, 8], { seed: 2 })); // [6, 2, 8] each
 *
 * @throws ERR_SHAPE if the shapes do not fit.
 * @see Hochreiter & Schmidhuber 1997, "Long Short-Term Memory"; Gers et al. 2000, "Learning to Forget".
 */
export function lstm(
  x: FloatTensor,
  weight: FloatTensor,
  options: LstmOptions = {},
): { h: FloatTensor; c: FloatTensor } {
  checkFloat("lstm", "x", x);
  checkObject("lstm", "options", options);
  const { bias = null, state = null } = options;
  checkShapeIs("lstm", "x", x, [-1, -1, -1]);
  const [steps, batch, width] = x.shape as [number, number, number];
  if (width === 0 || width % 4 !== 0)
    throw new HeedError(
      "ERR_SHAPE",
      `lstm: expected the last dimension of x to be a multiple of 4, for four gates, got shape ${formatShape(x.shape)}`,
    );
  const size = width / 4;
  checkProjection("lstm", x, size, weight, bias, "oi");
  checkShapeIs("lstm", "weight", weight, [width, size]);
  if (state) {
    checkObject("lstm", "state", state);
    for (const name of ["h", "c"] as const) {
      checkFloat("lstm", `state.${name}`, state[name], x);
      checkShapeIs("lstm", `state.${name}`, state[name], [batch, size]);
    }
  }

  const input = contiguous(x);
  const make = (...shape: number[]): FloatTensor => allocate(shape, x.dtype, x.device, false);
  using operand = rounded(weight, x.dtype);
  using gates = make(steps, batch, width);
  using hidden = make(steps + 1, batch, size);
  using memory = make(steps + 1, batch, 2, size);
  using squashed = make(steps, batch, size);
  using products = make(batch, 2, size);
  scope(() => {
    begin(at(hidden, 0), state?.h);
    begin(half(at(memory, 0), 1), state?.c);
  });
  for (let t = 0; t < steps; t++)
    scope(() => {
      const [z, m, c, s] = [at(gates, t), at(memory, t), half(at(memory, t + 1), 1), at(squashed, t)];
      ops.gemm({ out: z, a: at(hidden, t), b: operand, transposeB: true, bias, residual: at(input, t) });
      ops.unary({ out: half(m, 0), inp: gate(z, 2), kind: tanh });
      ops.gated({ out: products, gate: inputAndForget(z), up: m, activation: sigmoid });
      ops.binary({ out: c, a: half(products, 0), b: half(products, 1), kind: add });
      ops.unary({ out: s, inp: c, kind: tanh });
      ops.gated({ out: at(hidden, t + 1), gate: gate(z, 3), up: s, activation: sigmoid });
    });

  // The state before step t is at index t, so the states after each step begin at index 1.
  const shape = [steps, batch, size];
  const after = Math.min(1, steps);
  const h = hidden.viewAs(shape, hidden.strides, after * hidden.strides[0]!);
  const c = memory.viewAs(shape, [memory.strides[0]!, 2 * size, 1], after * memory.strides[0]! + size);
  record("lstm", h, [input, weight, bias], { operand, gates, hidden, memory, squashed }, (context) => {
    const { dout, pass, saved } = context;
    using dgates = backwardThroughTime(dout, saved);
    pass(0, dgates);
    using before = saved.hidden.viewAs([steps * batch, size], [size, 1], 0, false);
    projectionGradients(context as never, 1, before, dgates, "oi");
  });
  if (input !== x) input.dispose();
  return { h, c };
}

type Saved = Record<"operand" | "gates" | "hidden" | "memory" | "squashed", FloatTensor>;

/** Returns the gradient of the gates before their activations, [T, B, 4H]. */
function backwardThroughTime(dout: FloatTensor, { operand, gates, memory, squashed }: Saved): FloatTensor {
  const [steps, batch, size] = squashed.shape as [number, number, number];
  const make = (...shape: number[]): FloatTensor => allocate(shape, dout.dtype, dout.device, false);
  const dgates = make(steps, batch, 4 * size);
  using dh = make(batch, size);
  using dsquashed = make(batch, size);
  // Gradients of `memory` at this step and at the next one, whose half for c is this step's dc.
  using even = make(batch, 2, size);
  using odd = make(batch, 2, size);
  for (let t = steps - 1; t >= 0; t--)
    scope(() => {
      const [dm, later] = t % 2 === 0 ? [even, odd] : [odd, even];
      const [z, dz, m, s] = [at(gates, t), at(dgates, t), at(memory, t), at(squashed, t)];
      const last = t === steps - 1;
      const dnow = last ? at(dout, t) : dh;
      const [c, dc] = [half(at(memory, t + 1), 1), half(later, 1)];
      const dboth = later.viewAs([batch, 2, size], [2 * size, 0, 1], size);
      ops.gated_backward({
        dgate: gate(dz, 3),
        dup: dsquashed,
        dout: dnow,
        gate: gate(z, 3),
        up: s,
        activation: sigmoid,
      });
      ops.unary_backward({ dinp: dc, dout: dsquashed, inp: c, kind: tanh, accumulate: !last });
      ops.gated_backward({
        dgate: inputAndForget(dz),
        dup: dm,
        dout: dboth,
        gate: inputAndForget(z),
        up: m,
        activation: sigmoid,
      });
      ops.unary_backward({ dinp: gate(dz, 2), dout: half(dm, 0), inp: gate(z, 2), kind: tanh });
      if (t > 0) ops.gemm({ out: dh, a: dz, b: operand, residual: at(dout, t - 1) });
    });
  return dgates;
}

function begin(place: FloatTensor, value: FloatTensor | undefined): void {
  if (value) ops.copy({ out: place, inp: value });
  else ops.fill({ out: place, value: 0 });
}

/** Returns step t of a tensor whose first dimension is the steps. */
function at(x: FloatTensor, t: number): FloatTensor {
  return x.viewAs(x.shape.slice(1), x.strides.slice(1), t * x.strides[0]!);
}

/** Returns gate i of [B, 4H], in the order i, f, g, o, as [B, H]. */
function gate(x: FloatTensor, i: number): FloatTensor {
  const [batch, width] = x.shape as [number, number];
  return x.viewAs([batch, width / 4], [width, 1], (i * width) / 4);
}

/** Returns the first two gates, [B, 2, H]. */
function inputAndForget(x: FloatTensor): FloatTensor {
  const [batch, width] = x.shape as [number, number];
  return x.viewAs([batch, 2, width / 4], [width, width / 4, 1]);
}

/** Returns half i of [B, 2, H], as [B, H]. */
function half(x: FloatTensor, i: number): FloatTensor {
  const [batch, , size] = x.shape as [number, number, number];
  return x.viewAs([batch, size], [2 * size, 1], i * size);
}
