/**
 * Windows, caps and ALiBi of a transformer block: equal to plain operations, and independent of the layout of
 * sequences.
 */
import { afterAll, describe, expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import { native } from "../../lib/core/native.js";
import type { AttentionContext } from "../../lib/nn/attend.js";
import { DropoutSeeds } from "../../lib/nn/dropout.js";
import { Initializer } from "../../lib/nn/init.js";
import { TransformerBlock, type TransformerBlockConfig } from "../../lib/nn/transformer-block.js";
import { documentRanges, prefixRanges } from "../../lib/ops/attention-masks.js";
import { add, div, mul } from "../../lib/ops/binary.js";
import { matmul } from "../../lib/ops/matmul.js";
import { sum } from "../../lib/ops/reduce.js";
import { softmax } from "../../lib/ops/softmax.js";
import { tanh } from "../../lib/ops/unary.js";
import { narrow, reshape, transpose } from "../../lib/ops/views.js";
import { scope } from "../../lib/core/scope.js";
import { randn, tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import { bestIsa, targets } from "../support/targets.js";

const [T, C, H] = [21, 24, 3];
const D = C / H;

type Options = Pick<TransformerBlockConfig, "causal" | "window" | "softcap" | "alibi">;

const configs: Options[] = [
  { causal: true, window: 6 },
  { causal: false, window: 6 },
  { causal: true, alibi: true },
  { causal: false, alibi: true },
  { causal: true, softcap: 0.7 },
  { causal: true, window: 9, alibi: true, softcap: 1.5 },
];

function blockOf(options: Options, device: string): TransformerBlock {
  const init = new Initializer(3, deviceOf(device));
  return new TransformerBlock({ width: C, heads: H, std: 0.2, ...options }, init, new DropoutSeeds(0));
}

/** The slopes of three heads by the published rule: those of two heads, then the first of four. */
const slopes = [2 ** -4, 2 ** -8, 2 ** -2];

/** Returns the bias of the scores of T queries and keys, [H, T, T]. */
function bias({ causal, window = 0, alibi = false }: Options, device: string): FloatTensor {
  const values = Float32Array.from({ length: H * T * T }, (_, i) => {
    const [h, query, key] = [Math.floor(i / (T * T)), Math.floor(i / T) % T, i % T];
    const distance = Math.abs(query - key);
    if ((causal && key > query) || (window > 0 && distance >= window)) return -Infinity;
    return alibi ? -slopes[h]! * distance : 0;
  });
  return tensor(values, [H, T, T], { device });
}

/** Computes the attention of a block with plain operations. */
function slowTwin({ attn }: TransformerBlock, options: Options, x: FloatTensor): FloatTensor {
  const project = (input: FloatTensor, { weight, bias }: { weight: FloatTensor; bias: FloatTensor | null }) =>
    add(matmul(input, transpose(weight)), bias!);
  const qkv = project(x, attn.c_attn);
  const heads = (part: number): FloatTensor =>
    transpose(reshape(narrow(qkv, 2, part * C, C), [x.shape[0]!, T, H, D]), [0, 2, 1, 3]);
  let scores = mul(matmul(heads(0), transpose(heads(1))), 1 / Math.sqrt(D));
  const { softcap = 0 } = options;
  if (softcap > 0) scores = mul(tanh(div(scores, softcap)), softcap);
  const weights = softmax(add(scores, bias(options, x.device.name)));
  return project(reshape(transpose(matmul(weights, heads(2)), [0, 2, 1, 3]), [x.shape[0]!, T, C]), attn.c_proj);
}

interface Outcome {
  out: Float32Array;
  dx: Float32Array;
  gradients: Record<string, Float32Array>;
}

/** Returns forward(x), and the gradients of Σ out · upstream. */
async function run(
  block: TransformerBlock,
  values: ArrayLike<number>,
  upstream: ArrayLike<number>,
  shape: [number, number, number],
  forward: (x: FloatTensor) => FloatTensor,
): Promise<Outcome> {
  const { device } = block.ln_1.weight;
  using x = tensor(values, shape, { device });
  x.requiresGrad = true;
  block.zeroGrad();
  using out = scope(() => {
    const y = forward(x);
    sum(mul(y, tensor(upstream, shape, { device }))).backward();
    return y;
  });
  const gradients: [string, Float32Array][] = [];
  for (const [name, parameter] of block.namedParameters())
    if (parameter.grad) gradients.push([name, await parameter.grad.data()]);
  return { out: await out.data(), dx: await x.grad!.data(), gradients: Object.fromEntries(gradients) };
}

const numbers = async (shape: [number, number, number], seed: number): Promise<Float32Array> => {
  using x = randn(shape, { seed, device: "cpu" });
  return await x.data();
};

/** Pieces of one tensor [B, T, C] that are sequences of their own: sequence, first token, number of tokens. */
type Piece = [number, number, number];

/**
 * Expects that `whole` gives each piece the same results as the piece alone, and the parameters the sum of their
 * gradients.
 */
async function expectPieces(
  options: Options,
  device: string,
  batch: number,
  pieces: Piece[],
  context: AttentionContext,
): Promise<void> {
  using block = blockOf(options, device);
  const shape: [number, number, number] = [batch, T, C];
  const values = await numbers(shape, 1);
  const upstream = await numbers(shape, 2);
  // Padding takes no part in the loss.
  const real = new Set(
    pieces.flatMap(([b, first, count]) => Array.from({ length: count }, (_, t) => b * T + first + t)),
  );
  upstream.forEach((_, i) => {
    if (!real.has(Math.floor(i / C))) upstream[i] = 0;
  });
  const whole = await run(block, values, upstream, shape, (x) => block.forward(x, context));
  const total: Record<string, Float64Array> = {};
  for (const [b, first, count] of pieces) {
    const cut = (x: Float32Array): Float32Array => x.slice((b * T + first) * C, (b * T + first + count) * C);
    const alone = await run(block, cut(values), cut(upstream), [1, count, C], (x) => block.forward(x));
    const label = `tokens ${first} to ${first + count} of sequence ${b}`;
    // Only roundings differ: sums of products are computed in another order.
    expectClose(`output, ${label}`, cut(whole.out), alone.out, { relative: 8, absolute: 64 });
    expectClose(`dx, ${label}`, cut(whole.dx), alone.dx, { relative: 8, absolute: 128 });
    for (const [name, gradient] of Object.entries(alone.gradients)) {
      total[name] ??= new Float64Array(gradient.length);
      gradient.forEach((g, i) => (total[name]![i]! += g));
    }
  }
  expect(Object.keys(whole.gradients)).toEqual(Object.keys(total));
  for (const [name, gradient] of Object.entries(whole.gradients))
    expectClose(`gradient of ${name}`, gradient, total[name]!, { relative: 0, absolute: 600 });
}

afterAll(() => native.selectIsa(bestIsa));

describe.each(targets)("attention on $name", (target) => {
  const { device } = target;

  test.each(configs)("%j equals the plain operations", async (options) => {
    target.select();
    using block = blockOf(options, device);
    const shape: [number, number, number] = [2, T, C];
    const [values, upstream] = [await numbers(shape, 1), await numbers(shape, 2)];
    const ours = await run(block, values, upstream, shape, (x) => block.attn.forward(x));
    const plain = await run(block, values, upstream, shape, (x) => slowTwin(block, options, x));
    expectClose("output", ours.out, plain.out, { relative: 0, absolute: 100 });
    expectClose("dx", ours.dx, plain.dx, { relative: 0, absolute: 300 });
    expect(Object.keys(ours.gradients)).toEqual(Object.keys(plain.gradients));
    for (const [name, gradient] of Object.entries(ours.gradients))
      expectClose(`gradient of ${name}`, gradient, plain.gradients[name]!, { relative: 0, absolute: 600 });
  });

  test.each(configs)("%j: sequences padded at their ends equal the sequences alone", async (options) => {
    target.select();
    const lengths = [T, 5, 1];
    using keyLengths = tensor(Int32Array.from(lengths), [3], { device });
    const pieces = lengths.map((length, b): Piece => [b, 0, length]);
    await expectPieces(options, device, 3, pieces, { keyLengths });
  });

  test.each(configs)("%j: packed documents equal the documents alone", async (options) => {
    target.select();
    const documents = [
      [4, 1, 16],
      [12, 7],
    ];
    using keyRanges = documentRanges(documents, { length: T, device });
    const pieces = documents.flatMap((lengths, b) =>
      lengths.map((length, d): Piece => [b, lengths.slice(0, d).reduce((a, c) => a + c, 0), length]),
    );
    await expectPieces(options, device, 2, pieces, { keyRanges });
  });

  test("a prefix is seen by all tokens, the following tokens only by later ones", async () => {
    target.select();
    using block = blockOf({ causal: true }, device);
    using free = blockOf({ causal: false }, device);
    using keyRanges = prefixRanges([8], T, { device });
    using x = randn([1, T, C], { seed: 1, device });
    using prefixed = scope(() => block.forward(x, { keyRanges, causal: false }));
    // The prefix alone, without a mask.
    using alone = scope(() => free.forward(narrow(x, 1, 0, 8)));
    using causal = scope(() => block.forward(x));
    const [out, first, plain] = await Promise.all([prefixed.data(), alone.data(), causal.data()]);
    expectClose("prefix", out.slice(0, 8 * C), first, { relative: 8, absolute: 32 });
    // The last prefix token and those after it see the same keys as without the prefix.
    expectClose("rest", out.slice(7 * C), plain.slice(7 * C), { relative: 8, absolute: 32 });
    expect(out.slice(0, 7 * C)).not.toEqual(plain.slice(0, 7 * C));
  });

  test("ALiBi's slopes move with the block, keep their dtype and are freed", () => {
    target.select();
    const before = deviceOf(device).memory();
    const block = blockOf({ causal: true, alibi: true }, device);
    block.to("bf16");
    expect(block.attn.slopes!.dtype).toBe("f32");
    expect(block.attn.c_attn.weight.dtype).toBe("bf16");
    block.to(device);
    expect(Object.keys(block.stateDict()).some((name) => name.includes("slopes"))).toBe(false);
    block.dispose();
    expect(deviceOf(device).memory().tensors).toBe(before.tensors);
  });
});
