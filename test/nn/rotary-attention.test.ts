import { expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { Attention, type AttentionConfig } from "../../lib/nn/attention.js";
import { DropoutSeeds } from "../../lib/nn/dropout.js";
import { FeedForward } from "../../lib/nn/feed-forward.js";
import { Initializer } from "../../lib/nn/init.js";
import { KvCache } from "../../lib/nn/kv-cache.js";
import type { Module } from "../../lib/nn/module.js";
import { mul } from "../../lib/ops/binary.js";
import { rotaryTable } from "../../lib/ops/rotary-table.js";
import { sum } from "../../lib/ops/reduce.js";
import { narrow } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { silu } from "../support/functions.js";
import { dot, matmul, type Nd, normal, transpose, zip } from "../support/nd.js";
import { Random } from "../support/random.js";
import { targets } from "../support/targets.js";

const [B, T, C, H] = [2, 5, 24, 3];
const D = C / H;
const random = new Random(31);
const x = normal(random, [B, T, C]);
const upstream = normal(random, [B, T, C]);

type Weights = Record<string, Nd>;

async function weightsOf(module: Module): Promise<Weights> {
  const entries = Object.entries(module.stateDict()).map(async ([name, weight]): Promise<[string, Nd]> => [
    name,
    { shape: weight.shape, data: Float64Array.from(await weight.data()) },
  ]);
  return Object.fromEntries(await Promise.all(entries));
}

const project = (input: Nd, weights: Weights, name: string): Nd =>
  zip(matmul(input, transpose(weights[`${name}.weight`]!)), weights[`${name}.bias`]!, (a, b) => a + b);

/** Returns a head's query or key: normalised if there is a weight, then with its pairs (i, i + R/2) rotated. */
function placed(head: Float64Array, weight: Nd | undefined, position: number, turned: number): number[] {
  const square = head.reduce((a, b) => a + b * b, 0) / D;
  const y = Array.from(head, (value, i) => (weight ? (value / Math.sqrt(square + 1e-5)) * weight.data[i]! : value));
  for (let i = 0; i < turned / 2; i++) {
    const angle = position * 10_000 ** ((-2 * i) / turned);
    const [a, b] = [y[i]!, y[i + turned / 2]!];
    y[i] = a * Math.cos(angle) - b * Math.sin(angle);
    y[i + turned / 2] = a * Math.sin(angle) + b * Math.cos(angle);
  }
  return y;
}

/** Causal attention in float64, directly from the definition. */
function reference(input: Nd, weights: Weights, turned: number): Nd {
  const qkv = project(input, weights, "c_attn");
  const part = (b: number, t: number, h: number, which: number): Float64Array => {
    const at = ((b * T + t) * 3 + which) * C + h * D;
    return qkv.data.subarray(at, at + D);
  };
  const y = new Float64Array(B * T * C);
  for (let b = 0; b < B; b++)
    for (let h = 0; h < H; h++)
      for (let t = 0; t < T; t++) {
        const q = placed(part(b, t, h, 0), weights["q_norm.weight"], t, turned);
        const scores = Array.from({ length: t + 1 }, (_, j) =>
          Math.exp(dot(q, placed(part(b, j, h, 1), weights["k_norm.weight"], j, turned)) / Math.sqrt(D)),
        );
        const total = scores.reduce((a, s) => a + s, 0);
        for (let d = 0; d < D; d++)
          y[(b * T + t) * C + h * D + d] = scores.reduce((a, s, j) => a + (s / total) * part(b, j, h, 2)[d]!, 0);
      }
  return project({ shape: input.shape, data: y }, weights, "c_proj");
}

/** Compares the output and the gradient of x with a function in float64 and its derivative along a random direction. */
async function expectForwardAndGradient(
  module: Module & { forward: (input: FloatTensor) => FloatTensor },
  exact: (input: Nd) => Nd,
  device: string,
): Promise<void> {
  using input = tensor(x.data, x.shape, { device });
  input.requiresGrad = true;
  using out = scope(() => {
    const y = module.forward(input);
    sum(mul(y, tensor(upstream.data, upstream.shape, { device }))).backward();
    return y;
  });
  // Sums of up to 48 terms in three layers.
  expectClose("output", await out.data(), exact(x).data, { relative: 8, absolute: 64 });
  const grad = await input.grad!.data();
  for (let k = 0; k < 4; k++) {
    const direction = Float64Array.from({ length: x.data.length }, () => random.sign());
    const loss = (by: number): number =>
      dot(exact({ shape: x.shape, data: x.data.map((v, i) => v + by * direction[i]!) }).data, upstream.data);
    const slope = (8 * (loss(1e-4) - loss(-1e-4)) - (loss(2e-4) - loss(-2e-4))) / 12e-4;
    // Over all elements of x, each with a relative error of some 2⁻²⁰ (the error of the output, through as many layers
    // again).
    expect(Math.abs(dot(grad, direction) - slope)).toBeLessThan(1e-4 * Math.max(1, Math.abs(slope)));
  }
}

function attentionOf(device: string, size: number, config: Partial<AttentionConfig>): Attention {
  const table = rotaryTable({ size, length: 16, device });
  const init = new Initializer(3, deviceOf(device));
  return new Attention(
    { width: C, heads: H, causal: true, std: 0.3, rotary: { table }, ...config },
    init,
    new DropoutSeeds(0),
  );
}

const variants: [string, number, Partial<AttentionConfig>][] = [
  ["rotary", D, {}],
  ["rotary of half a head", D / 2, {}],
  ["rotary and QK norm", D, { qkNorm: true }],
];

for (const [name, size, config] of variants) {
  test.for(targets)(`attention with ${name} follows the definition on $name`, async ({ select, device }) => {
    select();
    using module = attentionOf(device, size, config);
    if (module.q_norm) module.q_norm.weight.set(normal(random, [D], { offset: 1, scale: 0.3 }).data);
    const weights = await weightsOf(module);
    await expectForwardAndGradient(module, (input) => reference(input, weights, size), device);
  });

  test.for(targets)(
    `with ${name}, tokens through a cache equal all tokens at once on $name`,
    async ({ select, device }) => {
      select();
      using module = attentionOf(device, size, config);
      using input = tensor(x.data, x.shape, { device });
      using whole = scope(() => module.forward(input));
      const expected = await whole.data();
      using cache = new KvCache({ layers: 1, batch: B, length: T, heads: H, headSize: D, device: deviceOf(device) });
      for (const [first, count] of [
        [0, 2],
        [2, 1],
        [3, 2],
      ] as const) {
        cache.begin(count);
        using out = scope(() => module.forward(narrow(input, 1, first, count), { cache }));
        cache.advance();
        const got = await out.data();
        for (let b = 0; b < B; b++) {
          const rows = expected.subarray((b * T + first) * C, (b * T + first + count) * C);
          expectClose(`tokens from ${first}`, got.subarray(b * count * C, (b + 1) * count * C), rows, {
            relative: 8,
            absolute: 32,
          });
        }
      }
    },
  );
}

test.for(targets)("a gated feed-forward follows the definition on $name", async ({ select, device }) => {
  select();
  const hidden = 16;
  const init = new Initializer(5, deviceOf(device));
  using module = new FeedForward({ width: C, feedForwardWidth: hidden, gated: true, std: 0.3 }, init);
  const weights = await weightsOf(module);
  const exact = (input: Nd): Nd => {
    const both = project(input, weights, "c_fc");
    const h = Float64Array.from({ length: B * T * hidden }, (_, i) => {
      const at = Math.floor(i / hidden) * 2 * hidden + (i % hidden);
      return silu(both.data[at]!) * both.data[at + hidden]!;
    });
    return project({ shape: [B, T, hidden], data: h }, weights, "c_proj");
  };
  await expectForwardAndGradient(module, exact, device);
});

test("a table wider than a head throws ERR_SHAPE", () => {
  expectError(() => attentionOf("cpu", D + 2, {}), "ERR_SHAPE");
});
