import { afterAll, expect, test } from "vitest";
import { tensor, zeros } from "../../lib/core/creation.js";
import { native } from "../../lib/core/native.js";
import { cumprod, cumsum, type CumulativeOptions } from "../../lib/ops/cumulative.js";
import { numel } from "../../lib/core/shape.js";
import { expectClose } from "../support/close.js";
import { type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { bestIsa, targets } from "../support/targets.js";

const random = new Random(33);

afterAll(() => native.selectIsa(bestIsa));

function reference(x: Nd, options: CumulativeOptions, product: boolean): Nd {
  const { axis = -1, exclusive = false, reverse = false } = options;
  const at = axis < 0 ? x.shape.length + axis : axis;
  const [n, inner] = [x.shape[at]!, numel(x.shape.slice(at + 1))];
  const data = new Float64Array(x.data.length);
  for (let line = 0; line < data.length / n; line++) {
    const first = Math.floor(line / inner) * n * inner + (line % inner);
    let total = product ? 1 : 0;
    for (let i = 0; i < n; i++) {
      const place = first + (reverse ? n - 1 - i : i) * inner;
      const before = total;
      total = product ? total * x.data[place]! : total + x.data[place]!;
      data[place] = exclusive ? before : total;
    }
  }
  return { shape: x.shape, data };
}

const cases: [shape: number[], options: CumulativeOptions][] = [
  [[7], {}],
  [[2, 67], { exclusive: true }],
  [[3, 5, 2], { axis: 1, reverse: true }],
  [[4, 70], { axis: 0, exclusive: true, reverse: true }],
  [[0, 3], {}],
];

// A sum of n terms has at most n roundings in f32 on CUDA; the gradient of a product has two of them for each element.
const tolerance = { out: { relative: 8, absolute: 4 }, grad: { relative: 16, absolute: 8 } };

for (const [name, apply] of [
  ["cumsum", cumsum],
  ["cumprod", cumprod],
] as const) {
  const product = name === "cumprod";
  opTest({
    name,
    cases: cases.map(([shape, options]) => ({
      name: `[${shape.join(", ")}] ${JSON.stringify(options)}`,
      // Numbers around 1, whose products neither vanish nor overflow.
      inputs: { x: normal(random, shape, product ? { offset: 1, scale: 0.1 } : {}) },
      options,
    })),
    ours: ({ x }, _, options) => apply(x, options),
    reference: ({ x }, _, options) => reference(x, options, product),
    tolerance: product ? { out: { relative: 80, absolute: 0 }, grad: { relative: 80, absolute: 80 } } : tolerance,
  });
}

opTest({
  name: "cumprod of zeros",
  cases: [[0], [0, 2], [1, 2]].map((places) => {
    const x = normal(random, [5], { offset: 2, scale: 0.1 });
    for (const place of places) x.data[place] = 0;
    return { name: `at ${places.join(" and ")}`, inputs: { x } };
  }),
  ours: ({ x }) => cumprod(x),
  reference: ({ x }) => reference(x, {}, true),
  tolerance: { out: { relative: 8, absolute: 0 }, grad: { relative: 16, absolute: 4 } },
});

test.for(targets)("long sums on $name", async ({ select, device }) => {
  select();
  const x = new Float32Array(20_000).fill(0.1);
  using sums = cumsum(tensor(x, [1, x.length], { device }));
  const expected = Float64Array.from(x, (value, i) => value * (i + 1));
  // On CUDA the sums of 32 elements are added up in f32, here all rounded alike.
  expectClose("sums", await sums.data(), expected, { relative: device === "cpu" ? 1 : 625, absolute: 0 });
});

test("wrong options are named", () => {
  const x = zeros([2, 3]);
  const code = (code: string): Error => expect.objectContaining({ code }) as Error;
  expect(() => cumsum(x, { axis: 2 })).toThrow(code("ERR_RANGE"));
  expect(() => cumsum(zeros([]))).toThrow(code("ERR_RANGE"));
  expect(() => cumprod(x, { reverse: 1 as never })).toThrow(code("ERR_ARGUMENT"));
});
