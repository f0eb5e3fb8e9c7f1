/**
 * Tests that a model that is loaded for inference in f32 keeps the matrices that its file stores in bf16 or f16 as they
 * are, and computes what it would compute with the same numbers in f32.
 */
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { addAdapter, mergeAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { elementBytes } from "../../lib/core/dtype.js";
import { load } from "../../lib/load/load.js";
import { Bert } from "../../lib/models/bert.js";
import type { CausalDecoder } from "../../lib/models/causal-decoder.js";
import { Llama } from "../../lib/models/llama.js";
import { BlockWeight } from "../../lib/nn/quantized-weight.js";
import { WeightLayer } from "../../lib/nn/weight-layer.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { smallGpt, someTokens } from "../generate/models.js";
import { sharedFolder } from "../support/folder.js";
import { devicesTested } from "../support/targets.js";

type Decoder = CausalDecoder;
const folder = sharedFolder();
const at = (...names: string[]): string => path.join(folder, ...names);
const kind = "causal";
const device = "cpu";
const dtype = "f32";
const ids = someTokens(20, 3);

/** Files of models, each with the dtype in which it stores its matrices. */
const files = {
  "llama-bf16": "bf16",
  "llama-f16": "f16",
  "llama-bf16.gguf": "bf16",
  "llama-f16.gguf": "f16",
  "tied-f16.gguf": "f16",
  "gpt-f16": "f16",
  "gpt-bf16.gguf": "bf16",
  "gpt-f16.gguf": "f16",
} as const;

beforeAll(async () => {
  const sizes = { vocabularySize: 61, contextLength: 24, layers: 2, heads: 2, width: 32, feedForwardWidth: 80 };
  using llama = new Llama(sizes, { device, seed: 4 });
  using tied = new Llama({ ...sizes, tied: true }, { device, seed: 5 });
  using gpt = smallGpt(device);
  for (const dtype of ["bf16", "f16"] as const) {
    const type = dtype.toUpperCase() as "BF16" | "F16";
    for (const [name, model] of Object.entries({ llama, tied, gpt })) {
      await savePretrained(at(`${name}-${dtype}`), model, { dtype });
      await saveGguf(at(`${name}-${dtype}.gguf`), model, { type });
    }
  }
  // Rows of 80 do not fill blocks of 32, so that they are stored in F16.
  await saveGguf(at("q8.gguf"), llama, { type: "Q8_0" });
  using bert = new Bert({ ...sizes, feedForwardWidth: 64 }, { device, seed: 5 });
  await savePretrained(at("bert"), bert, { dtype: "bf16" });
});

/** Returns the matrices of layers that are not in blocks. */
const matricesOf = (model: Decoder | Bert): Set<FloatTensor> =>
  new Set(
    [...model.modules()].flatMap(([, layer]) =>
      layer instanceof WeightLayer && layer.quantizable && !layer.quantized ? [layer.weight] : [],
    ),
  );

const rowOf = (tokens: readonly number[], on = device) =>
  tensor(Int32Array.from(tokens), [1, tokens.length], { dtype: "i32", device: on });

/** Returns the logits after each of the tokens, computed at once. */
async function logitsOf(model: Decoder): Promise<Float32Array> {
  using logits = noGrad(() => scope(() => model.forward(rowOf(ids, model.device.name))));
  expect(logits.dtype).toBe(model.dtype);
  return new Float32Array(await logits.to("f32").data());
}

/** Returns the logits after each of the tokens, computed one by one as decoding does. */
async function decodedLogits(model: Decoder): Promise<Float32Array> {
  const cache = model.createCache(1);
  const rows: Float32Array[] = [];
  for (const id of ids) {
    using logits = noGrad(() => scope(() => model.forward(rowOf([id]), { cache, lastOnly: true })));
    rows.push(new Float32Array(await logits.data()));
  }
  cache.dispose();
  return Float32Array.from(rows.flatMap((row) => [...row]));
}

const lossOf = (model: Decoder): FloatTensor => model.loss(rowOf(ids.slice(0, -1)), rowOf(ids.slice(1)));

/** Expects that no number differs by more than `most`. */
function expectNear(got: Float32Array, expected: Float32Array, most: number): void {
  expect(got.length).toBe(expected.length);
  expect(Math.max(...got.map((value, i) => Math.abs(value - expected[i]!)))).toBeLessThan(most);
}

describe.for(Object.entries(files))("%s", ([name, stored]) => {
  test("its matrices stay as stored, in half the memory, and its logits are those of f32", async () => {
    using loaded = await load(at(name), { kind, device, dtype });
    using plain = await load(at(name), { kind, device, dtype, storedDtype: false });
    const { model } = loaded;
    expect(model.dtype).toBe("f32");
    const matrices = matricesOf(model);
    expect(matrices.size).toBeGreaterThan(8);
    for (const parameter of model.parameters())
      expect(parameter.dtype, String(parameter)).toBe(matrices.has(parameter) ? stored : "f32");
    const numbers = [...matrices].reduce((sum, { size }) => sum + size, 0);
    expect(model.bytes).toBe(plain.model.bytes - 2 * numbers);
    for (const parameter of plain.model.parameters()) expect(parameter.dtype).toBe("f32");

    const expected = await logitsOf(plain.model);
    // A row's bits depend on the row and the numbers of the weights alone.
    expect(await logitsOf(model)).toEqual(expected);
    expect(await decodedLogits(model)).toEqual(expected);
    const ask = { maxTokens: 4, temperature: 0, stopTokens: [] };
    const prompt = Int32Array.from(ids);
    expect((await loaded.generate(prompt, ask)).tokens).toEqual((await plain.generate(prompt, ask)).tokens);
  });

  test("it can be trained: what an optimiser trains becomes f32", async () => {
    using loaded = await load(at(name), { kind, device, dtype });
    using plain = await load(at(name), { kind, device, dtype, storedDtype: false });
    const [model, other] = [loaded.model, plain.model];
    // Without an optimiser, the gradients of the matrices are those of f32, each part of them rounded to 16 bits.
    lossOf(model).backward();
    lossOf(other).backward();
    const expected = new Map(other.namedParameters());
    for (const [name, { grad, dtype }] of model.namedParameters()) {
      expect(grad!.dtype, name).toBe(dtype);
      const exact = await expected.get(name)!.grad!.data();
      const precision = { f32: 2 ** -40, f16: 2 ** -10, bf16: 2 ** -7 }[dtype as "f32"];
      expectNear(await grad!.data(), exact, precision * Math.max(...exact.map(Math.abs)));
    }
    for (const each of [model, other]) {
      using optimizer = new AdamW(each, { lr: 0.01 });
      for (let step = 0; step < 2; step++) {
        each.zeroGrad();
        lossOf(each).backward();
        optimizer.step();
      }
    }
    for (const [name, parameter] of model.namedParameters()) {
      expect(parameter.dtype, name).toBe("f32");
      expect(await parameter.data(), name).toEqual(await expected.get(name)!.data());
    }
    expect(await logitsOf(model)).toEqual(await logitsOf(other));
  });
});

describe.for(devicesTested)("on $name", ({ device: on }) => {
  test.for(["llama-f16.gguf", "gpt-bf16.gguf"])("%s has the logits of f32", async (name) => {
    using loaded = await load(at(name), { kind, device: on, dtype });
    using plain = await load(at(name), { kind, device: on, dtype, storedDtype: false });
    expectNear(await logitsOf(loaded.model), await logitsOf(plain.model), 1e-5);
    // Products on CUDA would have to widen a weight each time, so that it is f32 there from the beginning.
    const stored = [...matricesOf(loaded.model)].map(({ dtype }) => elementBytes(dtype));
    expect(new Set(stored)).toEqual(new Set([on === "cpu" ? 2 : 4]));
    // A model that moves keeps what it has.
    using moved = await load(at(name), { kind, device, dtype });
    moved.model.to(on);
    expect(moved.model.dtype).toBe("f32");
    expectNear(await logitsOf(moved.model), await logitsOf(plain.model), 1e-5);
  });
});

test("matrices in F16 within a file of blocks stay as stored", async () => {
  using loaded = await load(at("q8.gguf"), { kind, device, dtype });
  using plain = (await loadGguf(at("q8.gguf"), { device })).model;
  const { model } = loaded;
  const layers = [...model.modules()].flatMap(([, layer]) => (layer instanceof WeightLayer ? [layer] : []));
  const inBlocks = layers.filter(({ quantized }) => quantized instanceof BlockWeight);
  expect(inBlocks.length).toBeGreaterThan(8);
  const matrices = [...matricesOf(model)];
  expect(matrices.map(({ dtype }) => dtype)).toEqual(["f16", "f16"]);
  expect(model.bytes).toBe(plain.bytes - 2 * matrices.reduce((sum, { size }) => sum + size, 0));
  expect(await logitsOf(model)).toEqual(await logitsOf(plain));
});

test.for(["llama-f16.gguf", "gpt-f16", "q8.gguf"])("an adapter of %s is trained as one of f32", async (name) => {
  using loaded = await load(at(name), { kind, device, dtype });
  using plain = await load(at(name), { kind, device, dtype, storedDtype: false });
  const [model, other] = [loaded.model, plain.model];
  const before = [...matricesOf(model)].map(({ dtype }) => dtype);
  const trained: Float32Array[][] = [];
  for (const each of [model, other]) {
    addAdapter(each, { rank: 2, seed: 7 });
    using optimizer = new AdamW(each, { lr: 0.05 });
    for (let step = 0; step < 3; step++) {
      each.zeroGrad();
      lossOf(each).backward();
      optimizer.step();
    }
    trained.push(await Promise.all(each.parameters({ trainable: true }).map(async (one) => await one.data())));
  }
  expect(trained[0]!.length).toBeGreaterThan(4);
  expect(trained[0]).toEqual(trained[1]);
  // The base has not changed.
  expect([...matricesOf(model)].map(({ dtype }) => dtype).filter((one) => one !== "f32")).toEqual(before);
  const adapted = await logitsOf(model);
  expect(adapted).toEqual(await logitsOf(other));
  if (model.isQuantized) return;
  // A merged weight is f32, so that it loses nothing of the change.
  mergeAdapter(model);
  mergeAdapter(other);
  expect(await logitsOf(model)).toEqual(await logitsOf(other));
  expectNear(await logitsOf(model), adapted, 1e-4);
});

test("it is saved, rounded, quantised and widened as a model of f32", async () => {
  const given = { kind, device, dtype } as const;
  using plain = await load(at("llama-f16.gguf"), { ...given, storedDtype: false });
  const expected = await logitsOf(plain.model);

  using saved = await load(at("llama-f16.gguf"), given);
  await savePretrained(at("again"), saved.model);
  using again = (await loadPretrained(at("again"), { device, storedDtype: true })).model;
  expect([again.dtype, new Set(again.parameters().map(({ dtype }) => dtype))]).toEqual(["f32", new Set(["f32"])]);
  // The folder has the rows of queries and keys in another order.
  expectNear(await logitsOf(again), expected, 1e-6);

  for (const short of ["bf16", "f16"] as const) {
    using some = await load(at("llama-f16.gguf"), given);
    plain.model.dtype = some.model.dtype = short;
    expect(await logitsOf(some.model), `activations in ${short}`).toEqual(await logitsOf(plain.model));
    plain.model.dtype = some.model.dtype = "f32";
    expect(await logitsOf(some.model)).toEqual(expected);
    some.model.to(short);
    expect(new Set([some.model.dtype, ...some.model.parameters().map(({ dtype }) => dtype)])).toEqual(new Set([short]));
    expect(() => (some.model.dtype = "f32")).toThrow(/expected dtype/);
  }

  using quantised = await load(at("llama-f16.gguf"), given);
  quantised.model.quantize({ bits: 8, groupSize: 32 });
  plain.model.quantize({ bits: 8, groupSize: 32 });
  expect(quantised.model.dtype).toBe("f32");
  expect(await logitsOf(quantised.model)).toEqual(await logitsOf(plain.model));
  quantised.model.dequantize();
  expect(new Set([...matricesOf(quantised.model)].map(({ dtype }) => dtype))).toEqual(new Set(["f32"]));

  using wide = await load(at("llama-f16.gguf"), given);
  wide.model.to("f32");
  expect(new Set(wide.model.parameters().map(({ dtype }) => dtype))).toEqual(new Set(["f32"]));
  expect(await logitsOf(wide.model)).toEqual(expected);
});

test("an encoder keeps them too", async () => {
  const given = { kind: "encoder", device, dtype } as const;
  using loaded = await load(at("bert"), given);
  using plain = await load(at("bert"), { ...given, storedDtype: false });
  expect(loaded.model.dtype).toBe("f32");
  expect([...matricesOf(loaded.model as Bert)].every(({ dtype }) => dtype === "bf16")).toBe(true);
  const states = async ({ model }: typeof loaded): Promise<Float32Array> => {
    using out = noGrad(() => scope(() => (model as Bert).forward(rowOf(ids))));
    return new Float32Array(await out.data());
  };
  expect(await states(loaded)).toEqual(await states(plain));
});
