/**
 * GPTQ beside its published recursion in float64, scales by search beside all scales of a fine grid, and what calibration
 * saves of a model's outputs on texts that it has not read.
 */
import path from "node:path";
import { describe, expect, test } from "vitest";
import { addAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { Bert } from "../../lib/models/bert.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { quantizationOf } from "../../lib/nn/quantization.js";
import { dequantize, quantize, quantizedBits, type QuantizedTensors } from "../../lib/ops/quantize.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { feedbackOf } from "../../lib/pretrained/gptq/feedback.js";
import { quantizeBySearch } from "../../lib/pretrained/gptq/quantize-by-search.js";
import { quantizeMatrix } from "../../lib/pretrained/gptq/quantize-matrix.js";
import { scope } from "../../lib/core/scope.js";
import { atOnce } from "../../lib/util/turns.js";
import { devices, someTokens } from "../generate/models.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { expectNoPause } from "../support/pauses.js";
import { Random } from "../support/random.js";

/** Numbers whose neighbours are correlated, and a few of which are large: rows of [rows, inputs]. */
function correlated(random: Random, rows: number, inputs: number): Float64Array {
  const x = new Float64Array(rows * inputs);
  for (let r = 0; r < rows; r++) {
    let last = 0;
    for (let i = 0; i < inputs; i++) {
      last = 0.8 * last + random.normal();
      x[r * inputs + i] = i % 7 === 3 ? 4 * last : last;
    }
  }
  return x;
}

function momentsOf(x: Float64Array, rows: number, inputs: number): Float64Array {
  const h = new Float64Array(inputs * inputs);
  for (let r = 0; r < rows; r++)
    for (let i = 0; i < inputs; i++)
      for (let j = 0; j < inputs; j++) h[i * inputs + j]! += x[r * inputs + i]! * x[r * inputs + j]!;
  return h;
}

/** Returns H⁻¹ by elimination without pivots, which a positive definite matrix does not need. */
function inverse(h: Float64Array, n: number): Float64Array {
  const a = Float64Array.from(h);
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) out[i * n + i] = 1;
  for (let p = 0; p < n; p++) {
    const pivot = a[p * n + p]!;
    for (let j = 0; j < n; j++) {
      a[p * n + j]! /= pivot;
      out[p * n + j]! /= pivot;
    }
    for (let i = 0; i < n; i++) {
      const factor = a[i * n + p]!;
      if (i === p || factor === 0) continue;
      for (let j = 0; j < n; j++) {
        a[i * n + j]! -= factor * a[p * n + j]!;
        out[i * n + j]! -= factor * out[p * n + j]!;
      }
    }
  }
  return out;
}

/** Returns the upper triangular factor R of a matrix RᵀR. */
function upperFactor(a: Float64Array, n: number): Float64Array {
  const r = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = i; j < n; j++) {
      let sum = a[i * n + j]!;
      for (let k = 0; k < i; k++) sum -= r[k * n + i]! * r[k * n + j]!;
      r[i * n + j] = i === j ? Math.sqrt(sum) : sum / r[i * n + i]!;
    }
  return r;
}

/** Returns the numbers, [out, in], that a weight stands for, and the scale of each. */
async function readWeight(
  weight: QuantizedTensors,
): Promise<{ numbers: Float32Array; scaleAt: (o: number, i: number) => number }> {
  using rows = dequantize(weight);
  const [numbers, scales] = [await rows.data(), await weight.scales.data()];
  const groups = weight.scales.shape[1]!;
  const size = (weight.codes.shape[1]! * 32) / weight.bits / groups;
  const scaleAt = (o: number, i: number): number =>
    scales[(Math.floor(o / 16) * groups + Math.floor(i / size)) * 16 + (o % 16)]!;
  return { numbers, scaleAt };
}

function free({ codes, scales }: QuantizedTensors): void {
  codes.dispose();
  scales.dispose();
}

const damping = 0.001; // of the mean second moment, as heed adds it

/** Returns (w - ŵ) H (w - ŵ)ᵀ, summed over the outputs. */
function lossOf(weight: Float32Array, numbers: Float32Array, h: Float64Array, inputs: number): number {
  let sum = 0;
  for (let o = 0; o < weight.length / inputs; o++)
    for (let i = 0; i < inputs; i++)
      for (let j = 0; j < inputs; j++) {
        const [a, b] = [o * inputs + i, o * inputs + j];
        sum += (weight[a]! - numbers[a]!) * h[i * inputs + j]! * (weight[b]! - numbers[b]!);
      }
  return sum;
}

describe.each(devices)("on %s", (device) => {
  test.each(
    quantizedBits.flatMap((bits) => [
      [bits, 17, 31, 32] as const,
      [bits, 33, 100, 32] as const,
      [bits, 5, 130, 64] as const,
      [bits, 16, 256, 256] as const,
    ]),
  )("GPTQ in %s bits: %s outputs, %s inputs in groups of %s", async (bits, outputs, inputs, groupSize) => {
    const random = new Random(bits + inputs);
    const rows = 3 * inputs;
    const h = momentsOf(correlated(random, rows, inputs), rows, inputs);
    const w = Float32Array.from({ length: outputs * inputs }, () => random.normal());
    const feedback = atOnce(feedbackOf(h, inputs));
    using weight = tensor(w, [outputs, inputs], { device });
    using columns = weight.viewAs([inputs, outputs], [1, inputs], 0, false);
    const made = await quantizeMatrix(columns, { bits, groupSize }, feedback);
    const { numbers, scaleAt } = await readWeight(made);
    free(made);

    // Frantar et al. 2022, algorithm 1, with the scales that were found.
    let trace = 0;
    for (let i = 0; i < inputs; i++) trace += h[i * inputs + i]!;
    const damped = Float64Array.from(h);
    for (let i = 0; i < inputs; i++) damped[i * (inputs + 1)]! += (damping * trace) / inputs;
    const r = upperFactor(inverse(damped, inputs), inputs);
    const [low, high] = bits === 8 ? [-127, 127] : [-8, 7];
    for (let o = 0; o < outputs; o++) {
      const left = Float64Array.from(w.subarray(o * inputs, (o + 1) * inputs));
      for (let j = 0; j < inputs; j++) {
        const scale = scaleAt(o, j);
        const code = Math.max(low, Math.min(high, Math.round(left[j]! / scale))) + 0; // not -0
        expect(Math.round(numbers[o * inputs + j]! / scale) + 0, `output ${o}, input ${j}`).toBe(code);
        const error = (left[j]! - code * scale) / r[j * inputs + j]!;
        for (let k = j; k < inputs; k++) left[k]! -= error * r[j * inputs + k]!;
      }
    }
    // Rounding to nearest makes the outputs much worse.
    const rounded = quantize(weight, { bits, groupSize });
    const nearest = await readWeight(rounded);
    free(rounded);
    const ratio = lossOf(w, numbers, h, inputs) / lossOf(w, nearest.numbers, h, inputs);
    expect(ratio).toBeLessThan(0.5);
  });

  test("scales by search have nearly the least error of all scales", async () => {
    const [outputs, inputs, groupSize] = [33, 96, 32] as const;
    const random = new Random(8);
    const w = Float32Array.from({ length: outputs * inputs }, () => random.normal());
    using weight = tensor(w, [outputs, inputs], { device });
    using columns = weight.viewAs([inputs, outputs], [1, inputs], 0, false);
    for (const bits of quantizedBits) {
      const made = await quantizeMatrix(columns, { bits, groupSize }, null);
      const rounded = quantize(weight, { bits, groupSize });
      const [{ numbers }, nearest] = [await readWeight(made), await readWeight(rounded)];
      free(made);
      free(rounded);
      const [low, high] = bits === 8 ? [-127, 127] : [-8, 7];
      let [found, best, before] = [0, 0, 0];
      for (let at = 0; at < w.length; at += groupSize) {
        const group = w.subarray(at, at + groupSize);
        const squares = (got: (i: number) => number): number => group.reduce((sum, x, i) => sum + (x - got(i)) ** 2, 0);
        found += squares((i) => numbers[at + i]!);
        before += squares((i) => nearest.numbers[at + i]!);
        const largest = Math.max(...group.map(Math.abs));
        let least = Infinity;
        for (let step = 0; step < 1000; step++)
          for (const sign of [-1, 1]) {
            const scale = (sign * largest * (0.7 + step / 2000)) / high;
            const error = squares((i) => Math.max(low, Math.min(high, Math.round(group[i]! / scale))) * scale);
            if (error < least) least = error;
          }
        best += least;
      }
      expect(found, `${bits} bits`).toBeLessThan(before);
      // Scales are rounded to bf16, which costs more in 8 bits; the grid's are not.
      expect(found / best, `${bits} bits`).toBeLessThan(bits === 4 ? 1.1 : 1.3);
    }
  });

  const sizes = { vocabularySize: 61, contextLength: 24, layers: 2, heads: 4, width: 64 };
  const kinds = {
    Llama: () => new Llama({ ...sizes, kvHeads: 2, feedForwardWidth: 96 }, { device, seed: 4 }),
    "Llama, tied": () => new Llama({ ...sizes, kvHeads: 2, feedForwardWidth: 96, tied: true }, { device, seed: 4 }),
    GPT: () => new GPT(sizes, { device, seed: 4 }),
    "GPT, its head apart": () => new GPT({ ...sizes, tied: false }, { device, seed: 4 }),
  };
  test.each(Object.entries(kinds))("%s: calibration makes other texts more exact", async (_, make) => {
    // The software device is slow.
    const texts = Array.from({ length: device === "cpu" ? 24 : 10 }, (_, i) => Int32Array.from(someTokens(20, i)));
    const made = (): CausalDecoder => {
      const model = make();
      const shake = new Random(5);
      for (const [, weight] of model.namedParameters())
        if (weight.shape.length === 2)
          weight.set(Array.from({ length: weight.size }, () => 0.1 * shake.normal() + 0.01));
      return model.train();
    };
    const outputs = async (model: CausalDecoder): Promise<Float32Array> => {
      model.eval();
      using ids = tensor(Int32Array.from(someTokens(100, 99)), [5, 20], { device });
      using out = noGrad(() => scope(() => model.forward(ids)));
      model.train();
      return await out.data();
    };
    using plain = made();
    const exact = await outputs(plain);
    const errorOf = async (model: CausalDecoder): Promise<number> => {
      const got = await outputs(model);
      return got.reduce((sum, y, i) => sum + (y - exact[i]!) ** 2, 0);
    };
    using rounded = made();
    rounded.quantize({ bits: 4 });
    using searched = made();
    const seen: number[] = [];
    const onProgress = ({ quantized, total }: { quantized: number; total: number }): void => {
      seen.push(quantized, total);
    };
    await quantizeBySearch(searched, { bits: 4, onProgress });
    using calibrated = made();
    expect(await quantizeBySearch(calibrated, { bits: 4, texts, onProgress })).toBe(calibrated);
    const total = seen.length / 4;
    expect(seen.filter((_, i) => i % 2 === 0)).toEqual(
      [1, 2].flatMap(() => Array.from({ length: total }, (_, i) => i + 1)),
    );
    expect(new Set(seen.filter((_, i) => i % 2 === 1))).toEqual(new Set([total]));
    expect(calibrated.training).toBe(true);
    expect(quantizationOf("test", calibrated)).toEqual({ bits: 4, groupSize: 32 });
    const errors = [await errorOf(rounded), await errorOf(searched), await errorOf(calibrated)] as const;
    expect(errors[1]).toBeLessThan(errors[0]);
    expect(errors[2]).toBeLessThan(0.7 * errors[0]);
  });

  test("a file in Q4_0 has exactly the weights that were chosen", async () => {
    using model = new GPT(sizes, { device, seed: 4 });
    await quantizeBySearch(model, { bits: 4, texts: [Int32Array.from(someTokens(20, 1))] });
    model.dequantize();
    const file = path.join(temporaryFolder(), "model.gguf");
    await saveGguf(file, model, { type: "Q4_0" });
    const { model: stored } = await loadGguf(file, { device, quantize: false });
    const saved = stored.stateDict();
    const plus0 = (x: Float32Array): Float32Array => x.map((value) => value + 0); // not -0
    for (const [name, tensor] of model.namedParameters())
      expect(plus0(await saved[name]!.data()), name).toEqual(plus0(await tensor.data()));
    stored.dispose();
  });

  test("models that read no texts have their scales searched; bad input is an error", async () => {
    using bert = new Bert({ ...sizes, feedForwardWidth: 96 }, { device, seed: 4 });
    const texts = [Int32Array.of(1, 2, 3)];
    await expectRejection(
      quantizeBySearch(bert, { texts }),
      "ERR_ARGUMENT",
      /expected a GPT or a Llama to read the texts/,
    );
    expect((await quantizeBySearch(bert)).isQuantized).toBe(true);
    await expectRejection(quantizeBySearch(bert), "ERR_ARGUMENT", /not quantised, got a quantised one/);
    using model = new GPT(sizes, { device });
    await expectRejection(quantizeBySearch(null as never), "ERR_ARGUMENT", /expected a model/);
    await expectRejection(quantizeBySearch(model, null as never), "ERR_ARGUMENT", /options/);
    await expectRejection(quantizeBySearch(model, { bits: 3 as never }), "ERR_ARGUMENT", /bits to be 8 or 4, got 3/);
    await expectRejection(quantizeBySearch(model, { texts: 3 as never }), "ERR_ARGUMENT", /texts/);
    const empty = [Int32Array.of()];
    await expectRejection(quantizeBySearch(model, { texts: empty }), "ERR_ARGUMENT", /texts with tokens, got none/);
    expect(model.isQuantized).toBe(false);
    model.wpe!.weight.set(new Float32Array(model.wpe!.weight.size).fill(NaN));
    await expectRejection(quantizeBySearch(model, { texts }), "ERR_RANGE", /finite activations/);
    using adapted = new GPT(sizes, { device });
    addAdapter(adapted, { rank: 2 });
    await expectRejection(quantizeBySearch(adapted), "ERR_ARGUMENT", /without adapters, got one at/);
  });
});

test("choosing codes leaves the event loop free", async () => {
  const [outputs, inputs] = [512, 512];
  const random = new Random(2);
  using weight = tensor(
    Float32Array.from({ length: outputs * inputs }, () => random.normal()),
    [inputs, outputs],
    {
      device: "cpu",
    },
  );
  const feedback = atOnce(feedbackOf(momentsOf(correlated(random, 20, inputs), 20, inputs), inputs));
  await expectNoPause(async () => free(await quantizeMatrix(weight, { bits: 4, groupSize: 32 }, feedback)));
});
