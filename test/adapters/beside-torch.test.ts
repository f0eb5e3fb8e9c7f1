/**
 * Compares LoRA and DoRA with PyTorch. test/fixtures/adapters.py wrote adapters in PEFT's layout, with the logits and
 * ten losses that PyTorch computes by the published formulas in float64.
 */
import path from "node:path";
import { describe, expect, test } from "vitest";
import { activeAdapter, mergeAdapter, setAdapter, withAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { readSafetensors } from "../../lib/formats/safetensors.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { loadAdapter, saveAdapter } from "../../lib/pretrained/peft.js";
import { dpoLoss } from "../../lib/train/dpo.js";
import type { TrainingExample } from "../../lib/data/pack-examples.js";
import { expectNear, expectWithin } from "../support/close.js";
import { decode, decodeInts, type FixtureArray, readFixture } from "../support/fixtures.js";
import { expectError } from "../support/errors.js";
import { temporaryFolder } from "../support/folder.js";
import { oneDevice, oneModel, otherModels, testUnless } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";
import { fixtureTraining, trainedLosses } from "../support/training.js";
import { adapterFolder, type FixtureAdapter, type FixtureModel, modelFolder } from "./support.js";

const kinds = ["lora", "dora", "rslora"] as const;
type Fixture = Record<(typeof kinds)[number], FixtureAdapter> & {
  dpo: Omit<FixtureAdapter, "logits"> & { beta: number; ids: FixtureArray; mask: FixtureArray };
};

describe.each(["llama", "qwen3", "gpt2"])("adapters of %s beside PyTorch", (name) => {
  const adapters = readFixture(`adapters/${name}`) as Fixture & FixtureModel;
  const fixture = name === "gpt2" ? adapters : (readFixture(`models/${name}`) as FixtureModel);

  onEachDevice((device) => {
    async function load(kind: (typeof kinds)[number], dtype: "f32" | "bf16" | "f16" = "f32") {
      const base = await modelFolder(fixture);
      const { model } = await loadPretrained(base, { device, dtype });
      const folder = await adapterFolder(adapters[kind], base);
      expect(await loadAdapter(folder, model)).toEqual({ base });
      return { model, folder };
    }

    const inputs = () => ({
      ids: decodeInts(fixture.inputs.ids, device),
      keyLengths: decodeInts(fixture.inputs.keyLengths, device),
    });

    async function logitsOf(model: PretrainedKinds["causal"]): Promise<Float32Array> {
      const { ids, keyLengths } = inputs();
      using logits = noGrad(() => model.forward(ids, { keyLengths }));
      return await logits.data();
    }

    test.each(kinds)("%s: logits, unmerged and merged", async (kind) => {
      const { model } = await load(kind);
      const expected = decode(adapters[kind].logits);
      expectNear("unmerged", await logitsOf(model), expected, 1e-5);
      mergeAdapter(model);
      expect(activeAdapter(model)).toBeNull();
      expectNear("merged", await logitsOf(model), expected, 1e-5);
      model.dispose();
    });

    // GPT-2's blocks train like the others' (test/models/families.test.ts); only its layout differs.
    testUnless(name === "gpt2" && otherModels).each(["lora", "dora"] as const)(
      "%s: ten losses of training",
      async (kind) => {
        const { model } = await load(kind);
        model.train();
        const { ids, keyLengths } = inputs();
        const targets = decodeInts(fixture.targets, device);
        using optimizer = new AdamW(model.namedParameters(), fixtureTraining);
        const losses = await trainedLosses(optimizer, 10, () => model.loss(ids, targets, { keyLengths }));
        const expected = decode(adapters[kind].losses);
        expectWithin("losses", losses, expected, () => 1e-4);
        model.dispose();
      },
    );

    testUnless(name === "gpt2" && otherModels)(
      "DPO: ten losses of training, with the model without the adapter as reference",
      async () => {
        const { dpo } = adapters;
        const base = await modelFolder(fixture);
        const { model } = await loadPretrained(base, { device });
        await loadAdapter(await adapterFolder({ ...dpo, logits: dpo.losses }, base), model);
        const [ids, mask] = [decode(dpo.ids) as Int32Array, decode(dpo.mask)];
        const width = dpo.ids.shape[1]!;
        const [chosen, rejected, better, worse] = [0, 1, 2, 3].map((row) => ({
          ids: ids.slice(row * width, (row + 1) * width),
          mask: Uint8Array.from(mask.slice(row * width, (row + 1) * width)),
        })) as [TrainingExample, TrainingExample, TrainingExample, TrainingExample];
        const pairs = [
          { chosen, rejected },
          { chosen: better, rejected: worse },
        ];
        using optimizer = new AdamW(model.namedParameters(), fixtureTraining);
        const losses = await trainedLosses(optimizer, 10, () => dpoLoss(model, pairs, { beta: dpo.beta }));
        expectWithin("losses", losses, decode(dpo.losses), () => 1e-4);
        expectError(() => dpoLoss(model, []), "ERR_ARGUMENT", /at least one pair/);
        const none = { ids: chosen.ids, mask: new Uint8Array(width) };
        expectError(() => dpoLoss(model, [{ chosen, rejected: none }]), "ERR_ARGUMENT", /a token that counts/);
        setAdapter(model, null);
        expectError(() => dpoLoss(model, pairs), "ERR_ARGUMENT", /active adapter/);
        model.dispose();
      },
    );

    testUnless(name !== "llama" && oneModel)("gradient checkpointing gives the same losses to the bit", async () => {
      for (const kind of ["lora", "dora"] as const) {
        const losses: number[][] = [];
        for (const gradientCheckpointing of [false, true]) {
          const { model } = await load(kind);
          model.train();
          model.gradientCheckpointing = gradientCheckpointing;
          const { ids, keyLengths } = inputs();
          const targets = decodeInts(fixture.targets, device);
          using optimizer = new AdamW(model.namedParameters(), fixtureTraining);
          losses.push(await trainedLosses(optimizer, 2, () => model.loss(ids, targets, { keyLengths })));
          model.dispose();
        }
        expect(losses[1]).toEqual(losses[0]);
      }
    });

    testUnless(name !== "llama" && oneModel).each([
      ["bf16", "lora"],
      ["f16", "dora"],
    ] as const)("a model in %s with %s: logits, and gradients in f32", async (dtype, kind) => {
      const { model } = await load(kind, dtype);
      const expected = decode(adapters[kind].logits);
      expectNear("logits", await logitsOf(model), expected, dtype === "bf16" ? 0.08 : 0.01);
      const { ids, keyLengths } = inputs();
      const targets = decodeInts(fixture.targets, device);
      using optimizer = new AdamW(model.namedParameters(), fixtureTraining);
      const losses = await trainedLosses(optimizer, 3, () => model.loss(ids, targets, { keyLengths }));
      expectWithin("losses", losses, decode(adapters[kind].losses).slice(0, 3), () => (dtype === "bf16" ? 0.15 : 0.03));
      for (const parameter of model.parameters({ trainable: true })) expect(parameter.dtype).toBe("f32");
      model.dispose();
    });

    testUnless(device !== "cpu" && oneDevice).each(["lora", "dora"] as const)(
      "%s: PEFT's files are written as they were read",
      async (kind) => {
        const { model, folder } = await load(kind);
        const saved = temporaryFolder();
        await saveAdapter(saved, model, { base: "somewhere/else" });
        await using own = await readSafetensors(path.join(saved, "adapter_model.safetensors"));
        await using given = await readSafetensors(path.join(folder, "adapter_model.safetensors"));
        expect([...own.tensors.keys()].sort()).toEqual([...given.tensors.keys()].sort());
        for (const tensor of given.tensors.keys())
          expect(await own.readFloats(tensor), tensor).toEqual(await given.readFloats(tensor));
        expect(await loadAdapter(saved, model, { name: "again" })).toEqual({ base: "somewhere/else" });
        expectNear("logits", await logitsOf(model), Float32Array.from(decode(adapters[kind].logits)), 1e-5);
        model.dispose();
      },
    );

    test("several adapters: each has its own result, and none gives the model's", async () => {
      const base = await modelFolder(fixture);
      const { model } = await loadPretrained(base, { device });
      const before = await logitsOf(model);
      for (const kind of kinds) await loadAdapter(await adapterFolder(adapters[kind], base), model, { name: kind });
      for (const kind of ["dora", "lora", "rslora"] as const) {
        setAdapter(model, kind);
        const expected = decode(adapters[kind].logits);
        expectNear(kind, await logitsOf(model), expected, 1e-5);
        const { ids, keyLengths } = inputs();
        using logits = noGrad(() => withAdapter(model, null, () => model.forward(ids, { keyLengths })));
        expect(await logits.data()).toEqual(before);
        expect(activeAdapter(model)).toBe(kind);
      }
      setAdapter(model, null);
      expect(await logitsOf(model)).toEqual(before);
      model.dispose();
    });
  });
});
