import { afterAll, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { native } from "../../lib/core/native.js";
import { Initializer } from "../../lib/nn/init.js";
import { LinearAttention, LinearAttentionCache, type LinearAttentionConfig } from "../../lib/nn/linear-attention.js";
import { add, div, mul } from "../../lib/ops/binary.js";
import { matmul } from "../../lib/ops/matmul.js";
import { sum } from "../../lib/ops/reduce.js";
import { eluPlusOne } from "../../lib/ops/unary.js";
import { narrow, reshape, transpose } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { randn, tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { bestIsa, targets } from "../support/targets.js";

const [T, C, heads] = [70, 12, 3];

const blockOf = (options: Partial<LinearAttentionConfig>, device: string): LinearAttention =>
  new LinearAttention({ width: C, heads, std: 0.3, ...options }, new Initializer(5, deviceOf(device)));

/** Computes the module with plain operations, with every weight of every pair. */
function slowTwin(block: LinearAttention, { retention = false, normalize = true }, x: FloatTensor): FloatTensor {
  const B = x.shape[0]!;
  const D = C / heads;
  const qkv = transpose(reshape(block.c_attn.forward(x), [B, T, 3, heads, D]), [2, 0, 3, 1, 4]); // [3, B, H, T, D]
  const [q, k, v] = [0, 1, 2].map((part) => reshape(narrow(qkv, 0, part, 1), [B, heads, T, D])) as [
    FloatTensor,
    FloatTensor,
    FloatTensor,
  ];
  const seen = Float32Array.from({ length: heads * T * T }, (_, at) => {
    const [h, i, j] = [Math.floor(at / (T * T)), Math.floor(at / T) % T, at % T];
    return j > i ? 0 : retention ? (1 - 2 ** (-5 - h)) ** (i - j) : 1;
  });
  const mask = tensor(seen, [heads, T, T], { device: x.device });
  const weights = mul(matmul(eluPlusOne(q), transpose(eluPlusOne(k))), mask); // [B, H, T, T]
  const out = matmul(weights, v);
  const y = normalize ? div(out, add(sum(weights, { axes: [-1], keepDims: true }), 1e-6)) : out;
  return block.c_proj.forward(reshape(transpose(y, [0, 2, 1, 3]), [B, T, C]));
}

afterAll(() => native.selectIsa(bestIsa));

describe.each(targets)("linear attention as a module on $name", ({ select, device }) => {
  test.each([{}, { retention: true }, { normalize: false, retention: true }])(
    "%j equals the plain operations",
    async (options) => {
      select();
      using block = blockOf(options, device);
      const run = async (forward: (x: FloatTensor) => FloatTensor) => {
        block.zeroGrad();
        using x = randn([2, T, C], { seed: 1, device });
        x.requiresGrad = true;
        using out = scope(() => {
          const y = forward(x);
          sum(mul(y, randn(y.shape, { seed: 2, device }))).backward();
          return y;
        });
        const gradients = [...block.namedParameters()].map(([, p]) => p.grad!.data());
        return { out: await out.data(), dx: await x.grad!.data(), gradients: await Promise.all(gradients) };
      };
      const ours = await run((x) => block.forward(x));
      const plain = await run((x) => slowTwin(block, options, x));
      expectClose("output", ours.out, plain.out, { relative: 0, absolute: 32 });
      expectClose("dx", ours.dx, plain.dx, { relative: 0, absolute: 32 });
      ours.gradients.forEach((gradient, i) =>
        expectClose(`gradient ${i}`, gradient, plain.gradients[i]!, { relative: 0, absolute: 32 }),
      );
    },
  );

  test("with a cache, tokens that arrive one by one see the tokens before them", async () => {
    select();
    using block = blockOf({ retention: true }, device);
    using x = randn([2, T, C], { seed: 1, device });
    const whole = await scope(() => block.forward(x)).data();
    using cache = new LinearAttentionCache({
      layers: 2,
      batch: 2,
      heads,
      headSize: C / heads,
      device: deviceOf(device),
    });
    for (let pass = 0; pass < 2; pass++) {
      for (const [first, count] of [
        [0, 40],
        [40, 1],
        [41, 1],
        [42, 28],
      ] as const) {
        const out = scope(() => noGrad(() => block.forward(narrow(x, 1, first, count), { cache, layer: 1 })));
        const values = await out.data();
        const size = count * C;
        for (const b of [0, 1])
          expectClose(
            `tokens from ${first}`,
            values.subarray(b * size, (b + 1) * size),
            whole.subarray((b * T + first) * C, (b * T + first) * C + size),
            { relative: 0, absolute: 32 },
          );
      }
      cache.reset();
    }
    expectError(() => cache.layerState(2), "ERR_RANGE", /a layer below 2, got 2/);
  });

  test("decays move with the module, keep their dtype and are freed", () => {
    select();
    const before = deviceOf(device).memory();
    const block = blockOf({ retention: true }, device);
    block.to("bf16");
    expect(block.decay!.dtype).toBe("f32");
    block.to(device);
    block.dispose();
    expect(deviceOf(device).memory().tensors).toBe(before.tensors);
  });
});

test("a width that is not divisible by the heads is refused", () => {
  expectError(() => blockOf({ heads: 5 }, "cpu"), "ERR_SHAPE", /multiple of 5 heads, got 12/);
  expectError(() => blockOf({ heads: 0 }, "cpu"), "ERR_RANGE");
});
