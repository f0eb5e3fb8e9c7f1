import { afterAll, describe, expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { native } from "../../lib/core/native.js";
import { DropoutSeeds } from "../../lib/nn/dropout.js";
import { Initializer } from "../../lib/nn/init.js";
import { LayerNorm } from "../../lib/nn/layer-norm.js";
import type { RmsNorm } from "../../lib/nn/rms-norm.js";
import { TransformerBlock, type TransformerBlockConfig } from "../../lib/nn/transformer-block.js";
import { add, mul } from "../../lib/ops/binary.js";
import { layerNorm } from "../../lib/ops/layer-norm.js";
import { mean, sum } from "../../lib/ops/reduce.js";
import { matmul } from "../../lib/ops/matmul.js";
import { softmax } from "../../lib/ops/softmax.js";
import { gelu, rsqrt, silu, square } from "../../lib/ops/unary.js";
import { narrow, transpose } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { randn, tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { bestIsa, targets } from "../support/targets.js";

const [B, T, C, H] = [2, 17, 24, 3];
const D = C / H;

/** Computes the block from its parts, each as a plain operation: T × T matrices, no fusion. */
function slowTwin(block: TransformerBlock, x: FloatTensor): FloatTensor {
  const project = (input: FloatTensor, { weight, bias }: { weight: FloatTensor; bias: FloatTensor | null }) => {
    const product = matmul(input, transpose(weight));
    return bias ? add(product, bias) : product;
  };
  const norm = (input: FloatTensor, part: LayerNorm | RmsNorm): FloatTensor => {
    if (part instanceof LayerNorm) return layerNorm(input, part);
    const meanSquare = mean(square(input), { axes: [-1], keepDims: true });
    return mul(mul(input, rsqrt(add(meanSquare, part.eps))), part.weight);
  };
  const mask = tensor(
    Float32Array.from({ length: T * T }, (_, i) => (i % T > Math.floor(i / T) ? -Infinity : 0)),
    [T, T],
    { device: x.device },
  );
  const attend = (input: FloatTensor): FloatTensor => {
    const { c_attn, c_proj, kvHeads } = block.attn;
    const qkv = project(input, c_attn);
    const head = (index: number): FloatTensor => narrow(qkv, 2, index * D, D);
    const parts = Array.from({ length: H }, (_, h) => {
      const group = Math.floor((h * kvHeads) / H);
      const [q, k, v] = [head(h), head(H + group), head(H + kvHeads + group)];
      const weights = softmax(add(mul(matmul(q, transpose(k)), 1 / Math.sqrt(D)), mask));
      return matmul(matmul(weights, v), transpose(narrow(c_proj.weight, 1, h * D, D)));
    });
    const all = parts.reduce((total, part) => add(total, part));
    return c_proj.bias ? add(all, c_proj.bias) : all;
  };
  const feed = (input: FloatTensor): FloatTensor => {
    const { c_fc, c_proj, gated } = block.mlp;
    const hidden = project(input, c_fc); // [B, T, F], twice F if gated
    if (!gated) return project(gelu(hidden), c_proj);
    const half = hidden.shape[2]! / 2;
    return project(mul(silu(narrow(hidden, 2, 0, half)), narrow(hidden, 2, half, half)), c_proj);
  };
  const scaled = (part: FloatTensor): FloatTensor => mul(part, block.residualScale);
  if (block.norm === "post") {
    const h = norm(add(x, scaled(attend(x))), block.ln_1);
    return norm(add(h, scaled(feed(h))), block.ln_2);
  }
  const h = add(x, scaled(attend(norm(x, block.ln_1))));
  return add(h, scaled(feed(norm(h, block.ln_2))));
}

function blockOf(
  config: Partial<TransformerBlockConfig>,
  device: string,
  seeds = new DropoutSeeds(0),
): TransformerBlock {
  const init = new Initializer(3, deviceOf(device));
  return new TransformerBlock({ width: C, heads: H, causal: true, std: 0.2, ...config }, init, seeds);
}

afterAll(() => native.selectIsa(bestIsa));

describe.each(targets)("TransformerBlock on $name", (target) => {
  test.each<Partial<TransformerBlockConfig>>([
    { norm: "pre" },
    { norm: "post" },
    { norm: "pre", normalization: "rms", bias: false },
    { norm: "post", normalization: "rms", residualScale: 0.5 },
    { kvHeads: 1 },
    { gated: true, feedForwardWidth: 20 },
    { normalization: "rms", kvHeads: 1, gated: true, feedForwardWidth: 33, bias: false, residualScale: -2 },
  ])("%j equals the block made of plain operations", async (config) => {
    target.select();
    using block = blockOf(config, target.device);
    const results: Float32Array[][] = [];
    for (const forward of [(x: FloatTensor) => block.forward(x), (x: FloatTensor) => slowTwin(block, x)]) {
      using x = randn([B, T, C], { seed: 1, device: target.device });
      x.requiresGrad = true;
      using out = scope(() => {
        const y = forward(x);
        sum(mul(y, randn([B, T, C], { seed: 2, device: target.device }))).backward();
        return y;
      });
      results.push(await Promise.all([out.data(), x.grad!.data(), ...block.parameters().map((p) => p.grad!.data())]));
      block.zeroGrad();
    }
    const names = ["output", "dx", ...Object.keys(block.stateDict())];
    // Both sides round differently, in sums of up to B·T·4C = 3,264 terms in several layers. The bias of the keys has a
    // gradient of zero in exact arithmetic, so errors are relative to the largest gradient of the same tensor.
    for (const [i, name] of names.entries())
      expectClose(name, results[0]![i]!, Float64Array.from(results[1]![i]!), { relative: 0, absolute: 600 });
  });

  test("sequences padded at their ends equal the sequences alone", async () => {
    target.select();
    using block = blockOf({}, target.device);
    using x = randn([B, T, C], { seed: 1, device: target.device });
    using lengths = tensor(Int32Array.of(5, T), [B], { device: target.device });
    using padded = scope(() => block.forward(x, { keyLengths: lengths }));
    using alone = scope(() => block.forward(narrow(narrow(x, 0, 0, 1), 1, 0, 5)));
    const [all, first] = await Promise.all([padded.data(), alone.data()]);
    expectClose("first sequence", all.slice(0, 5 * C), Float64Array.from(first), { relative: 4, absolute: 32 });
  });

  test("refuses parts that do not fit", () => {
    for (const [config, code, message] of [
      [{ kvHeads: 2 }, "ERR_SHAPE", /heads to be a multiple of 2 kvHeads, got 3/],
      [{ kvHeads: 0 }, "ERR_RANGE", /kvHeads/],
      [{ normalization: "batch" as "rms" }, "ERR_ARGUMENT", /normalization to be layer or rms, got "batch"/],
      [{ residualScale: NaN }, "ERR_RANGE", /residualScale/],
    ] as const)
      expectError(() => blockOf(config, target.device), code, message);
  });

  test("dropout follows from the seed and the step, and is off in evaluation", async () => {
    target.select();
    const seeds = new DropoutSeeds(5);
    using block = blockOf({ dropout: 0.3, residualDropout: 0.3 }, target.device, seeds);
    using x = randn([B, T, C], { seed: 1, device: target.device });
    const run = async (step: number): Promise<Float32Array> => {
      seeds.step = step;
      using out = scope(() => block.forward(x));
      return await out.data();
    };
    const first = await run(1);
    expect(await run(1)).toEqual(first);
    expect(await run(2)).not.toEqual(first);
    block.eval();
    const still = await run(1);
    expect(await run(2)).toEqual(still);
    expect(still).not.toEqual(first);
  });
});
