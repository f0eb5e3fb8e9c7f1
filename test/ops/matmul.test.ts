import { matmul } from "../../lib/ops/matmul.js";
import { transpose } from "../../lib/ops/views.js";
import { formatShape } from "../../lib/core/shape.js";
import { fixtureTest } from "../support/fixtures.js";
import { matmul as reference, normal, transpose as swap } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";

const random = new Random(5);

const sizes: [number[], number[]][] = [
  [
    [1, 1],
    [1, 1],
  ],
  [
    [2, 3],
    [3, 1],
  ],
  [
    [1, 257],
    [257, 1],
  ],
  [
    [1, 17],
    [17, 65],
  ],
  [
    [3, 33],
    [33, 2],
  ],
  [
    [17, 31],
    [31, 33],
  ],
  [
    [33, 63],
    [63, 31],
  ],
  [
    [65, 65],
    [65, 65],
  ],
  [
    [63, 257],
    [257, 17],
  ],
  [
    [257, 3],
    [3, 65],
  ],
  [
    [5, 0],
    [0, 3],
  ],
  [
    [0, 5],
    [5, 3],
  ],
  [
    [4, 5],
    [5, 0],
  ],
];
const batched: [number[], number[]][] = [
  [
    [2, 3, 17],
    [2, 17, 5],
  ],
  [
    [4, 3, 17],
    [17, 5],
  ],
  [
    [3, 17],
    [4, 17, 5],
  ],
  [
    [2, 1, 3, 9],
    [5, 9, 7],
  ],
  [
    [1, 3, 9],
    [5, 9, 7],
  ],
  [
    [0, 3, 9],
    [9, 7],
  ],
];

// K products and additions in f32 (lanes of fma). The error grows like √K · u times the root mean square of the terms,
// which is the size of the result's elements; the largest is some five times that.
const tolerance = { out: { relative: 4, absolute: 12 }, grad: { relative: 4, absolute: 16 } };

// Gradients are added up over stretched dimensions, or over two uses of one matrix, from rounded terms that may cancel.
const roundings = { grad: { relative: 2, absolute: 2 } };

opTest({
  name: "matmul",
  cases: sizes.map(([a, b]) => ({
    name: `${formatShape(a)} · ${formatShape(b)}`,
    inputs: { a: normal(random, a), b: normal(random, b) },
  })),
  ours: ({ a, b }) => matmul(a, b),
  reference: ({ a, b }) => reference(a, b),
  tolerance,
});

opTest({
  name: "matmul in batches",
  cases: batched.map(([a, b]) => ({
    name: `${formatShape(a)} · ${formatShape(b)}`,
    inputs: { a: normal(random, a), b: normal(random, b) },
  })),
  ours: ({ a, b }) => matmul(a, b),
  reference: ({ a, b }) => reference(a, b),
  tolerance,
  roundings,
});

opTest({
  name: "matmul of transposed views",
  cases: sizes.slice(0, 9).map(([a, b]) => ({
    name: `${formatShape(a)} · ${formatShape(b)}`,
    inputs: { a: normal(random, a.toReversed()), b: normal(random, b.toReversed()) },
  })),
  ours: ({ a, b }) => matmul(transpose(a), transpose(b)),
  reference: ({ a, b }) => reference(swap(a), swap(b)),
  tolerance,
  single: false,
});

opTest({
  name: "matmul of a matrix with itself",
  cases: [1, 5, 33].map((n) => ({ name: `[${n}, ${n}]`, inputs: { x: normal(random, [n, n]) } })),
  ours: ({ x }) => matmul(x, transpose(x)),
  reference: ({ x }) => reference(x, swap(x)),
  tolerance,
  roundings,
  single: false,
});

fixtureTest("matmul", ({ input, other }) => matmul(input!, other!));
