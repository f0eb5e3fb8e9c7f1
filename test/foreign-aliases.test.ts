/** Tensors that share memory through an External or an ArrayBuffer: what one of them writes is new for all of them. */
import { expect, test } from "vitest";
import { fromBuffer, fromDLPack, fromNative, markWritten, toDLPack, toNative } from "../lib/core/foreign.js";
import { ones, tensor } from "../lib/core/creation.js";
import { device as deviceOf } from "../lib/core/device.js";
import { Engine } from "../lib/engine/engine.js";
import { generateTokens } from "../lib/generate/generate-tokens.js";
import { Initializer } from "../lib/nn/init.js";
import { Linear } from "../lib/nn/linear.js";
import { parameter } from "../lib/core/autograd.js";
import { mul, sum } from "../lib/ops/index.js";
import type { FloatTensor } from "../lib/core/tensor.js";
import { smallGpt } from "./generate/models.js";
import { expectError } from "./support/errors.js";
import { onEachDevice } from "./support/targets.js";

/** Ways to another tensor over the memory of a tensor. */
const ways: [string, (x: FloatTensor) => Promise<FloatTensor>][] = [
  ["fromNative(toNative(x))", async (x) => fromNative(toNative(x)) as FloatTensor],
  ["fromDLPack(toDLPack(x))", async (x) => fromDLPack(await toDLPack(x)) as FloatTensor],
  ["both", async (x) => fromDLPack(await toDLPack(fromNative(toNative(x)))) as FloatTensor],
];

onEachDevice((device) => {
  test.each(ways)("a rounded copy of a weight is renewed, %s", async (_, alias) => {
    const linear = new Linear({ inputs: 4, outputs: 3 }, new Initializer(1, deviceOf(device)));
    using x = ones([1, 4], { dtype: "bf16", device });
    const values = async (): Promise<number[]> => Array.from(await linear.forward(x).data());
    const before = await values();
    using other = await alias(linear.weight);
    other.set(new Float32Array(other.size).fill(2));
    const written = await values();
    expect(written).not.toEqual(before);
    linear.weight.set(new Float32Array(other.size).fill(2));
    expect(written).toEqual(await values());
    linear.weight.set(new Float32Array(other.size).fill(3));
    expect(Array.from(await other.data())).toEqual(Array<number>(12).fill(3));
  });

  test.each(ways)("a gradient that needs overwritten values is refused, %s", async (_, alias) => {
    using x = parameter(tensor([1, 2, 3], [3], { device }));
    using other = await alias(x);
    using fine = sum(mul(x, x));
    fine.backward();
    expect(Array.from(await x.grad!.data())).toEqual([2, 4, 6]);
    using stale = sum(mul(x, x));
    other.set([4, 5, 6]);
    expectError(() => stale.backward(), "ERR_AUTOGRAD", /overwritten/);
    // In the other direction, and through views.
    using late = sum(mul(x, x));
    using view = await alias(other);
    markWritten(view);
    expectError(() => late.backward(), "ERR_AUTOGRAD", /overwritten/);
  });

  test.each(ways)("an engine notices new weights, %s", async (_, alias) => {
    using model = smallGpt(device, { vocabularySize: 31 });
    await using engine = new Engine(model, { pageSize: 4 });
    const request = { tokens: [1, 2, 3, 4, 5, 6, 7, 8, 9], maxTokens: 6, temperature: 0 };
    await engine.generate(request);
    using other = await alias(model.wte.weight);
    other.set(Float32Array.from({ length: other.size }, (_, i) => Math.sin(i * 7)));
    const { tokens } = await engine.generate(request);
    const [expected] = await generateTokens(model, [request.tokens], { maxTokens: 6, temperature: 0 });
    expect(tokens).toEqual(expected!.tokens);
  });

  test("memory that others have is not reused for gradients", async () => {
    using x = parameter(tensor([1, 2, 3], [3], { device }));
    using first = sum(mul(x, x));
    first.backward();
    const external = toNative(x.grad!);
    using second = sum(mul(x, x));
    second.backward();
    using before = fromNative(external);
    expect([
      [2, 4, 6],
      [4, 8, 12],
    ]).toContainEqual(Array.from(await before.data()));
    expect(Array.from(await x.grad!.data())).toEqual([4, 8, 12]);
  });
});

test("tensors over one buffer share their version", async () => {
  const memory = Float32Array.of(1, 2, 3, 4);
  const x = fromBuffer(memory);
  using other = fromBuffer(memory.buffer, [2, 2]);
  x.requiresGrad = true;
  using loss = sum(mul(x, x));
  other.set([5, 6, 7, 8]);
  expectError(() => loss.backward(), "ERR_AUTOGRAD", /overwritten/);
  expect(Array.from(await x.data())).toEqual([5, 6, 7, 8]);
  // Other memory is not concerned.
  using apart = fromBuffer(Float32Array.of(1, 2));
  using y = parameter(tensor([1, 2], [2], { device: "cpu" }));
  using product = sum(mul(y, apart));
  other.set([1, 2, 3, 4]);
  product.backward();
  expect(Array.from(await y.grad!.data())).toEqual([1, 2]);
});
