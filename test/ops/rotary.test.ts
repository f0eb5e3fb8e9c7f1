import { expect, test } from "vitest";
import { attention } from "../../lib/ops/attention.js";
import { rotary } from "../../lib/ops/rotary.js";
import { rotaryTable } from "../../lib/ops/rotary-table.js";
import { narrow } from "../../lib/ops/views.js";
import { formatShape } from "../../lib/core/shape.js";
import { ones, tensor } from "../../lib/core/creation.js";
import { expectClose } from "../support/close.js";
import { expectRejection } from "../support/errors.js";
import { integers, type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const random = new Random(21);

interface Options {
  /** Number of dimensions that are rotated. */
  size: number;
  length: number;
  interleaved?: boolean;
  position?: "starts" | "positions";
}

/** Multiplies pair i, as the complex number a + ib, by e^(i·position·10000^(−2i/R)), as in the paper. */
function reference(x: Nd, position: (b: number, t: number) => number, { size, interleaved = false }: Options): Nd {
  const [B, T, H, D] = x.shape as [number, number, number, number];
  const data = x.data.slice();
  for (let row = 0; row < B * T * H; row++) {
    const p = position(Math.floor(row / (H * T)), Math.floor(row / H) % T);
    for (let i = 0; i < size / 2; i++) {
      const [at, to] = interleaved ? [2 * i, 2 * i + 1] : [i, i + size / 2];
      const angle = p * 10_000 ** ((-2 * i) / size);
      const [cosine, sine] = [Math.fround(Math.cos(angle)), Math.fround(Math.sin(angle))];
      const [a, b] = [x.data[row * D + at]!, x.data[row * D + to]!];
      data[row * D + at] = a * cosine - b * sine;
      data[row * D + to] = a * sine + b * cosine;
    }
  }
  return { shape: x.shape, data };
}

// Two products and a sum for a pair whose length stays the same, with cosines and sines that may be rounded
// differently. The gradient is one such result, or the sum of several.
const tolerance = { out: { relative: 2, absolute: 2 }, grad: { relative: 4, absolute: 4 } };

const cases: [number[], number][] = [
  [[2, 3, 2, 8], 8],
  [[1, 5, 3, 6], 6],
  [[2, 4, 2, 12], 4],
  [[2, 4, 2, 10], 4],
  [[1, 3, 1, 7], 6],
  [[2, 2, 1, 2], 2],
  [[1, 3, 2, 33], 2],
  [[2, 9, 2, 128], 64],
  [[2, 3, 9, 64], 64],
  [[1, 2, 5, 320], 312],
  [[1, 2, 5, 321], 318],
  [[3, 0, 2, 4], 4],
  [[0, 3, 2, 4], 4],
];

for (const interleaved of [false, true])
  opTest({
    name: interleaved ? "rotary of neighbours" : "rotary of halves",
    cases: cases.map(([shape, size]) => ({
      name: `${size} of ${formatShape(shape)}`,
      inputs: { x: normal(random, shape) },
      options: { size, length: 9, interleaved },
    })),
    ours: ({ x }, _, { size, length, interleaved }) => {
      using table = rotaryTable({ size, length, device: x.device });
      return rotary(x, table, { interleaved });
    },
    reference: ({ x }, _, options) => reference(x, (_, t) => t, options),
    tolerance,
  });

opTest({
  name: "rotary at given positions",
  cases: (["starts", "positions"] as const).flatMap((position) =>
    [8, 6].map((size) => ({
      name: `${position}, ${size} dimensions`,
      inputs: { x: normal(random, [3, 4, 2, size]) },
      ints: { at: integers(random, position === "starts" ? [3] : [3, 4], 96) },
      options: { size, length: 100, position },
    })),
  ),
  ours: ({ x }, { at }, { size, length, position }) => {
    using table = rotaryTable({ size, length, device: x.device });
    return rotary(x, table, { [position]: at });
  },
  reference: ({ x }, { at }, options) =>
    reference(x, (b, t) => (options.position === "starts" ? at.data[b]! + t : at.data[b * x.shape[1]! + t]!), options),
  tolerance,
});

opTest({
  name: "rotary of some heads of a packed projection",
  cases: [{ name: "the middle two of five", inputs: { x: normal(random, [2, 3, 5, 8]) } }],
  ours: ({ x }) => {
    using table = rotaryTable({ size: 8, length: 3, device: x.device });
    return rotary(narrow(x, 2, 2, 2), table);
  },
  reference: ({ x }) => {
    const some = Float64Array.from(
      { length: 2 * 3 * 2 * 8 },
      (_, i) => x.data[Math.floor(i / 16) * 40 + 16 + (i % 16)]!,
    );
    return reference({ shape: [2, 3, 2, 8], data: some }, (_, t) => t, { size: 8, length: 3 });
  },
  tolerance,
  single: false,
});

test.for(targets)(
  "attention depends on the distance of tokens, not on their positions, on $name",
  async ({ select, device }) => {
    select();
    const [q, k, v] = [0, 1, 2].map(() => normal(random, [1, 6, 2, 8])) as [Nd, Nd, Nd];
    using table = rotaryTable({ size: 8, length: 40, device });
    const attend = async (start: number): Promise<Float32Array> => {
      const make = (x: Nd) => tensor(x.data, x.shape, { device });
      using starts = tensor(Int32Array.of(start), [1], { device });
      const [a, b, c] = [make(q), make(k), make(v)];
      const [turnedQ, turnedK] = [rotary(a, table, { starts }), rotary(b, table, { starts })];
      const out = attention(turnedQ, turnedK, c, { causal: true });
      const data = await out.data();
      for (const x of [a, b, c, turnedQ, turnedK, out]) x.dispose();
      return data;
    };
    // Scores of about 3 with some ten roundings each; the softmax passes on their errors.
    expectClose("shifted", await attend(33), await attend(0), { relative: 0, absolute: 64 });
  },
);

test.for(targets)("a position outside the table rejects the next read on $name", async ({ select, device }) => {
  select();
  using x = ones([2, 2, 1, 4], { device });
  using table = rotaryTable({ size: 4, length: 4, device });
  using starts = tensor(Int32Array.of(0, 3), [2], { device });
  using positions = tensor(Int32Array.of(0, 3, -7, 1), [2, 2], { device });
  for (const [options, bad] of [
    [{ starts }, "4 at token 1"],
    [{ positions }, "-7 at token 0"],
  ] as const) {
    using out = rotary(x, table, options);
    const message = new RegExp(String.raw`rotary: expected positions in \[0, 4\), got ${bad} of sequence 1`);
    await expectRejection(out.data(), "ERR_RANGE", message);
    // The device still works.
    expect([...(await x.data())]).toEqual(Array(16).fill(1));
  }
});

test.for(targets)("position 0 leaves every bit as it is on $name", async ({ select, device }) => {
  select();
  const values = normal(random, [1, 1, 3, 10], { scale: 1e3 });
  using x = tensor(values.data, values.shape, { device });
  using table = rotaryTable({ size: 8, length: 1, device });
  for (const interleaved of [false, true]) {
    using out = rotary(x, table, { interleaved });
    expect(await out.data()).toEqual(await x.data());
  }
});
