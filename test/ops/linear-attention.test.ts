/** Tests linear attention in chunks, token by token, and against its definition. */
import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { type FeatureMap, linearAttention, type LinearState, retentionDecay } from "../../lib/ops/linear-attention.js";
import { formatShape } from "../../lib/core/shape.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { ones, randn, tensor, zeros } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectClose, expectNear } from "../support/close.js";
import { roundTo } from "../support/dtypes.js";
import { expectError } from "../support/errors.js";
import { map, type Nd, normal } from "../support/nd.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { onEachDevice, targets } from "../support/targets.js";

const random = new Random(17);

/** [B, T, H, D, Dv] */
type Sizes = [number, number, number, number, number];

interface Options {
  causal?: boolean;
  featureMap?: FeatureMap;
  normalize?: boolean;
  decay?: number[];
  eps?: number;
}

/** Computes the definition, one pair of tokens after the other. */
function reference(q: Nd, k: Nd, v: Nd, options: Options): Nd {
  const { causal = true, featureMap = "elu", normalize = true, decay, eps = 1e-6 } = options;
  const [B, Tq, H, D] = q.shape as [number, number, number, number];
  const [Tk, Dv] = [v.shape[1]!, v.shape[3]!];
  const map = (x: number): number => (featureMap === "none" ? x : x > 0 ? x + 1 : Math.exp(x));
  const [queries, keys, values] = [q.data.map(map), k.data.map(map), v.data];
  const data = new Float64Array(B * Tq * H * Dv);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++) {
      const kept = Float64Array.from({ length: Tq }, (_, distance) => Math.fround(decay?.[h] ?? 1) ** distance);
      for (let i = 0; i < Tq; i++) {
        let total = 0;
        const query = ((b * Tq + i) * H + h) * D;
        const out = ((b * Tq + i) * H + h) * Dv;
        for (let j = 0; j < (causal ? i + 1 : Tk); j++) {
          const key = ((b * Tk + j) * H + h) * D;
          const value = ((b * Tk + j) * H + h) * Dv;
          let weight = 0;
          for (let d = 0; d < D; d++) weight += queries[query + d]! * keys[key + d]!;
          if (causal) weight *= kept[i - j]!;
          total += weight;
          for (let c = 0; c < Dv; c++) data[out + c]! += weight * values[value + c]!;
        }
        if (normalize) for (let c = 0; c < Dv; c++) data[out + c]! /= total + eps;
      }
    }
  return { shape: [B, Tq, H, Dv], data };
}

const inputsOf = ([B, T, H, D, Dv]: Sizes, Tk = T) => ({
  q: normal(random, [B, T, H, D]),
  k: normal(random, [B, Tk, H, D]),
  v: normal(random, [B, Tk, H, Dv]),
});

const casesOf = (list: [Sizes, Options][]) =>
  list.map(([sizes, options]) => ({
    name: `${formatShape(sizes)} ${JSON.stringify(options)}`,
    inputs: inputsOf(sizes),
    options,
  }));

const ours = ({ q, k, v }: Record<"q" | "k" | "v", FloatTensor>, _: unknown, { decay, ...options }: Options) =>
  linearAttention(q, k, v, {
    ...options,
    decay: decay ? tensor(decay, [decay.length], { device: q.device }) : null,
  });

// Chunks end at 64 (48 with AVX2); heads are cut at 64 columns.
opTest({
  name: "linear attention",
  cases: casesOf([
    [[1, 1, 1, 1, 1], {}],
    [[2, 3, 2, 5, 4], {}],
    [[1, 31, 2, 8, 8], {}],
    [[2, 65, 1, 6, 3], {}],
    [[1, 257, 1, 4, 4], {}],
    [[1, 97, 2, 17, 33], {}],
    [[1, 20, 1, 65, 66], {}],
    [[2, 0, 2, 4, 4], {}],
    [[0, 3, 2, 4, 4], {}],
  ]),
  ours,
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  // Weights of up to 257 keys are divided by their sum. The tolerance is that of attention, but each weight is a sum of
  // D products of positive terms. Gradients go through four products, whose terms of about 1 cancel.
  tolerance: { out: { relative: 8, absolute: 16 }, grad: { relative: 8, absolute: 48, scale: 1 } },
});

const large = ([B, T, H, D, Dv]: Sizes) => ({
  q: normal(random, [B, T, H, D], { offset: 30 }),
  k: normal(random, [B, T, H, D], { offset: 30 }),
  v: normal(random, [B, T, H, Dv]),
});

opTest({
  name: "linear attention whose sums f16 does not hold",
  cases: [
    { name: "causal", inputs: large([1, 40, 1, 4, 3]), options: {} },
    { name: "with a decay", inputs: large([1, 40, 1, 4, 3]), options: { decay: [0.99] } },
    { name: "to all keys", inputs: large([1, 40, 1, 4, 3]), options: { causal: false } },
  ],
  ours,
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  // The same tolerance as above.
  tolerance: { out: { relative: 8, absolute: 16 }, grad: { relative: 8, absolute: 48, scale: 1 } },
  single: false,
});

onEachDevice((device) => {
  test.for([true, false])("in f16 it stays accurate over 1200 tokens, causal %s", async (causal) => {
    const x = inputsOf([1, 1200, 1, 8, 2]);
    const options = { causal };
    const held = (value: Nd): Nd => map(value, (element) => roundTo("f16", element));
    const [q, k, v] = [held(x.q), held(x.k), held(x.v)];
    const ours = [q, k, v].map(({ data, shape }) => tensor(data, shape, { device, dtype: "f16" }));
    const out = linearAttention(ours[0]!, ours[1]!, ours[2]!, options);
    const expected = reference(q, k, v, options).data;
    expectClose("output", await out.data(), expected, { relative: 2 ** 13, absolute: 16 });
  });
});

opTest({
  name: "linear attention without a denominator",
  cases: casesOf([
    [[1, 1, 1, 3, 2], { normalize: false, featureMap: "none" }],
    [[2, 40, 2, 8, 6], { normalize: false, featureMap: "none" }],
    [[1, 70, 1, 33, 65], { normalize: false, featureMap: "none" }],
  ]),
  ours,
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  // Sums of T · D products of any sign; the error is relative to the largest of them.
  tolerance: { out: { relative: 8, absolute: 8, scale: 1 }, grad: { relative: 8, absolute: 48, scale: 1 } },
  roundings: { out: { relative: 1, absolute: 1 }, grad: { relative: 4, absolute: 8, scale: 1 } },
});

opTest({
  name: "linear attention with a decay",
  cases: casesOf([
    [[1, 50, 2, 8, 8], { decay: [0.9, 1] }],
    [[1, 130, 3, 4, 5], { decay: [0.5, 0.99, 0.01] }],
    [[1, 70, 3, 3, 17], { normalize: false, featureMap: "none", decay: [0, 1e-20, 0.999] }],
    [[1, 129, 2, 5, 9], { normalize: false, featureMap: "none", decay: [0.9, 0.97] }],
    [[1, 70, 1, 33, 65], { normalize: false, featureMap: "none", decay: [0.8] }],
  ]),
  ours,
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  tolerance: { out: { relative: 8, absolute: 16, scale: 1 }, grad: { relative: 8, absolute: 48, scale: 1 } },
  roundings: { out: { relative: 4, absolute: 4, scale: 1 }, grad: { relative: 6, absolute: 8, scale: 1 } },
  single: false, // the decay is made at the call
});

opTest({
  name: "long linear attention",
  // There are enough chunks for CUDA to cut them into segments.
  cases: casesOf([
    [[1, 530, 1, 3, 2], { normalize: false, featureMap: "none" }],
    [[1, 700, 1, 2, 2], { decay: [0.995] }],
  ]),
  ours,
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  tolerance: { out: { relative: 8, absolute: 16, scale: 1 }, grad: { relative: 8, absolute: 48, scale: 1 } },
  roundings: { out: { relative: 4, absolute: 4, scale: 1 }, grad: { relative: 6, absolute: 8, scale: 1 } },
  single: false,
});

opTest({
  name: "linear attention to all keys",
  cases: [
    ...casesOf([
      [[1, 3, 1, 4, 2], { causal: false }],
      [[2, 40, 2, 8, 6], { causal: false, normalize: false }],
    ]),
    { name: "more keys than queries", inputs: inputsOf([2, 5, 2, 8, 8], 33), options: { causal: false } },
  ],
  ours,
  reference: ({ q, k, v }, _, options) => reference(q, k, v, options),
  tolerance: { out: { relative: 8, absolute: 16, scale: 1 }, grad: { relative: 8, absolute: 48, scale: 1 } },
  roundings: { out: { relative: 4, absolute: 4, scale: 1 }, grad: { relative: 6, absolute: 8, scale: 1 } },
});

const manySizes = (["f32", "bf16"] as const).flatMap((dtype) => targets.map((target) => ({ ...target, dtype })));

test.for(manySizes)("heads of any size on $name in $dtype", async ({ select, device, dtype }) => {
  select();
  for (const [T, D, Dv] of [
    [70, 128, 64],
    [70, 200, 70],
    [70, 300, 20],
    [530, 70, 66],
    [530, 200, 66],
  ] as const) {
    const [q, k, v] = [D, D, Dv].map((size, i) => randn([1, T, 1, size], { seed: i + 1, device }).to(dtype)) as [
      FloatTensor,
      FloatTensor,
      FloatTensor,
    ];
    const values = await Promise.all(
      [q, k, v].map(async (x) => ({ shape: x.shape, data: Float64Array.from(await x.data()) })),
    );
    const options = { featureMap: "none", normalize: false } as const;
    const expected = reference(values[0]!, values[1]!, values[2]!, options);
    const out = await linearAttention(q, k, v, options).data();
    expectNear(`T ${T} D ${D}`, out, expected.data, dtype === "f32" ? 2 ** -20 : 2 ** -8);
  }
});

const states = (B: number, H: number, D: number, Dv: number, device: string): LinearState => ({
  sums: zeros([B, H, D, Dv], { device }),
  normalizer: zeros([B, H, D, 1], { device }),
});

test.for(targets)("token by token, and in pieces, it gives the same on $name", async ({ select, device }) => {
  select();
  const [B, T, H, D, Dv] = [2, 600, 2, 12, 7];
  using q = randn([B, T, H, D], { seed: 1, device });
  using k = randn([B, T, H, D], { seed: 2, device });
  using v = randn([B, T, H, Dv], { seed: 3, device });
  for (const decay of [null, retentionDecay(H, { device })]) {
    const whole = await linearAttention(q, k, v, { decay }).data();
    for (const piece of [1, 50, 64, 599]) {
      const state = states(B, H, D, Dv, device);
      const got = whole.slice();
      // Token by token until beyond two chunks.
      const end = piece === 1 ? 150 : T;
      for (let t = 0; t < end; t += piece) {
        const n = Math.min(piece, T - t);
        const out = scope(() =>
          noGrad(() => linearAttention(narrow(q, 1, t, n), narrow(k, 1, t, n), narrow(v, 1, t, n), { decay, state })),
        );
        const values = await out.data();
        for (let b = 0; b < B; b++)
          got.set(values.subarray(b * n * H * Dv, (b + 1) * n * H * Dv), (b * T + t) * H * Dv);
      }
      expectClose(`pieces of ${piece}`, got, whole, { relative: 8, absolute: 64 });
    }
  }
});

test.for(targets)("a state that gets no new tokens stays unchanged on $name", async ({ select, device }) => {
  select();
  const state = states(1, 2, 3, 4, device);
  state.sums.set(Float32Array.from({ length: 24 }, (_, i) => i));
  const none = (size: number): FloatTensor => zeros([1, 0, 2, size], { device });
  linearAttention(none(3), none(3), none(4), { state });
  expect([...(await state.sums.data())]).toEqual(Array.from({ length: 24 }, (_, i) => i));
});

test("retentionDecay is 1 − 2^(−5−h)", async () => {
  expect([...(await retentionDecay(3, { device: "cpu" }).data())]).toEqual([1 - 1 / 32, 1 - 1 / 64, 1 - 1 / 128]);
  for (const heads of [0, 1.5, NaN]) expectError(() => retentionDecay(heads), "ERR_RANGE");
  expectError(() => retentionDecay(2, null as never), "ERR_ARGUMENT");
});

test("linearAttention refuses input that does not fit", () => {
  const x = (...shape: number[]): FloatTensor => ones(shape, { device: "cpu" });
  const [q, v] = [x(2, 5, 3, 4), x(2, 5, 3, 6)];
  expectError(() => linearAttention(x(2, 5, 12), q, v), "ERR_SHAPE");
  expectError(() => linearAttention(q, x(2, 6, 3, 4), v), "ERR_SHAPE", /expected k of shape \[2, 5, 3, 4\]/);
  expectError(() => linearAttention(q, q, x(2, 5, 2, 6)), "ERR_SHAPE", /expected v of shape \[2, 5, 3, \*\]/);
  expectError(() => linearAttention(q, q, v, { featureMap: "relu" as never }), "ERR_ARGUMENT", /"elu" or "none"/);
  expectError(() => linearAttention(q, q, v, { eps: -1 }), "ERR_RANGE");
  expectError(() => linearAttention(q, q, v, { decay: x(2) }), "ERR_SHAPE");
  const wanting = x(3);
  wanting.requiresGrad = true;
  expectError(() => linearAttention(q, q, v, { decay: wanting }), "ERR_ARGUMENT", /decay that requires no gradient/);
  noGrad(() => linearAttention(q, q, v, { decay: wanting })).dispose();
  expectError(() => linearAttention(q, q, v, { decay: x(3).to("bf16") }), "ERR_DTYPE");
  expectError(
    () => linearAttention(q, q, v, { decay: x(3), causal: false }),
    "ERR_ARGUMENT",
    /causal to be true for a decay/,
  );
  const state = states(2, 3, 4, 6, "cpu");
  expectError(
    () => linearAttention(q, q, v, { state, causal: false }),
    "ERR_ARGUMENT",
    /causal to be true for a state/,
  );
  expectError(() => linearAttention(q, q, q, { state }), "ERR_SHAPE", /expected state.sums of shape \[2, 3, 4, 4\]/);
  expectError(() => linearAttention(q, q, v, { state: { ...state, normalizer: null } }), "ERR_ARGUMENT");
  q.requiresGrad = true;
  expectError(() => linearAttention(q, q, v, { state }), "ERR_ARGUMENT", /require no gradient if there is a state/);
});
