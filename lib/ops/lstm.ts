import { record } from "../core/autograd.js";
import { HeedError } from "../util/errors.js";
import { ops } from "../core/native.js";
import { formatShape } from "../core/shape.js";
import { scope } from "../core/scope.js";
import { allocate, type FloatTensor } from "../core/tensor.js";
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

/**
 * Returns the outputs h and the cell states c of a long short-term memory after each step, [T, B, H] each:
 *
 *     i, f, g, o = x_t + h_{t−1}·Wᵀ + b        c_t = σ(f)·c_{t−1} + σ(i)·tanh(g)        h_t = σ(o)·tanh(c_t)
 *
 * x [T, B, 4H] is the contribution of the input, which one product computes for all steps. weight is [4H, H]; it and
 * the order of the gates are PyTorch's. No gradients flow through c.
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
  // The state before step t is at index t, so the states after each step begin at index 1.
  using hidden = make(steps + 1, batch, size);
  using memory = make(steps + 1, batch, size);
  using gates = make(steps, batch, width);
  scope(() => {
    begin(hidden, state?.h);
    begin(memory, state?.c);
  });
  ops.lstm_forward({ gates, h: hidden, c: memory, x: input, weight: operand, bias });

  const after = (states: FloatTensor): FloatTensor =>
    states.viewAs([steps, batch, size], states.strides, Math.min(1, steps) * batch * size);
  const [h, c] = [after(hidden), after(memory)];
  record("lstm", h, [input, weight, bias], { operand, gates, hidden, memory }, (context) => {
    const { dout, pass, saved } = context;
    // Nothing needs the gates any more, so their gradient takes their memory.
    const dgates = saved.gates;
    ops.lstm_backward({ dgates, dout, gates: dgates, c: saved.memory, weight: saved.operand });
    pass(0, dgates);
    using before = saved.hidden.viewAs([steps * batch, size], [size, 1], 0, false);
    projectionGradients(context as never, 1, before, dgates, "oi");
  });
  if (input !== x) input.dispose();
  return { h, c };
}

/** Writes the state before the first step, zeros by default, to index 0 of `states` [T + 1, B, H]. */
function begin(states: FloatTensor, value: FloatTensor | undefined): void {
  const first = states.viewAs(states.shape.slice(1), states.strides.slice(1));
  if (value) ops.copy({ out: first, inp: value });
  else ops.fill({ out: first, value: 0 });
}
