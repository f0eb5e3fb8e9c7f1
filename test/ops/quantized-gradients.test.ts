/**
 * Gradients through weights in 8 and 4 bits: beside PyTorch, whose weights test/fixtures/quantized.py has rounded by a
 * second implementation, beside derivatives in float64, and beside the product with the weight that the codes stand for,
 * which has the same bits.
 */
import { afterAll, describe, expect, test } from "vitest";
import { parameter } from "../../lib/core/autograd.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { native } from "../../lib/core/native.js";
import { type Activation, activations } from "../../lib/ops/activation.js";
import { crossEntropy } from "../../lib/ops/cross-entropy.js";
import { linear } from "../../lib/ops/linear.js";
import { mul } from "../../lib/ops/binary.js";
import {
  dequantize,
  quantize,
  type QuantizedBits,
  quantizedBits,
  quantizedLinear,
  type QuantizeOptions,
} from "../../lib/ops/quantize.js";
import { quantizedLinearCrossEntropy } from "../../lib/ops/quantized-cross-entropy.js";
import { sum } from "../../lib/ops/reduce.js";
import { scope } from "../../lib/core/scope.js";
import { formatShape } from "../../lib/core/shape.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectNear } from "../support/close.js";
import { expectError, expectRejection } from "../support/errors.js";
import { decode, decodeFloats, type FixtureCase, fixtureTest, readFixture } from "../support/fixtures.js";
import { byActivation } from "../support/functions.js";
import { add, map, matmul, type Nd, normal, reshape, transpose } from "../support/nd.js";
import { nightly } from "../support/nightly.js";
import { opTest } from "../support/op-test.js";
import { Random } from "../support/random.js";
import { bestIsa, devicesTested, productTargets } from "../support/targets.js";

const random = new Random(21);
afterAll(() => native.selectIsa(bestIsa));

interface ProductOptions extends Required<QuantizeOptions> {
  activation: Activation;
  dtype: FloatDType;
}

fixtureTest("quantized-linear", ({ x, original, bias, residual }, _, { options }) => {
  const { activation, dtype, ...quantization } = options as unknown as ProductOptions;
  const weight = quantize(original!, quantization);
  const added = residual?.to(dtype) ?? null;
  return quantizedLinear(x!.to(dtype), weight, { bias: bias!.to(dtype), residual: added, activation }).to("f32");
});

test.for(devicesTested)("codes stand for the numbers of the second implementation on $name", async ({ device }) => {
  const { cases } = readFixture("ops/quantized-linear") as { cases: FixtureCase[] };
  for (const { inputs, options } of cases) {
    const { bits, groupSize } = options as unknown as ProductOptions;
    using back = scope(() => dequantize(quantize(decodeFloats(inputs.original!, device), { bits, groupSize })));
    const unsigned = (values: Float32Array): Float32Array => values.map((x) => x + 0); // turns −0 into 0
    expect(unsigned(await back.data())).toEqual(unsigned(decode(inputs.weight!) as Float32Array));
  }
});

/** Returns a weight that codes represent exactly, as every dtype does, because the scales are a power of 2. */
function exactWeight(outputs: number, inputs: number, { bits, groupSize }: Required<QuantizeOptions>): Nd {
  const [low, high] = bits === 8 ? [-127, 127] : [-8, 7];
  const step = 2 ** -Math.round(Math.log2((high * Math.sqrt(Math.max(1, inputs))) / 2));
  const data = Float64Array.from({ length: outputs * inputs }, (_, i) => {
    const code = (i % Math.max(1, inputs)) % groupSize === 0 ? low : low + random.integer(high - low + 1);
    return code * step;
  });
  return { shape: [outputs, inputs], data };
}

interface Options {
  weight: Nd;
  quantization: Required<QuantizeOptions>;
  activation: Activation;
}

const matrix = (x: Nd): Nd => reshape(x, [x.shape.slice(0, -1).reduce((a, b) => a * b, 1), x.shape.at(-1)!]);
const times = (x: Nd, weight: Nd): Nd =>
  reshape(matmul(matrix(x), transpose(weight)), [...x.shape.slice(0, -1), weight.shape[0]!]);

function weightOf({ weight, quantization }: Options, { device }: FloatTensor) {
  return quantize(tensor(weight.data, weight.shape, { device }), quantization);
}

const optionsOf = (
  [x, outputs]: readonly [number[], number],
  bits: QuantizedBits,
  activation: Activation = "none",
  groupSize: 32 | 64 = 32,
): Options => {
  const quantization = { bits, groupSize };
  return { weight: exactWeight(outputs, x.at(-1)!, quantization), quantization, activation };
};

// The tolerance of a product with a plain weight (linear.test.ts).
const tolerance = { out: { relative: 4, absolute: 12 }, grad: { relative: 8, absolute: 24 } };

const sizes: [number[], number][] = [
  [[1, 1], 1],
  [[2, 3, 33], 17],
  [[40, 70], 33],
  [[0, 5], 3],
  [[4, 0], 3],
];

opTest({
  name: "quantizedLinear",
  cases: sizes.map((size, i) => ({
    name: `${formatShape(size[0])} → ${size[1]}`,
    inputs: { x: normal(random, size[0]) },
    options: optionsOf(size, i % 2 ? 4 : 8, "none", i === 2 ? 64 : 32),
  })),
  ours: ({ x }, _, options) => scope(() => quantizedLinear(x, weightOf(options, x))),
  reference: ({ x }, _, { weight }) => times(x, weight),
  tolerance,
  // AVX512-VNNI cuts activations of 16 bits into steps of 2⁻¹⁵ of the largest in their group.
  roundings: { out: { relative: 1, absolute: 0.02 } },
  single: false,
});

/** Activations that are fused in every run; at night all are. */
const fused = nightly ? activations : (["none", "gelu", "silu"] satisfies Activation[]);

opTest({
  name: "quantizedLinear with everything fused",
  cases: fused.map((activation, i) => {
    const size = [[3 + 7 * i, 35], 18 + i] as [number[], number];
    return {
      name: activation,
      inputs: {
        x: normal(random, size[0]),
        bias: normal(random, [size[1]]),
        residual: normal(random, [size[0][0]!, size[1]]),
      },
      options: optionsOf(size, i % 2 ? 8 : 4, activation),
    };
  }),
  ours: ({ x, bias, residual }, _, options) => {
    const { activation } = options;
    return scope(() => quantizedLinear(x, weightOf(options, x), { bias, residual, activation }));
  },
  reference: ({ x, bias, residual }, _, { weight, activation }) =>
    add(map(add(times(x, weight), bias), byActivation[activation]), residual),
  tolerance,
  // As for a plain weight: the gradient before the activation is rounded, at a rounded argument.
  roundings: { grad: { relative: 2, absolute: 2, scale: 1 } },
  parameters: ["bias"],
  single: false,
  step: 1e-6,
});

describe.each(productTargets)("a gradient through codes on $name", ({ select, device }) => {
  test.each(["f32", "bf16"] as const)("has the bits of one through the weight itself in %s", async (dtype) => {
    select();
    // Outputs are what the gradient sums over: a part of a panel, several panels, and more than one pass on the CPU.
    for (const [rows, inputs, outputs] of [
      [1, 300, 40],
      [5, 33, 600],
      [9, 70, 15],
      [47, 130, 97],
      ...(device === "cpu" ? [[33, 96, 2600] as const] : []),
    ] as const)
      for (const bits of quantizedBits) {
        const weight = exactWeight(outputs, inputs, { bits, groupSize: 32 });
        using w = tensor(weight.data, weight.shape, { device, dtype });
        const quantized = quantize(w, { bits });
        const x = parameter(tensor(normal(random, [rows, inputs]).data, [rows, inputs], { device, dtype }));
        const up = tensor(normal(random, [rows, outputs]).data, [rows, outputs], { device, dtype });
        const gradient = async (product: () => FloatTensor): Promise<Float32Array> => {
          scope(() => sum(mul(product(), up)).backward());
          const read = await x.grad!.data();
          x.zeroGrad();
          return read;
        };
        const own = await gradient(() => quantizedLinear(x, quantized));
        expect(own, `${rows}×${inputs}×${outputs}, ${bits} bits`).toEqual(await gradient(() => linear(x, w)));
        for (const one of [x, up, quantized.codes, quantized.scales]) one.dispose();
      }
  });
});

describe.each(devicesTested)("quantizedLinearCrossEntropy on $name", ({ device }) => {
  const [rows, width, outputs] = [70, 33, 45];

  test.each(["f32", "bf16", "f16"] as const)("is the cross-entropy of all logits at once in %s", async (dtype) => {
    const weight = exactWeight(outputs, width, { bits: 4, groupSize: 32 });
    const options = { device, dtype };
    using x = parameter(tensor(normal(random, [2, rows / 2, width]).data, [2, rows / 2, width], options));
    using bias = parameter(tensor(normal(random, [outputs]).data, [outputs], options));
    const ids = Int32Array.from({ length: rows }, (_, i) => (i % 9 === 4 ? -100 : (i * 7) % outputs));
    using targets = tensor(ids, [2, rows / 2], { device });
    const quantized = scope(() => quantize(tensor(weight.data, weight.shape, { device }), { bits: 4 }));
    const results = async (loss: () => FloatTensor): Promise<Float32Array[]> => {
      using value = scope(() => {
        const value = loss();
        value.backward();
        return value;
      });
      const read = [await value.data(), await x.grad!.data(), await bias.grad!.data()];
      x.zeroGrad();
      bias.zeroGrad();
      return read;
    };
    const smoothed = { labelSmoothing: 0.1 };
    const expected = await results(() => crossEntropy(quantizedLinear(x, quantized, { bias }), targets, smoothed));
    for (const chunkRows of [undefined, 16, 1]) {
      const all = { ...smoothed, bias, ...(chunkRows && { chunkRows }) };
      const got = await results(() => quantizedLinearCrossEntropy(x, quantized, targets, all));
      for (const [i, name] of ["loss", "x", "bias"].entries())
        expectNear(name, got[i]!, expected[i]!, dtype === "f32" ? 1e-5 : dtype === "bf16" ? 0.02 : 0.003);
    }
    for (const one of [quantized.codes, quantized.scales]) one.dispose();
  });

  test("refuses what does not fit", async () => {
    using x = tensor(new Float32Array(8), [2, 4], { device });
    const weight = scope(() => quantize(tensor(new Float32Array(12), [3, 4], { device })));
    using targets = tensor(Int32Array.of(0, 3), [2], { device });
    using three = tensor(Int32Array.of(0, 1, 2), [3], { device });
    const loss = (options: object, ids = targets) => quantizedLinearCrossEntropy(x, weight, ids, options);
    expectError(() => loss({}, three), "ERR_SHAPE", /targets of shape \[2\], got \[3\]/);
    expectError(() => loss({ chunkRows: 0 }), "ERR_RANGE");
    expectError(() => loss({ labelSmoothing: 2 }), "ERR_RANGE");
    expectError(() => loss({ bias: x }), "ERR_SHAPE", /bias of shape \[3\]/);
    using outside = loss({});
    await expectRejection(outside.item(), "ERR_RANGE");
    for (const one of [weight.codes, weight.scales]) one.dispose();
  });
});
