import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { ops } from "../../lib/core/native.js";
import { lstm } from "../../lib/ops/lstm.js";
import { narrow } from "../../lib/ops/views.js";
import { formatShape } from "../../lib/core/shape.js";
import { scope } from "../../lib/core/scope.js";
import { tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor, Tensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { sigmoid } from "../support/functions.js";
import { type Nd, nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { onEachDevice } from "../support/targets.js";

const random = new Random(23);

/** Returns h after every step, computed element by element from the equations. */
function reference(x: Nd, weight: Nd, bias: Nd): Nd {
  const [steps, batch, width] = x.shape as [number, number, number];
  const size = width / 4;
  const out = nd([steps, batch, size], new Float64Array(steps * batch * size));
  for (let b = 0; b < batch; b++) {
    let h = new Float64Array(size);
    const c = new Float64Array(size);
    for (let t = 0; t < steps; t++) {
      const z = Array.from({ length: width }, (_, j) => {
        let sum = x.data[(t * batch + b) * width + j]! + bias.data[j]!;
        for (let k = 0; k < size; k++) sum += h[k]! * weight.data[j * size + k]!;
        return sum;
      });
      h = h.map((_, j) => {
        const [i, f, g, o] = [0, 1, 2, 3].map((part) => z[part * size + j]!) as [number, number, number, number];
        c[j] = sigmoid(f) * c[j]! + sigmoid(i) * Math.tanh(g);
        return sigmoid(o) * Math.tanh(c[j]);
      });
      out.data.set(h, (t * batch + b) * size);
    }
  }
  return out;
}

const sizes = [
  [1, 1, 1],
  [2, 3, 1],
  [1, 5, 17],
  [6, 2, 3],
  [3, 1, 33],
  [5, 4, 8],
  [3, 7, 31],
  // Rows and units that fill several panels of the CPU's product, and not the last one.
  [5, 1, 33],
  [5, 15, 17],
  [6, 3, 40],
  [5, 33, 2],
] as const;

// Gates of a few units each have errors of a few u. The memory passes them on from step to step, and gradients come
// back through as many steps. The gradients of the weights are sums over steps and rows.
const tolerance = { out: { relative: 4, absolute: 4 }, grad: { relative: 4, absolute: 16 } };

opTest({
  name: "lstm",
  cases: sizes.map(([steps, batch, size]) => ({
    name: formatShape([steps, batch, size]),
    inputs: {
      x: normal(random, [steps, batch, 4 * size]),
      weight: normal(random, [4 * size, size], { scale: 1 / Math.sqrt(size) }),
      bias: normal(random, [4 * size]),
    },
  })),
  ours: ({ x, weight, bias }) => {
    const { h, c } = lstm(x, weight, { bias });
    c.dispose();
    return h;
  },
  reference: ({ x, weight, bias }) => reference(x, weight, bias),
  tolerance,
  // Gates and states are rounded at every step, and so are their gradients in the backward pass.
  roundings: { out: { relative: 2, absolute: 2 }, grad: { relative: 4, absolute: 8 } },
  parameters: ["weight", "bias"],
});

onEachDevice((device) => {
  const on = { device };
  const make = ({ shape, data }: Nd): FloatTensor => tensor(Float32Array.from(data), shape, on);

  test("continues from a state as if it had not been interrupted", async () => {
    const [steps, batch, size] = [7, 3, 5];
    const x = normal(random, [steps, batch, 4 * size]);
    using weight = make(normal(random, [4 * size, size]));
    using whole = make(x);
    const all = lstm(whole, weight);
    const cut = 4;
    const part = (from: number, to: number): FloatTensor =>
      make(nd([to - from, batch, 4 * size], x.data.slice(from * batch * 4 * size, to * batch * 4 * size)));
    using first = part(0, cut);
    using second = part(cut, steps);
    const before = lstm(first, weight);
    const last = async (y: FloatTensor): Promise<FloatTensor> =>
      tensor((await y.data()).slice(-batch * size), [batch, size], on);
    using h = await last(before.h);
    using c = await last(before.c);
    const after = lstm(second, weight, { state: { h, c } });
    for (const name of ["h", "c"] as const) {
      const expected = (await all[name].data()).slice(cut * batch * size);
      expectClose(name, await after[name].data(), expected, { relative: 4, absolute: 4 });
    }
    for (const { h, c } of [all, before, after]) {
      h.dispose();
      c.dispose();
    }
  });

  test.each(["f32", "bf16", "f16"] as const)(
    "a row has the same bits alone and among others, in few steps and many: %s",
    async (dtype) => {
      const [steps, batch, size] = [6, 15, 37];
      const x = normal(random, [steps, batch, 4 * size]);
      const cast = (values: Nd): FloatTensor => scope(() => make(values).to(dtype));
      using weight = cast(normal(random, [4 * size, size], { scale: 1 / Math.sqrt(size) }));
      using bias = cast(normal(random, [4 * size]));
      const states = async (count: number, rows: readonly number[]): Promise<Float32Array[]> => {
        const part = nd([count, rows.length, 4 * size], new Float64Array(count * rows.length * 4 * size));
        for (let t = 0; t < count; t++)
          for (const [i, row] of rows.entries()) {
            const from = (t * batch + row) * 4 * size;
            part.data.set(x.data.slice(from, from + 4 * size), (t * rows.length + i) * 4 * size);
          }
        using input = cast(part);
        const { h, c } = noGrad(() => lstm(input, weight, { bias }));
        const values = [await h.toArray(), await c.toArray()].map((all) =>
          Float32Array.from((all as number[][][]).flatMap((step) => step.flat())),
        );
        h.dispose();
        c.dispose();
        return values;
      };
      const every = Array.from({ length: batch }, (_, row) => row);
      const whole = await states(steps, every);
      for (const count of [1, 2, 5])
        for (const [i, values] of (await states(count, every)).entries())
          expect(values).toEqual(whole[i]!.slice(0, count * batch * size));
      for (const count of [2, steps])
        for (const [i, values] of (await states(count, [11])).entries()) {
          const row = Array.from({ length: count }, (_, t) => (t * batch + 11) * size);
          const expected = row.flatMap((at) => [...whole[i]!.slice(at, at + size)]);
          expect(values).toEqual(Float32Array.from(expected));
        }
    },
  );

  test("the native operations refuse what does not fit", () => {
    scope(() => {
      const [steps, batch, size] = [3, 2, 5];
      const wide = [steps, batch, 4 * size];
      const forward = {
        gates: zeros(wide, on),
        h: zeros([steps + 1, batch, size], on),
        c: zeros([steps + 1, batch, size], on),
        x: zeros(wide, on),
        weight: zeros([4 * size, size], on),
        bias: zeros([4 * size], on),
      };
      const backward = {
        dgates: zeros(wide, on),
        dout: zeros([steps, batch, size], on),
        gates: zeros(wide, on),
        c: zeros([steps + 1, batch, size], on),
        weight: zeros([4 * size, size], on),
      };
      const spoilt = <T extends Record<string, FloatTensor>>(call: (args: T) => void, args: T): void => {
        call(args);
        for (const [name, { shape }] of Object.entries(args)) {
          const given =
            (bad: Tensor): (() => void) =>
            () =>
              call({ ...args, [name]: bad });
          const larger = [...shape.slice(0, -1), shape.at(-1)! + 1];
          expectError(given(zeros(larger, on)), "ERR_SHAPE", /^lstm_(for|back)ward: expected /);
          expectError(given(zeros([...shape, 1], on)), "ERR_SHAPE", /^lstm_(for|back)ward: expected /);
          expectError(given(zeros(shape, { ...on, dtype: "bf16" })), "ERR_DTYPE", /^lstm_(for|back)ward: expected /);
          expectError(given(zeros(shape, { ...on, dtype: "i32" })), "ERR_DTYPE", /^lstm_(for|back)ward: expected /);
          if (name === "weight") continue;
          const strided = narrow(zeros([...shape.slice(0, -1), 2 * shape.at(-1)!], on), -1, 0, shape.at(-1)!);
          if (shape.length > 1)
            expectError(given(strided), "ERR_SHAPE", new RegExp(`expected ${name} to be contiguous`));
        }
      };
      spoilt((args) => ops.lstm_forward(args), forward);
      spoilt((args) => ops.lstm_backward(args), backward);
    });
  });

  test("accepts zero steps and zero rows", async () => {
    using weight = zeros([12, 3], on);
    for (const shape of [
      [0, 2, 12],
      [4, 0, 12],
    ]) {
      using x = zeros(shape, on);
      const { h, c } = lstm(x, weight);
      expect(h.shape).toEqual(shape.with(2, 3));
      expect((await h.data()).length + (await c.data()).length).toBe(0);
      h.dispose();
      c.dispose();
    }
  });

  test("refuses input that does not fit", () => {
    scope(() => {
      const x = zeros([2, 3, 8], on);
      const weight = zeros([8, 2], on);
      const state = (h: number[], c: number[]): object => ({ state: { h: zeros(h, on), c: zeros(c, on) } });
      expectError(() => lstm(zeros([3, 8], on), weight), "ERR_SHAPE");
      expectError(() => lstm(zeros([2, 3, 6], on), weight), "ERR_SHAPE");
      expectError(() => lstm(zeros([2, 3, 0], on), weight), "ERR_SHAPE");
      expectError(() => lstm(x, zeros([8, 3], on)), "ERR_SHAPE");
      expectError(() => lstm(x, zeros([4, 2], on)), "ERR_SHAPE");
      expectError(() => lstm(x, weight, { bias: zeros([2], on) }), "ERR_SHAPE");
      expectError(() => lstm(x, weight, state([3, 3], [3, 2])), "ERR_SHAPE");
      expectError(() => lstm(x, weight, state([3, 2], [2, 2])), "ERR_SHAPE");
      expectError(() => lstm(x, weight, { state: 1 as never }), "ERR_ARGUMENT");
      expectError(() => lstm(x, weight, null as never), "ERR_ARGUMENT");
      expectError(() => lstm(x, zeros([8, 2], { ...on, dtype: "i32" }) as never), "ERR_DTYPE");
    });
  });
});
