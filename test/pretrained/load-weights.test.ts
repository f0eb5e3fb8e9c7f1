/** Tests how the numbers of a file get into a model: as they are stored, or quantised as they arrive. */
import { createHash } from "node:crypto";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { device as deviceOf } from "../../lib/core/device.js";
import type { FloatDType } from "../../lib/core/dtype.js";
import { HeedError } from "../../lib/util/errors.js";
import { readSafetensors, type SafetensorsFile, writeSafetensors } from "../../lib/formats/safetensors.js";
import type { WeightEntry, WeightFile } from "../../lib/formats/weights.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { Module } from "../../lib/nn/module.js";
import { type groupSizes as allowed, type QuantizeOptions, quantizedBits } from "../../lib/ops/quantize.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { loadCTranslate2 } from "../../lib/pretrained/families/load-ctranslate2.js";
import { load } from "../../lib/load/load.js";
import { loadModel } from "../../lib/pretrained/load-model.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { loadFrom, loadWeights } from "../../lib/pretrained/load-weights.js";
import { saveLlama2c } from "../../lib/pretrained/families/save-llama2c.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { empty } from "../../lib/core/creation.js";
import { parameter } from "../../lib/core/autograd.js";
import { type FloatTensor, Tensor } from "../../lib/core/tensor.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { onEachDevice } from "../support/targets.js";
import { writeTinyTranslator } from "../support/tiny-translator.js";

/** A file that ends at one of its tensors, or lacks one. */
class Interrupted implements WeightFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, WeightEntry>;
  /** Number of tensors that were read. */
  read = 0;

  constructor(
    private readonly whole: SafetensorsFile,
    private readonly last: string,
    missing = "",
  ) {
    this.path = whole.path;
    this.tensors = new Map([...whole.tensors].filter(([name]) => name !== missing));
  }

  readFloats(name: string): Promise<Float32Array> {
    return this.whole.readFloats(name);
  }

  async *readPieces(name: string): AsyncGenerator<Float32Array> {
    this.read++;
    for await (const piece of this.whole.readPieces(name)) {
      if (name === this.last) {
        yield piece.subarray(0, 40);
        throw new HeedError("ERR_IO", "the disk is gone");
      }
      yield piece;
    }
  }

  async close(): Promise<void> {
    await this.whole.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

class Holder extends Module {
  constructor(readonly weight: FloatTensor) {
    super();
  }
}

/** Returns the dtype of every tensor of a model and a digest of its bytes, by its name. */
async function contentsOf(model: Module): Promise<Record<string, string>> {
  const contents: Record<string, string> = {};
  for (const [prefix, module] of model.modules())
    for (const [name, value] of Object.entries(module))
      if (value instanceof Tensor && !value.disposed) {
        const bytes = new Uint8Array((await value.data()).buffer);
        contents[`${prefix}.${name}`] = `${value.dtype} ${createHash("sha256").update(bytes).digest("hex")}`;
      }
  return contents;
}

describe("weights that are quantised as they arrive equal those quantised afterwards", () => {
  type Load = (options: { dtype?: FloatDType; quantize?: QuantizeOptions }) => Promise<Module>;

  async function expectSame(load: Load, dtypes: FloatDType[], groupSizes: (typeof allowed)[number][]) {
    for (const dtype of dtypes)
      for (const bits of quantizedBits)
        for (const groupSize of groupSizes) {
          using got = await load({ dtype, quantize: { bits, groupSize } });
          using expected = await load({ dtype });
          expect(got.isQuantized).toBe(true);
          expected.quantize({ bits, groupSize });
          expect(await contentsOf(got)).toEqual(await contentsOf(expected));
        }
  }

  // Matrices are larger than a piece, and their sizes are not multiples of a part.
  const size = { vocabularySize: 1501, contextLength: 8, layers: 1, heads: 4, width: 520, feedForwardWidth: 1300 };

  test("of a folder, in f32, bf16 and shards", async () => {
    const folder = temporaryFolder();
    using gpt = new GPT(size, { seed: 1, device: "cpu" });
    await savePretrained(path.join(folder, "f32"), gpt, { shardBytes: 4e6 });
    await savePretrained(path.join(folder, "bf16"), gpt, { dtype: "bf16" });
    for (const [name, dtypes] of [
      ["f32", ["f32", "bf16"] as const],
      ["bf16", ["bf16"] as const],
    ] as const)
      await expectSame(
        async (options) => (await loadModel(path.join(folder, name), { device: "cpu", ...options })).model,
        [...dtypes],
        name === "f32" ? [32, 256] : [64],
      );
  });

  test("of a GGUF file, whose matrices are transposed", async () => {
    const file = path.join(temporaryFolder(), "model.gguf");
    using gpt = new GPT(size, { seed: 1, device: "cpu" });
    await saveGguf(file, gpt, { type: "F16" });
    await expectSame(async (options) => (await loadModel(file, { device: "cpu", ...options })).model, ["f32"], [32]);
  });

  test("of a checkpoint of llama2.c", async () => {
    const file = path.join(temporaryFolder(), "model.bin");
    using llama = new Llama({ ...size, kvHeads: 2, width: 64, feedForwardWidth: 72 }, { seed: 1, device: "cpu" });
    await saveLlama2c(file, llama);
    await expectSame(async (options) => (await loadModel(file, { device: "cpu", ...options })).model, ["f32"], [32]);
  });

  test("of a matrix that the file has in several tensors", async () => {
    const folder = path.join(temporaryFolder(), "model");
    const sizes = { sourceVocabularySize: 90, targetVocabularySize: 90, startToken: 1, endToken: 2 };
    const config = {
      ...sizes,
      width: 440,
      feedForwardWidth: 50,
      heads: 4,
      layers: 1,
      contextLength: 8,
      shared: true,
      tied: true,
    };
    using marian = new EncoderDecoder(
      { ...config, norm: "post", logitsBias: true, sinusoids: { layout: "halves" }, suppressedTokens: [0] },
      { seed: 1, device: "cpu" },
    );
    await savePretrained(folder, marian);
    const options = { kind: "encoder-decoder", device: "cpu" } as const;
    await expectSame(async (more) => (await loadPretrained(folder, { ...options, ...more })).model, ["f32"], [32]);
  });

  test("of a folder of CTranslate2", async () => {
    const folder = temporaryFolder();
    writeTinyTranslator(folder);
    await expectSame(
      async (options) => (await loadCTranslate2(folder, { device: "cpu", ...options })).model,
      ["f32"],
      [32],
    );
    using translator = await load(folder, { kind: "encoder-decoder", device: "cpu", quantize: 4 });
    expect(translator.model.isQuantized).toBe(true);
    await expectRejection(
      loadCTranslate2(folder, { quantize: 3 as never }),
      "ERR_ARGUMENT",
      /expected bits to be 8 or 4/,
    );
  });
});

onEachDevice((device) => {
  const size = { vocabularySize: 50, contextLength: 8, layers: 2, heads: 2, width: 32 };
  const live = () => deviceOf(device).memory().live;

  test("numbers stored in 16 bits have the same values as in f32", async () => {
    const file = path.join(temporaryFolder(), "model.safetensors");
    // Every number of both types.
    const bits = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i);
    await writeSafetensors(
      file,
      (["BF16", "F16"] as const).map((dtype) => ({ name: dtype, dtype, shape: [2 ** 16], data: bits })),
    );
    await using weights = await readSafetensors(file);
    for (const stored of ["BF16", "F16"] as const)
      for (const dtype of ["f32", "bf16", "f16"] as const) {
        using model = new Holder(parameter(empty([2 ** 16], { dtype })));
        await loadWeights(model, weights, { nameInFile: () => stored, ignored: ["BF16", "F16"] });
        using expected = empty([2 ** 16], { dtype });
        expected.set(await weights.readFloats(stored));
        const [got, floats] = [await model.weight.data(), await expected.data()];
        expect(got.findIndex((value, i) => !Object.is(value, floats[i]))).toBe(-1);
      }
  });

  test("a model has no memory before its numbers arrive, and none is left if they do not", async () => {
    const folder = path.join(temporaryFolder(), "model");
    using gpt = new GPT(size, { seed: 1 });
    await savePretrained(folder, gpt);
    await using weights = await readSafetensors(path.join(folder, "model.safetensors"));
    const before = live();
    for (const quantize of [null, { bits: 8 }, { bits: 4 }] as const) {
      const cut = new Interrupted(weights, "h.1.mlp.c_proj.weight");
      await expectRejection(
        loadFrom(
          cut,
          () => {
            const model = new GPT(size);
            expect(live()).toBe(before);
            return model;
          },
          () => ({ quantize }),
        ),
        "ERR_IO",
        /the disk is gone/,
      );
      expect(cut.read).toBeGreaterThan(10);
      expect(live()).toBe(before);
    }
    deviceOf(device).resetPeak();
    const missing = new Interrupted(weights, "", "ln_f.bias");
    await expectRejection(
      loadFrom(missing, () => new GPT(size)),
      "ERR_FORMAT",
      /got none for ln_f.bias/,
    );
    expect(deviceOf(device).memory().peak).toBe(before);
  });

  test("tied weights stay one", async () => {
    const folder = path.join(temporaryFolder(), "model");
    using gpt = new GPT(size, { seed: 1 });
    await savePretrained(folder, gpt);
    const before = live();
    const { model } = await loadModel(folder);
    expect(live() - before).toBe(4 * gpt.parameterCount());
    expect(model.parameterCount()).toBe(gpt.parameterCount());
    model.dispose();
    expect(live()).toBe(before);
  });
});
