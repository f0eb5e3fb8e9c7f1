/**
 * Random configurations through files. A saved model must load as the same model, or saving must refuse it and name the
 * reason. NumPy and llama.cpp must compute the same from the same files. If an entry of config.json is changed, heed
 * must follow it as transformers does, or refuse it.
 */
import { execFile } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { expect } from "vitest";
import { HeedError } from "../../lib/util/errors.js";
import { GPT } from "../../lib/models/gpt.js";
import { T5 } from "../../lib/models/t5.js";
import { activate } from "../../lib/ops/activation.js";
import { add, greater, mul } from "../../lib/ops/binary.js";
import { where } from "../../lib/ops/where.js";
import { readGguf } from "../../lib/formats/gguf.js";
import { readSafetensors } from "../../lib/formats/safetensors.js";
import { readShardedSafetensors } from "../../lib/formats/sharded-safetensors.js";
import { loadGguf } from "../../lib/pretrained/gguf/load-gguf.js";
import { saveGguf } from "../../lib/pretrained/gguf/save-gguf.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import type { FloatTensor } from "../../lib/core/tensor.js";
import { expectNear, expectWithin } from "../support/close.js";
import { maxAbs } from "../support/nd.js";
import { temporaryFolder } from "../support/folder.js";
import { llamaLogProbabilities, noLlamaCpp } from "../support/llama-cpp.js";
import { numpy } from "../support/python.js";
import { fuzz } from "./fuzz.js";
import {
  type Draw,
  randomBert,
  randomGpt,
  randomLlama,
  randomMarian,
  type RandomModel,
  randomT5,
} from "./random-models.js";

/** Error of three layers in f32 whose sums are computed in another order. */
const rounding = 5e-5;

const pythonFile = (name: string) => fileURLToPath(new URL(`../pretrained/${name}`, import.meta.url));

/** Returns the output of a Python program, parsed as JSON. */
async function asked<T>(program: string, ...args: string[]): Promise<T> {
  const { stdout } = await promisify(execFile)(numpy.command, [program, ...args], { maxBuffer: 2 ** 26 });
  return JSON.parse(stdout) as T;
}

/** Runs `body` with the folder in which a model is saved. If saving is refused with a reason, it does nothing. */
async function saved(random: RandomModel, body: (folder: string) => Promise<void>, dtype?: "f16"): Promise<void> {
  const folder = temporaryFolder();
  try {
    using _ = random.model;
    const written = await unlessRefused(
      savePretrained(folder, random.model, { ...(dtype && { dtype }), shardBytes: 40_000 }),
      /^config: expected .+, got /s,
    );
    if (written) await body(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Returns true if it was done. If it was refused, the error must name what has no place in the file. */
async function unlessRefused(done: Promise<unknown>, message: RegExp): Promise<boolean> {
  try {
    await done;
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(HeedError);
    expect((error as HeedError).code).toBe("ERR_ARGUMENT");
    expect((error as HeedError).message).toMatch(message);
    return false;
  }
}

async function expectLoadedAlike(random: RandomModel, folder: string): Promise<void> {
  const { model, kind, run, ids, reordered } = random;
  const { model: loaded, ignored } = await loadPretrained(folder, { kind, device: "cpu" });
  using _ = loaded;
  // A model with a head may ignore the pooler, and a T5 that ties without a scale the copy of its embedding.
  const copied = model instanceof T5 && model.config.tied && !model.config.scaleOutput ? ["lm_head.weight"] : [];
  expect(ignored.filter((name) => !name.includes("pooler"))).toEqual(copied);
  const [got, want] = [await run(loaded, ids), await run(model, ids)];
  if (reordered) expectNear("logits", got, want, rounding);
  else expect(got).toEqual(want);
}

const kinds: [string, (draw: Draw) => RandomModel][] = [
  ["GPTs", randomGpt],
  ["Llamas, Mistrals and Qwens", randomLlama],
  ["BERTs", randomBert],
  ["T5s", randomT5],
  ["Marians", randomMarian],
];

for (const [name, random] of kinds)
  fuzz(`${name}: a folder is loaded as what was saved`, fc.gen(), { ci: 10, nightly: 2000 }, async (draw) => {
    const made = random(draw);
    await saved(made, (folder) => expectLoadedAlike(made, folder));
  });

fuzz(
  "Python reads the tensors that heed reads",
  fc.gen(),
  { ci: 5, nightly: 400, unless: numpy.missing },
  async (draw) => {
    const [, random] = kinds[draw(fc.integer, { min: 0, max: kinds.length - 1 })]!;
    await saved(
      random(draw),
      async (folder) => {
        const theirs = await asked<Record<string, { shape: number[]; values: number[] }>>(
          pythonFile("tensors.py"),
          folder,
        );
        const whole = path.join(folder, "model.safetensors");
        await using own = await (existsSync(whole)
          ? readSafetensors(whole)
          : readShardedSafetensors(`${whole}.index.json`));
        expect([...own.tensors.keys()].sort()).toEqual(Object.keys(theirs).sort());
        for (const [name, { shape, values }] of Object.entries(theirs)) {
          expect(own.tensors.get(name)!.shape, name).toEqual(shape);
          expect(Array.from(await own.readFloats(name)), name).toEqual(values);
        }
      },
      draw(fc.boolean) ? "f16" : undefined,
    );
  },
);

const reference = async (folder: string, ids: readonly number[]): Promise<number[]> =>
  asked(pythonFile("reference.py"), folder, JSON.stringify(ids));

for (const [name, random] of [
  ["GPT-2s", (draw: Draw) => randomGpt(draw, true)],
  ["Llamas, Mistrals and Qwens", randomLlama],
] as const) {
  fuzz(
    `${name}: NumPy computes a folder alike`,
    fc.gen(),
    { ci: 4, nightly: 700, unless: numpy.missing },
    async (draw) => {
      const made = random(draw);
      await saved(made, async (folder) => {
        const { model, run, ids } = made;
        expectNear("logits", await run(model, ids), await reference(folder, ids), rounding);
      });
    },
  );

  fuzz(
    `${name}: entries that change are followed, or refused`,
    fc.gen(),
    { ci: 8, nightly: 1400, unless: numpy.missing },
    async (draw) => {
      const made = random(draw);
      await saved(made, async (folder) => {
        const file = path.join(folder, "config.json");
        const json = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
        const changes = draw(edits, editsOf(json));
        for (const [name, value] of changes) json[name] = value;
        writeFileSync(file, JSON.stringify(json));
        let loaded;
        try {
          loaded = await loadPretrained(folder, { device: "cpu" });
        } catch (error) {
          // The error names the entry, or the weights differ.
          expect(error).toBeInstanceOf(HeedError);
          expect((error as HeedError).message).toMatch(/expected .+, got /s);
          return;
        }
        using model = loaded.model;
        const got = await made.run(model, made.ids);
        expectNear(JSON.stringify(changes), got, await reference(folder, made.ids), rounding);
      });
    },
  );
}

type Edit = readonly [name: string, value: unknown];

/** Generates changes of up to three entries. */
const edits = (all: Edit[]): fc.Arbitrary<Edit[]> =>
  fc.uniqueArray(fc.constantFrom(...all), { minLength: 1, maxLength: 3, selector: ([name]) => name });

/** Returns entries that transformers defines, with values that it accepts; undefined omits an entry. */
function editsOf(json: Record<string, unknown>): Edit[] {
  if (json.model_type === "gpt2")
    return [
      ...[true, false, undefined].map((value): Edit => ["scale_attn_weights", value]),
      ...[true, false, undefined].map((value): Edit => ["scale_attn_by_inverse_layer_idx", value]),
      ...["relu", "gelu", "silu", "gelu_new", "gelu_python", "linear", "mish", undefined].map((value): Edit => [
        "activation_function",
        value,
      ]),
      ...[1e-3, undefined].map((value): Edit => ["layer_norm_epsilon", value]),
      ...[true, false].map((value): Edit => ["reorder_and_upcast_attn", value]),
      ["add_cross_attention", true],
      ["tie_word_embeddings", undefined],
      ["tie_word_embeddings", !json.tie_word_embeddings],
      ["num_attention_heads", 1],
      ["n_head", 1],
      ["n_inner", null],
      ["summary_type", "cls_index"],
    ];
  const layers = json.num_hidden_layers as number;
  const length = json.max_position_embeddings as number;
  const types = ["sliding_attention", "full_attention"];
  const scalings = [
    null,
    { rope_type: "linear", factor: 2 },
    { type: "linear", factor: 3 },
    { rope_type: "dynamic", factor: 2, original_max_position_embeddings: 4 },
    { rope_type: "yarn", factor: 2, original_max_position_embeddings: 8 },
    { rope_type: "yarn", factor: 2, original_max_position_embeddings: 8, mscale: 0.7, mscale_all_dim: 1.1 },
    { rope_type: "yarn", factor: 3, original_max_position_embeddings: 8, truncate: false, beta_fast: 4 },
    { rope_type: "yarn", factor: 3, attention_factor: 1.5, beta_slow: 0 },
    {
      rope_type: "llama3",
      factor: 4,
      original_max_position_embeddings: 8,
      low_freq_factor: 1,
      high_freq_factor: 2,
    },
    { rope_type: "su", factor: 2 },
    { rope_type: "linear", factor: 2, rope_theta: 77 },
  ];
  return [
    ...["llama", "mistral", "qwen2", "qwen3"].map((value): Edit => ["model_type", value]),
    ...[3, null, undefined].map((value): Edit => ["sliding_window", value]),
    ...[true, false, undefined].map((value): Edit => ["use_sliding_window", value]),
    ...[0, 1, layers, undefined].map((value): Edit => ["max_window_layers", value]),
    ["layer_types", Array.from({ length: layers }, (_, layer) => types[layer % 2])],
    ["layer_types", Array<string>(layers).fill("full_attention")],
    ["layer_types", undefined],
    ...scalings.map((value): Edit => ["rope_scaling", value]),
    ...scalings.map((value): Edit => ["rope_parameters", value ?? undefined]),
    ...[0.5, 0.26, 1].map((value): Edit => ["partial_rotary_factor", value]),
    ...[123, undefined].map((value): Edit => ["rope_theta", value]),
    ...[1e-2, undefined].map((value): Edit => ["rms_norm_eps", value]),
    ...["gelu", "relu", "swish", "relu2", undefined].map((value): Edit => ["hidden_act", value]),
    ...[true, false, undefined].map((value): Edit => ["attention_bias", value]),
    ...[true, false].map((value): Edit => ["mlp_bias", value]),
    ...[true, false, undefined].map((value): Edit => ["tie_word_embeddings", value]),
    ...[null, undefined].map((value): Edit => ["num_key_value_heads", value]),
    ...[null, undefined].map((value): Edit => ["head_dim", value]),
    ["original_max_position_embeddings", Math.ceil(length / 2)],
    ["pretraining_tp", 2],
  ];
}

/** Returns the logits of each row minus the logarithm of the sum of their exponentials. */
function logProbabilities(logits: Float32Array, vocabularySize: number): number[] {
  return Array.from({ length: logits.length / vocabularySize }, (_, t) => {
    const row = Array.from(logits.subarray(t * vocabularySize, (t + 1) * vocabularySize));
    const most = Math.max(...row);
    const sum = most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
    return row.map((x) => x - sum);
  }).flat();
}

/**
 * Lets a model read its GELUs from a table for values of 16 bits between −10 and 10, as llama.cpp does. Values are
 * changed by about the rounding of a sum before they are rounded to 16 bits, upwards if `nudge` is 1, downwards if it
 * is -1.
 */
function useTable({ h }: GPT, nudge = 0): void {
  const half = (x: FloatTensor): FloatTensor => x.to("f16").to("f32");
  for (const { mlp } of h)
    if (mlp.activation === "gelu")
      mlp.forward = (x, residual) => {
        const pre = mlp.c_fc.forward(x);
        const hidden = where(
          greater(pre, 10),
          pre,
          half(activate(half(add(mul(pre, 1 + nudge * 2 ** -21), nudge * 2 ** -20)), "gelu")),
        );
        return mlp.c_proj.forward(hidden, { residual: residual ?? null });
      };
}

for (const [name, random] of [
  ["GPT-2s", (draw: Draw) => randomGpt(draw, true)],
  ["Llamas, Mistrals and Qwens", randomLlama],
] as const)
  fuzz(`${name}: a GGUF file is what was saved, for llama.cpp too`, fc.gen(), { ci: 4, nightly: 700 }, async (draw) => {
    const { model, run, ids, vocabularySize } = random(draw);
    using _ = model;
    const folder = temporaryFolder();
    const file = path.join(folder, "model.gguf");
    try {
      if (!(await unlessRefused(saveGguf(file, model), /^gguf: expected .+, got /s))) return;
      const want = await run(model, ids);
      const { model: loaded } = await loadGguf(file, { device: "cpu" });
      using _loaded = loaded;
      // Numbers of the configuration are rounded to f32, and the rows of queries and keys may have another order.
      expectNear("logits", await run(loaded, ids), want, rounding);
      await using gguf = await readGguf(file);
      expect([...gguf.tensors.keys()].length).toBeGreaterThan(0);
      if (noLlamaCpp !== null) return;
      const theirs = (await llamaLogProbabilities(file, ids)).flat();
      const ours = async (nudge?: number) => {
        if (model instanceof GPT) useTable(model, nudge);
        return logProbabilities(await run(model, ids), vocabularySize);
      };
      const expected = await ours();
      // A value at the border of two entries may have either, because sums of f32 have other roundings there.
      const [below, above] = [await ours(-1), await ours(1)];
      const borders = Math.max(...expected.map((x, i) => Math.abs(x - below[i]!) + Math.abs(x - above[i]!)));
      const allowed = rounding * maxAbs(expected) + borders;
      expectWithin("llama.cpp", theirs, expected, () => allowed);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
