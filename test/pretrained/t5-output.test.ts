/** The output projection of a T5 in the files of transformers 4 and 5, and in those that both read. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { readSafetensors, writeSafetensors } from "../../lib/formats/safetensors.js";
import { T5 } from "../../lib/models/t5.js";
import type { T5Config } from "../../lib/models/t5-config.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import { expectNear } from "../support/close.js";
import { temporaryFolder } from "../support/folder.js";
import { instanceOf } from "../support/instance.js";
import { shaken } from "../support/shaken.js";

const width = 8;
const ids = [3, 1, 4, 1, 5];
const modelOf = (options: Partial<T5Config>): T5 => {
  const sizes = { vocabularySize: 17, layers: 1, heads: 2, width, buckets: 4, furthest: 4 };
  return shaken(new T5({ ...sizes, ...options }, { device: "cpu" })).eval();
};

async function logitsOf(model: T5): Promise<Float32Array> {
  const input = () => tensor(Int32Array.from(ids), [1, ids.length], { device: "cpu" });
  using out = noGrad(() => scope(() => model.forward(input(), input())));
  return await out.data();
}

async function loaded<T>(folder: string, use: (model: T5) => Promise<T>): Promise<T> {
  const { model } = await loadPretrained(folder, { kind: "encoder-decoder", device: "cpu" });
  try {
    return await use(instanceOf(T5, model));
  } finally {
    model.dispose();
  }
}

type Entries = Record<string, unknown>;

/** Changes the config.json in a folder; an entry that is undefined is removed. */
function withEntries(folder: string, entries: Entries): void {
  const file = path.join(folder, "config.json");
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, "utf8")) as Entries), ...entries }));
}

/** Writes the tensors of a folder without some, and with others times a factor. */
async function withTensors(folder: string, change: (name: string, values: Float32Array) => Float32Array | null) {
  const name = path.join(folder, "model.safetensors");
  const inputs = [];
  {
    await using file = await readSafetensors(name);
    for (const [tensor, { shape }] of file.tensors) {
      const data = change(tensor, await file.readFloats(tensor));
      if (data) inputs.push({ name: tensor, dtype: "F32" as const, shape, data });
    }
  }
  await writeSafetensors(name, inputs, { format: "pt" });
}

const five = { transformers_version: "5.24.0", heed_tied: undefined, tie_word_embeddings: true };

test("transformers 5 says the scale, and the file has an output projection if the model has its own", async () => {
  const folder = path.join(temporaryFolder(), "t5");
  using model = modelOf({ tied: true, scaleOutput: false });
  const plain = await logitsOf(model);
  await savePretrained(folder, model);
  await withTensors(folder, (name, values) => (name === "lm_head.weight" ? null : values));
  const scaled = plain.map((logit) => logit / Math.sqrt(width));
  const expectLogits = async (entries: Entries, expected: Float32Array, tied: boolean): Promise<void> => {
    withEntries(folder, { ...five, ...entries });
    const { logits, own } = await loaded(folder, async (t5) => ({ logits: await logitsOf(t5), own: t5.lm_head }));
    expectNear(JSON.stringify(entries), logits, expected, 1e-6);
    expect(own === null).toBe(tied);
  };
  await expectLogits({ scale_decoder_outputs: false }, plain, true);
  await expectLogits({ scale_decoder_outputs: true }, scaled, true);
  await expectLogits({ model_type: "mt5", scale_decoder_outputs: undefined }, plain, true);
  // Without the entry, transformers 4 decides.
  const four = { transformers_version: "4.57.1", scale_decoder_outputs: undefined };
  await expectLogits({ ...four, model_type: "t5" }, scaled, true);
  await expectLogits({ ...four, model_type: "mt5" }, scaled, true);

  using separate = modelOf({ tied: false });
  const head = path.join(temporaryFolder(), "head");
  await savePretrained(head, separate);
  const separatePlain = await logitsOf(separate);
  expect(separatePlain).not.toEqual(plain);
  for (const [scale, factor] of [
    [false, 1],
    [true, 1 / Math.sqrt(width)],
  ] as const) {
    withEntries(head, { ...five, scale_decoder_outputs: scale });
    await loaded(head, async (t5) => {
      expect(t5.lm_head).not.toBeNull();
      expectNear(
        "own head",
        await logitsOf(t5),
        separatePlain.map((logit) => logit * factor),
        1e-6,
      );
    });
  }
});

test.each([
  { tied: true, scaleOutput: true },
  { tied: true, scaleOutput: false },
  { tied: false, scaleOutput: false },
])("a saved T5 with %j has the same logits for heed, transformers 4 and transformers 5", async (options) => {
  const folder = path.join(temporaryFolder(), "t5");
  using model = modelOf(options);
  const expected = await logitsOf(model);
  await savePretrained(folder, model);
  await loaded(folder, async (t5) => {
    expect(await logitsOf(t5)).toEqual(expected);
    expect(t5.config).toMatchObject(options);
  });
  // What the readers do with the entries: version 4 looks at one, version 5 at the other and at the tensors.
  const config = JSON.parse(readFileSync(path.join(folder, "config.json"), "utf8")) as Entries;
  await using file = await readSafetensors(path.join(folder, "model.safetensors"));
  expect(config.tie_word_embeddings).toBe(options.scaleOutput);
  expect(config.scale_decoder_outputs).toBe(options.scaleOutput);
  expect(file.tensors.has("lm_head.weight")).toBe(!config.tie_word_embeddings);
  if (options.tied && !options.scaleOutput)
    expect(await file.readFloats("lm_head.weight")).toEqual(await file.readFloats("shared.weight"));
});
