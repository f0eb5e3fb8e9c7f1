/**
 * Folders whose weights are in heed's own codes: what is saved is read back bit for bit on every instruction set and
 * device, Python reads the same numbers, and damaged folders are refused.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { addAdapter, mergeAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { readSafetensors, type SafetensorsInput, writeSafetensors } from "../../lib/formats/safetensors.js";
import { load } from "../../lib/load/load.js";
import { Bert } from "../../lib/models/bert.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import { GPT } from "../../lib/models/gpt.js";
import { Llama } from "../../lib/models/llama.js";
import { T5 } from "../../lib/models/t5.js";
import type { Module } from "../../lib/nn/module.js";
import { QuantizedWeight } from "../../lib/nn/quantized-weight.js";
import { WeightLayer } from "../../lib/nn/weight-layer.js";
import { dequantize, groupSizes, quantizedBits, type QuantizeOptions } from "../../lib/ops/quantize.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained, type SavePretrainedOptions } from "../../lib/pretrained/save-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { Trainer } from "../../lib/train/trainer.js";
import { tokenData } from "../../lib/data/token-data.js";
import { someTokens } from "../generate/models.js";
import { expectError, expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { instanceOf } from "../support/instance.js";
import { expectNoPause } from "../support/pauses.js";
import { numpy } from "../support/python.js";
import { shaken } from "../support/shaken.js";
import { describeUnless } from "../support/skip.js";
import { targets } from "../support/targets.js";

let folder = "";
beforeEach(() => {
  folder = path.join(temporaryFolder(), "model");
});

/** Widths and vocabularies that fill neither panels of 16 outputs nor groups nor, with odd inputs, bytes. */
const size = { vocabularySize: 61, contextLength: 24, layers: 2, heads: 4, width: 40 };
const llamaSize = { ...size, kvHeads: 2, feedForwardWidth: 73 };

interface Kind<K extends keyof PretrainedKinds = keyof PretrainedKinds> {
  name: string;
  kind: K;
  make: (device: string) => PretrainedKinds[K];
  run: (model: never, ids: IntTensor) => FloatTensor;
}

const causal = (name: string, make: (device: string) => CausalDecoder): Kind => {
  return { name, kind: "causal", make, run: (model: CausalDecoder, ids) => model.forward(ids) };
};
const pair = (name: string, make: (device: string) => T5 | EncoderDecoder): Kind => {
  return { name, kind: "encoder-decoder", make, run: (model: T5 | EncoderDecoder, ids) => model.forward(ids, ids) };
};

const kinds: Kind[] = [
  causal("GPT-2, whose head is the table of tokens", (device) => new GPT(size, { device })),
  causal("GPT with a head of its own, gated", (device) => new GPT({ ...size, tied: false, gated: true }, { device })),
  causal("Llama with an odd number of inputs", (device) => new Llama(llamaSize, { device })),
  causal("Llama whose head is the table of tokens", (device) => new Llama({ ...llamaSize, tied: true }, { device })),
  {
    name: "BERT",
    kind: "encoder",
    make: (device) => new Bert({ ...size, feedForwardWidth: 72 }, { device }),
    run: (model: Bert, ids) => model.forward(ids),
  },
  pair("T5", (device) => new T5({ ...size, feedForwardWidth: 72, gated: true }, { device })),
  pair("Marian, whose files cut projections into parts", (device) => {
    const { vocabularySize: sourceVocabularySize, ...rest } = size;
    const ends = { startToken: 1, endToken: 2 };
    const vocabularies = { sourceVocabularySize, targetVocabularySize: 61, shared: false, tied: false };
    const marian = { norm: "post", logitsBias: true, sinusoids: { layout: "halves" }, suppressedTokens: [0] } as const;
    return new EncoderDecoder({ ...rest, ...ends, ...vocabularies, ...marian }, { device });
  }),
];

async function outputs(model: Module, { run }: Kind, device: string): Promise<Float32Array> {
  using ids = tensor(Int32Array.from(someTokens(20, 3)), [2, 10], { device });
  using out = noGrad(() => scope(() => run(model as never, ids).to("f32")));
  return await out.data();
}

function quantizedLayers(model: Module): Map<string, QuantizedWeight> {
  const found = new Map<string, QuantizedWeight>();
  for (const [name, layer] of model.modules())
    if (layer instanceof WeightLayer && layer.quantized instanceof QuantizedWeight) found.set(name, layer.quantized);
  return found;
}

/** Expects codes and scales of the same bits, those of padding included. */
async function expectSameCodes(got: Module, expected: Module): Promise<void> {
  const [ours, theirs] = [quantizedLayers(got), quantizedLayers(expected)];
  expect([...ours.keys()]).toEqual([...theirs.keys()]);
  expect(ours.size).toBeGreaterThan(4);
  for (const [name, weight] of ours) {
    const other = theirs.get(name)!;
    expect([weight.bits, weight.groupSize, weight.inputs, weight.outputs], name).toEqual([
      ...[other.bits, other.groupSize, other.inputs, other.outputs],
    ]);
    expect(Buffer.compare(await weight.codes.data(), await other.codes.data()), name).toBe(0);
    expect(await weight.scales.data(), name).toEqual(await other.scales.data());
  }
}

describe.each(targets)("on $name", ({ device, select }) => {
  beforeEach(select);

  test.each(kinds)("$name: outputs have the same bits", async (kind) => {
    for (const options of quantizedBits.flatMap((bits) =>
      ([32, 64] as const).map((groupSize) => ({ bits, groupSize }) as const),
    )) {
      using model = shaken(kind.make(device)).eval().quantize(options);
      const expected = await outputs(model, kind, device);
      await savePretrained(folder, model, { overwrite: true });
      const loaded = await loadPretrained(folder, { kind: kind.kind, device });
      using read = loaded.model;
      expect(loaded.ignored).toEqual([]);
      await expectSameCodes(read, model);
      expect(await outputs(read, kind, device)).toEqual(expected);
      const { quantization_config } = JSON.parse(readFileSync(path.join(folder, "config.json"), "utf8"));
      expect(quantization_config).toEqual({
        ...{ quant_method: "heed", version: 1, bits: options.bits, group_size: options.groupSize },
      });
    }
  });
});

const [gpt, , llama] = kinds as [Kind, Kind, Kind];

async function saved(
  kind: Kind,
  quantize: QuantizeOptions,
  options: SavePretrainedOptions = {},
): Promise<PretrainedKinds[keyof PretrainedKinds]> {
  const model = shaken(kind.make("cpu")).eval().quantize(quantize);
  await savePretrained(folder, model, { ...options, overwrite: true });
  return model;
}

test.each([gpt, llama])("$name: every size of groups, in shards and in bf16", async (kind) => {
  for (const groupSize of groupSizes) {
    using model = await saved(kind, { bits: 4, groupSize }, { shardBytes: 3000 });
    using read = (await load(folder, { device: "cpu", dtype: "bf16" })).model;
    await expectSameCodes(read, model);
    expect([...read.namedParameters()].every(([, { dtype }]) => dtype === "bf16")).toBe(true);
  }
});

test.each([gpt, llama])("$name: floats, the same codes or others, as the option quantize says", async (kind) => {
  for (const bits of quantizedBits) {
    using model = await saved(kind, { bits });
    using floats = (await load(folder, { device: "cpu", quantize: false })).model;
    using kept = (await load(folder, { device: "cpu", quantize: bits })).model;
    using other = (await load(folder, { device: "cpu", quantize: { bits, groupSize: 128 } })).model;
    await expectSameCodes(kept, model);
    expect(floats.isQuantized).toBe(false);
    expect(floats.parameters().every(({ requiresGrad }) => requiresGrad)).toBe(true);
    model.dequantize();
    const expected = model.stateDict();
    expect(Object.keys(floats.stateDict()).sort()).toEqual(Object.keys(expected).sort());
    for (const [name, weight] of floats.namedParameters())
      expect(await weight.data(), name).toEqual(await expected[name]!.data());
    await expectSameCodes(other, model.quantize({ bits, groupSize: 128 }));
  }
});

test("a model whose pairs of rotary positions are neighbours has the rows of its queries and keys reordered", async () => {
  const file = `${folder}.gguf`;
  using made = shaken(new Llama(llamaSize, { device: "cpu" }));
  await saveGguf(file, made);
  const { model } = await loadGguf(file, { device: "cpu" });
  expect(instanceOf(Llama, model).config.interleaved).toBe(true);
  using plain = await loadPretrained(await savedAs("plain", model), { device: "cpu" }).then(({ model }) => model);
  model.quantize({ bits: 4 });
  using read = await loadPretrained(await savedAs("codes", model), { device: "cpu" }).then(({ model }) => model);
  await expectSameCodes(read, plain.quantize({ bits: 4 }));
  model.dispose();
});

async function savedAs(name: string, model: Module): Promise<string> {
  const to = path.join(path.dirname(folder), name);
  await savePretrained(to, model);
  return to;
}

test("an adapter is trained over a loaded model and merged; its own weights are not trained", async () => {
  (await saved(gpt, { bits: 4 })).dispose();
  const loaded = await load(folder, { device: "cpu", kind: "causal" });
  using model = loaded.model;
  const data = tokenData(Int32Array.from(someTokens(200, 1)));
  expectError(() => new Trainer({ model, data, batchSize: 1, steps: 1 }), "ERR_ARGUMENT", /quantised/);
  addAdapter(model, { rank: 2 });
  let steps = 0;
  for await (const { type } of new Trainer({ model, data, batchSize: 2, contextLength: 8, steps: 2 }).run())
    if (type === "step") steps++;
  expect(steps).toBe(2);
  await expectRejection(savePretrained(`${folder}-2`, model), "ERR_ARGUMENT", /without adapters/);
  mergeAdapter(model.dequantize());
  expect(model.isQuantized).toBe(false);
});

test("models that are quantised in different ways, or in blocks, are refused", async () => {
  using model = new GPT({ ...size, width: 64 }, { device: "cpu" });
  model.h[0]!.mlp.c_fc.quantize({ bits: 4 });
  await expectRejection(savePretrained(folder, model), "ERR_ARGUMENT", /same way, got .*no quantisation/);
  model.dequantize();
  await saveGguf(`${folder}.gguf`, model, { type: "Q8_0" });
  const { model: blocks } = await loadGguf(`${folder}.gguf`, { device: "cpu" });
  await expectRejection(savePretrained(folder, blocks), "ERR_ARGUMENT", /not quantised, got a quantised one/);
  blocks.dispose();
});

test("neither saving nor loading a large matrix holds up the event loop", { timeout: 60_000 }, async () => {
  const wide = { ...llamaSize, layers: 1, vocabularySize: 40_000, width: 256, tied: true };
  using model = new Llama(wide, { device: "cpu" }).quantize({ bits: 4 });
  await expectNoPause(() => savePretrained(folder, model, { overwrite: true }));
  await expectNoPause(async () => (await load(folder, { device: "cpu" })).dispose());
});

const program = `
import json, sys, numpy, safetensors
folder = sys.argv[1]
config = json.load(open(folder + "/config.json"))["quantization_config"]
tensors = dict(safetensors.deserialize(open(folder + "/model.safetensors", "rb").read()))
def array(name, dtype):
    return numpy.frombuffer(bytes(tensors[name]["data"]), dtype).reshape(tensors[name]["shape"])
result = {}
for name in tensors:
    if name + "_scale" not in tensors: continue
    scales = (array(name + "_scale", numpy.uint16).astype(numpy.uint32) << 16).view(numpy.float32)
    if config["bits"] == 8: codes = array(name, numpy.int8).astype(numpy.float32)
    else:
        packed = array(name, numpy.uint8)
        codes = numpy.stack([packed & 15, packed >> 4], -1).reshape(len(packed), -1).astype(numpy.float32) - 8
    numbers = codes * numpy.repeat(scales, config["group_size"], 1)[:, :codes.shape[1]]
    result[name] = [codes.shape[1], numbers.astype(numpy.float64).ravel().tolist()]
json.dump(result, sys.stdout)
`;
describeUnless(numpy.missing)("python3-safetensors and numpy", () => {
  test.each([gpt, llama])("$name: the numbers are those of dequantize", async (kind) => {
    for (const bits of quantizedBits) {
      using model = await saved(kind, { bits, groupSize: 32 });
      const output = execFileSync(numpy.command, ["-c", program, folder], { encoding: "utf8", maxBuffer: 1e8 });
      const read = JSON.parse(output) as Record<string, [width: number, values: number[]]>;
      const layers = quantizedLayers(model);
      expect(Object.keys(read).sort()).toEqual([...layers.keys()].map((name) => `${name}.weight`).sort());
      for (const [name, weight] of layers) {
        using numbers = dequantize(weight);
        const expected = await numbers.data();
        const { inputs } = weight;
        const [width, values] = read[`${name}.weight`]!;
        expect(width).toBe(bits === 8 ? inputs : inputs + (inputs % 2));
        // Adding 0 makes no difference between 0 and -0.
        const ours = values.filter((_, i) => i % width < inputs);
        expect(
          ours.map((x) => x + 0),
          name,
        ).toEqual(Array.from(expected, (x) => x + 0));
        expect(values.every((x, i) => i % width < inputs || x === 0)).toBe(true);
      }
    }
  });
});

/** Writes the folder again with other tensors and another entry of config.json. */
async function changed(
  change: (tensors: Map<string, SafetensorsInput>) => void,
  entry: Record<string, unknown> | null = {},
): Promise<void> {
  const file = path.join(folder, "model.safetensors");
  const tensors = new Map<string, SafetensorsInput>();
  {
    await using read = await readSafetensors(file);
    for (const [name, { dtype, shape }] of read.tensors)
      tensors.set(name, { name, dtype, shape, data: await read.read(name) });
  }
  change(tensors);
  await writeSafetensors(file, tensors.values());
  const config = path.join(folder, "config.json");
  const { quantization_config, ...rest } = JSON.parse(readFileSync(config, "utf8")) as Record<string, object>;
  writeFileSync(
    config,
    JSON.stringify({ ...rest, ...(entry && { quantization_config: { ...quantization_config, ...entry } }) }),
  );
}

describe("a damaged folder is refused", () => {
  const name = "h.1.mlp.c_fc.weight";
  const scale = `${name}_scale`;
  const replace = (tensors: Map<string, SafetensorsInput>, name: string, by: Partial<SafetensorsInput>): void =>
    void tensors.set(name, { ...tensors.get(name)!, ...by });
  type Change = (tensors: Map<string, SafetensorsInput>) => void;
  test.each<[string, Change, Record<string, unknown> | null, RegExp]>([
    ["no scales", (tensors) => tensors.delete(scale), {}, /expected h\.1\.mlp\.c_fc\.weight_scale .*BF16.* got none/],
    [
      "no codes",
      (tensors) => tensors.delete(name),
      {},
      /expected a tensor for every parameter|expected h\.1\.mlp\.c_fc/,
    ],
    [
      "scales of another dtype",
      (tensors) => replace(tensors, scale, { dtype: "F16" }),
      {},
      /expected h\.1\.mlp\.c_fc\.weight_scale of dtype BF16 and shape \[160, 2\], got F16 \[160, 2\]/,
    ],
    [
      "scales of another shape",
      (tensors) => replace(tensors, scale, { shape: [2, 160] }),
      {},
      /weight_scale of dtype BF16 and shape \[160, 2\], got BF16 \[2, 160\]/,
    ],
    [
      "codes of another shape",
      (tensors) => {
        replace(tensors, name, { shape: [80, 40] });
        replace(tensors, scale, { shape: [80, 3], data: new Uint8Array(480) });
      },
      {},
      /expected h\.1\.mlp\.c_fc\.weight of shape \[40, 160\], got \[80, 80\]/,
    ],
    [
      "codes of one dimension",
      (tensors) => replace(tensors, name, { shape: [3200] }),
      {},
      /codes of 4 bits in h\.1\.mlp\.c_fc\.weight of dtype U8 and shape \[outputs, bytes\], got U8 \[3200\]/,
    ],
    ["codes of 8 bits", () => undefined, { bits: 8 }, /codes of 8 bits in .* of dtype I8 .*, got U8/],
    [
      "codes for a bias",
      (tensors) => {
        replace(tensors, "h.0.mlp.c_fc.bias", { dtype: "U8", shape: [160, 4] });
        const data = new Uint8Array(320);
        tensors.set("h.0.mlp.c_fc.bias_scale", {
          name: "h.0.mlp.c_fc.bias_scale",
          dtype: "BF16",
          shape: [160, 1],
          data,
        });
      },
      {},
      /expected numbers in h\.0\.mlp\.c_fc\.bias, got codes/,
    ],
    ["another version", () => undefined, { version: 2 }, /quantization_config\.version to be 1, got 2/],
    ["unknown bits", () => undefined, { bits: 5 }, /quantization_config\.bits to be 8 or 4, got 5/],
    [
      "unknown groups",
      () => undefined,
      { group_size: "32" },
      /config\.json: expected quantization_config\.group_size to be 32, 64, 128 or 256, got "32"/,
    ],
    ["no entry in config.json", () => undefined, null, /expected .*weight|expected only the model's parameters/],
    ["another method", () => undefined, { quant_method: "gptq" }, /expected .*weight|expected only the model's/],
  ])("%s", async (_, change, entry, message) => {
    (await saved(gpt, { bits: 4 })).dispose();
    await changed(change, entry);
    await expectRejection(loadPretrained(folder, { device: "cpu" }), "ERR_FORMAT", message);
  });
});
