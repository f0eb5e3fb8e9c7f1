/** Adapters of classifiers, whose new heads are trained and saved beside them, as PEFT's modules_to_save. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { addAdapter, mergeAdapter, setAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { readSafetensors } from "../../lib/formats/safetensors.js";
import { Bert } from "../../lib/models/bert.js";
import type { BertFamily } from "../../lib/models/bert-config.js";
import { BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import { loadParts } from "../../lib/pretrained/load-model.js";
import { loadAdapter, saveAdapter } from "../../lib/pretrained/peft.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { loadCheckpoint } from "../../lib/train/checkpoint.js";
import { TaskTrainer } from "../../lib/train/task-trainer.js";
import { classification } from "../../lib/train/tasks/classification.js";
import { editJson } from "../support/edit-json.js";
import { expectRejection } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { noReference, sharedReference } from "../support/shared.js";
import { testUnless } from "../support/skip.js";
import { collect, losses, values } from "../train/support.js";

const size = { vocabularySize: 20, contextLength: 12, layers: 2, heads: 2, width: 8, dropout: 0.1 };

/** Returns a classifier of a family. All have the same encoder; the head follows from the seed. */
function classifier(family: BertFamily, headSeed = 1): BertForSequenceClassification {
  const bert = new Bert({ ...size, family, pooler: family === "bert" }, { seed: 5, device: "cpu" });
  return new BertForSequenceClassification(bert, { labels: ["no", "yes", "maybe"], seed: headSeed });
}

const data = [
  {
    ids: [
      [3, 4, 5],
      [6, 7],
    ],
    labels: [0, 2],
  },
  { ids: [[8, 9, 10, 11]], labels: [1] },
];
const settings = { task: classification(), data, schedule: () => 0.05 };

async function logitsOf(model: BertForSequenceClassification): Promise<number[]> {
  const { training } = model;
  model.eval();
  using out = noGrad(() => model.forward(tensor([[3, 4, 5, 6]], [1, 4], { dtype: "i32", device: "cpu" })));
  if (training) model.train();
  return [...(await out.data())];
}

/** Trains an adapter and a head for some steps. */
async function trained(family: BertFamily): Promise<BertForSequenceClassification> {
  const model = classifier(family);
  addAdapter(model, { rank: 2, alpha: 4, seed: 3, dropout: 0.1 });
  using trainer = new TaskTrainer({ ...settings, model, steps: 5 });
  await trainer.train();
  return model;
}

const families = {
  bert: {
    head: ["classifier"],
    file: ["classifier"],
    modules: ["classifier"],
    query: "bert.encoder.layer.0.attention.self.query",
  },
  roberta: {
    head: ["pre_classifier", "classifier"],
    file: ["classifier.dense", "classifier.out_proj"],
    modules: ["classifier"],
    query: "roberta.encoder.layer.0.attention.self.query",
  },
  distilbert: {
    head: ["pre_classifier", "classifier"],
    file: ["pre_classifier", "classifier"],
    modules: ["pre_classifier", "classifier"],
    query: "distilbert.transformer.layer.0.attention.q_lin",
  },
} as const;

describe.each(Object.keys(families) as (keyof typeof families)[])("a %s", (family) => {
  const { head, file, modules, query } = families[family];

  test("trains its adapter and its head, and nothing else", async () => {
    using before = classifier(family);
    using model = await trained(family);
    const parts = head.flatMap((layer) => [`${layer}.weight`, `${layer}.bias`]);
    const trainable = [...model.namedParameters({ trainable: true })].map(([name]) => name);
    expect(trainable.filter((name) => !name.includes(".adapter.")).toSorted()).toEqual(parts.toSorted());
    const [old, now] = [await values(before), await values(model)];
    for (const [name, numbers] of Object.entries(old))
      if (parts.includes(name)) expect(now[name], name).not.toEqual(numbers);
      else expect(now[name], name).toEqual(numbers);
    setAdapter(model, null);
    expect([...model.namedParameters({ trainable: true })]).toEqual([]);
    setAdapter(model, "default");
    expect([...model.namedParameters({ trainable: true })].map(([name]) => name)).toEqual(trainable);
  });

  test("saves both in PEFT's layout, and they load back", async () => {
    const folder = temporaryFolder();
    using model = await trained(family);
    await saveAdapter(folder, model);
    const config = JSON.parse(readFileSync(path.join(folder, "adapter_config.json"), "utf8")) as object;
    expect(config).toMatchObject({ task_type: "SEQ_CLS", modules_to_save: modules });
    await using saved = await readSafetensors(path.join(folder, "adapter_model.safetensors"));
    const names = [...saved.tensors.keys()];
    expect(names).toContain(`base_model.model.${query}.lora_A.weight`);
    expect(names.filter((name) => !name.includes("lora_")).toSorted()).toEqual(
      file.flatMap((layer) => ["bias", "weight"].map((part) => `base_model.model.${layer}.${part}`)).toSorted(),
    );
    using other = classifier(family, 9);
    await loadAdapter(folder, other);
    expect(await logitsOf(other)).toEqual(await logitsOf(model));
    expect(other.parameterCount({ trainable: true })).toBe(model.parameterCount({ trainable: true }));
    // As PEFT writes it, with the usual names of heads.
    editJson(path.join(folder, "adapter_config.json"), (json) => ({
      ...json,
      modules_to_save: [...modules, "score"],
    }));
    using third = classifier(family, 8);
    await loadAdapter(folder, third, { name: "again" });
    expect(await logitsOf(third)).toEqual(await logitsOf(model));
    const before = await logitsOf(model);
    mergeAdapter(model);
    for (const [i, logit] of (await logitsOf(model)).entries()) expect(logit).toBeCloseTo(before[i]!, 5);
    const whole = temporaryFolder();
    await savePretrained(whole, model);
    const merged = await loadParts("load", whole, { kind: "classifier", device: "cpu" });
    expect(await logitsOf(merged.model as BertForSequenceClassification)).toEqual(await logitsOf(model));
  });

  test.each([false, true])(
    "resumes to the bit from a checkpoint, which load() reads (model given: %s)",
    async (given) => {
      const make = () => {
        const model = classifier(family);
        addAdapter(model, { rank: 2, seed: 3, dropout: 0.2 });
        return model;
      };
      const folder = temporaryFolder();
      using whole = new TaskTrainer({ ...settings, model: make(), steps: 4, ema: 0.5 });
      const expected = losses(await collect(whole.run()));
      using first = new TaskTrainer({
        ...settings,
        ...{ model: make(), steps: 2, ema: 0.5, checkpoint: { folder, base: "somewhere" } },
      });
      await first.train();
      const loaded = await loadParts("load", folder, { kind: "classifier", device: "cpu" });
      expect(await logitsOf(loaded.model as BertForSequenceClassification)).toEqual(await logitsOf(first.model));
      const resume = await loadCheckpoint<BertForSequenceClassification>(folder, {
        device: "cpu",
        ...(given && { model: make() }),
      });
      using rest = new TaskTrainer({ ...settings, model: resume.model, resume, steps: 4, ema: 0.5 });
      expect(losses(await collect(rest.run()))).toEqual(expected.slice(2));
      expect(await values(rest.model)).toEqual(await values(whole.model));
      expect(await values(rest.average!)).toEqual(await values(whole.average!));
    },
  );
});

/** Returns all numbers of a safetensors file of f32 and i64, by name. */
function numbersIn(file: string): Record<string, number[]> {
  const bytes = readFileSync(file);
  const start = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString("utf8", 8, start)) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >;
  const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
  return Object.fromEntries(
    entries.map(
      ([
        name,
        {
          dtype,
          data_offsets: [from, to],
        },
      ]) => {
        const size = dtype === "I64" ? 8 : 4;
        const at = (i: number): number =>
          dtype === "I64"
            ? Number(bytes.readBigInt64LE(start + from + 8 * i))
            : bytes.readFloatLE(start + from + 4 * i);
        return [name, Array.from({ length: (to - from) / size }, (_, i) => at(i))];
      },
    ),
  );
}

const reference = sharedReference("peft/lora_bert_classes");

testUnless(!reference && noReference)(
  "a classifier that PEFT has trained has PEFT's logits, loss and gradients",
  async () => {
    const { ids, labels, mask, ...oracle } = numbersIn(path.join(reference!, "oracle.safetensors"));
    const { loss: expectedLoss, gradient_norms: norms } = JSON.parse(
      readFileSync(path.join(reference!, "case.json"), "utf8"),
    ) as { loss: number; gradient_norms: Record<string, number> };
    const base = path.join(reference!, "../../families/bert");
    const { model: bert } = await loadParts("load", base, { kind: "encoder", device: "cpu" });
    using model = new BertForSequenceClassification(bert as Bert, { labels: 3 });
    await loadAdapter(reference!, model);
    model.eval();
    const ints = (values: readonly number[], shape: number[]) => tensor(values, shape, { dtype: "i32", device: "cpu" });
    const rows = [0, 1].map((row) => mask!.slice(16 * row, 16 * row + 16).reduce((a, b) => a + b));
    const options = { keyLengths: ints(rows, [2]) };
    using logits = noGrad(() => model.forward(ints(ids!, [2, 16]), options));
    const near = (got: ArrayLike<number>, wanted: readonly number[], what: string): void => {
      const largest = Math.max(...wanted.map(Math.abs));
      for (const [i, x] of wanted.entries()) expect(Math.abs(got[i]! - x), `${what} ${i}`).toBeLessThan(2e-5 * largest);
    };
    near(await logits.data(), oracle.logits!, "logit");
    using loss = model.loss(ints(ids!, [2, 16]), ints(labels!, [2]), options);
    expect(await loss.item()).toBeCloseTo(expectedLoss, 5);
    loss.backward();
    const head = (part: "weight" | "bias") => model.classifier[part]!.grad!;
    for (const part of ["weight", "bias"] as const) {
      const name = `base_model.model.classifier.${part}`;
      const gradient = await head(part).data();
      near(gradient, oracle[`grad.${name}`]!, name);
      expect(Math.hypot(...gradient) / norms[name]!).toBeCloseTo(1, 4);
    }
    const folder = temporaryFolder();
    await saveAdapter(folder, model);
    // The same tensors come out as went in.
    const [got, wanted] = [folder, reference!].map((at) => numbersIn(path.join(at, "adapter_model.safetensors")));
    expect(got).toEqual(wanted);
  },
);

test("a head that does not fit is refused, and changes nothing", async () => {
  const folder = temporaryFolder();
  using model = await trained("bert");
  await saveAdapter(folder, model);
  using other = classifier("bert", 9);
  const before = await logitsOf(other);
  await expectRejection(
    loadAdapter(folder, other, { active: false }),
    "ERR_ARGUMENT",
    /active to be true .+ \(classifier\)/,
  );
  using two = new BertForSequenceClassification(other.bert, { labels: 2 });
  await expectRejection(loadAdapter(folder, two), "ERR_FORMAT", /classifier.weight of shape \[2, 8\], got \[3, 8\]/);
  const config = path.join(folder, "adapter_config.json");
  for (const [modules, message] of [
    [["bert.embeddings"], /to name the model's head \(classifier\), got "bert.embeddings"/],
    [null, /expected adapters of the model's linear layers only, got base_model.model.classifier/],
    ["classifier", /expected modules_to_save to be a list of names, got "classifier"/],
  ] as const) {
    editJson(config, (json) => ({ ...json, modules_to_save: modules }));
    await expectRejection(loadAdapter(folder, other), "ERR_FORMAT", message);
  }
  expect(await logitsOf(other)).toEqual(before);
});
