/**
 * Adapters over a model in 8 or 4 bits (QLoRA), beside PyTorch: test/fixtures/quantized.py rounded the weights by a second
 * implementation and trained adapters over them in float64.
 */
import { describe, expect, test } from "vitest";
import { addAdapter, lorasOf, mergeAdapter } from "../../lib/adapters/adapters.js";
import { noGrad } from "../../lib/core/autograd.js";
import { tensor } from "../../lib/core/creation.js";
import { device as deviceOf } from "../../lib/core/device.js";
import { GPT } from "../../lib/models/gpt.js";
import { AdamW } from "../../lib/optim/adamw.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { loadAdapter, saveAdapter } from "../../lib/pretrained/peft.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { expectNear, expectWithin } from "../support/close.js";
import { expectError } from "../support/errors.js";
import { decode, decodeInts, readFixture } from "../support/fixtures.js";
import { temporaryFolder } from "../support/folder.js";
import { nightly } from "../support/nightly.js";
import { nightlyOnly, oneModel, testUnless } from "../support/skip.js";
import { onEachDevice } from "../support/targets.js";
import { fixtureTraining, trainedLosses } from "../support/training.js";
import { adapterFolder, type FixtureAdapter, type FixtureModel, modelFolder } from "./support.js";

const kinds = ["int8", "int4", "dora"] as const;
type Fixture = Record<(typeof kinds)[number], FixtureAdapter & { bits: 8 | 4 }>;

describe.each(["llama", "qwen3"])("adapters of a quantised %s beside PyTorch", (name) => {
  const adapters = readFixture(`adapters/${name}-quantized`) as Fixture;
  const fixture = readFixture(`models/${name}`) as FixtureModel;

  onEachDevice((device) => {
    async function load(kind: (typeof kinds)[number]) {
      const base = await modelFolder(fixture);
      const folder = await adapterFolder(adapters[kind], base);
      const { model } = await loadPretrained(base, { device, quantize: adapters[kind].bits, activations: 24 });
      await loadAdapter(folder, model);
      const ids = decodeInts(fixture.inputs.ids, device);
      const options = { keyLengths: decodeInts(fixture.inputs.keyLengths, device) };
      const targets = decodeInts(fixture.targets, device);
      const logits = (of: PretrainedKinds["causal"] = model) => noGrad(() => of.forward(ids, options)).data();
      return { base, model, logits, loss: () => model.loss(ids, targets, options) };
    }

    // The software device is slow: there each model has one of them.
    const here: readonly (typeof kinds)[number][] =
      device === "cpu" || nightly ? kinds : ([name === "llama" ? "int8" : "int4"] as const);
    test.each(here)("%s: logits, and ten losses of training", async (kind) => {
      const { model, logits, loss } = await load(kind);
      expectNear("logits", await logits(), decode(adapters[kind].logits), 1e-5);
      model.train();
      const trained = model.parameters({ trainable: true }).length;
      using optimizer = new AdamW(model.namedParameters(), fixtureTraining);
      const losses = await trainedLosses(optimizer, 10, loss);
      expectWithin("losses", losses, decode(adapters[kind].losses), () => 1e-4);
      expect(Object.keys(optimizer.stateDict())).toHaveLength(2 * trained);
      expect(model.isQuantized).toBe(true);
      model.dispose();
    });

    testUnless(name !== "llama" ? oneModel : device !== "cpu" && !nightly && nightlyOnly)(
      "gradient checkpointing gives the same losses to the bit",
      async () => {
        for (const kind of ["int8", "dora"] as const) {
          const runs: number[][] = [];
          for (const gradientCheckpointing of [false, true]) {
            const { model, loss } = await load(kind);
            model.train();
            model.gradientCheckpointing = gradientCheckpointing;
            using optimizer = new AdamW(model.namedParameters(), fixtureTraining);
            runs.push(await trainedLosses(optimizer, 2, loss));
            model.dispose();
          }
          expect(runs[1]).toEqual(runs[0]);
        }
      },
    );

    testUnless(name !== "llama" && oneModel)("merging needs the numbers that the codes stand for", async () => {
      const { model, logits } = await load("dora");
      const before = await logits();
      expectError(
        () => mergeAdapter(model),
        "ERR_ARGUMENT",
        /not quantised, got a quantised one; call model.dequantize/,
      );
      expect(await logits()).toEqual(before);
      expect(model.dequantize().isQuantized).toBe(false);
      expect(model.parameters({ trainable: true }).length).toBe(3 * lorasOf(model, "default").size);
      mergeAdapter(model);
      expectNear("merged", await logits(), before, 1e-5);
      const folder = temporaryFolder();
      await savePretrained(folder, model);
      const { model: saved } = await loadPretrained(folder, { device });
      expectNear("saved", await logits(saved), before, 1e-5);
      for (const one of [model, saved]) one.dispose();
    });

    testUnless(name !== "qwen3" && oneModel)(
      "an adapter of a quantised model is loaded over the full one, and back",
      async () => {
        const { base, model, logits } = await load("int4");
        const before = await logits();
        const folder = temporaryFolder();
        await saveAdapter(folder, model, { base });
        const { model: full } = await loadPretrained(base, { device });
        await loadAdapter(folder, full);
        // The full weights differ by up to half a step.
        const over = await logits(full);
        expect(over).not.toEqual(before);
        expectNear("over the full model", over, before, 0.5);
        const { model: rounded } = await loadPretrained(base, { device, quantize: 4, activations: 24 });
        await loadAdapter(folder, rounded);
        expect(await logits(rounded)).toEqual(before);
        for (const one of [model, full, rounded]) one.dispose();
      },
    );
  });
});

onEachDevice((device) => {
  test("a model stays in 4 bits while its adapter is trained, and takes a sixth of the memory", async () => {
    const config = { vocabularySize: 64, contextLength: 8, layers: 1, heads: 2, width: 128 };
    const memory = (): number => deviceOf(device).memory().live;
    const before = memory();
    using model = new GPT(config, { device, seed: 1 });
    const full = memory() - before;
    model.quantize({ bits: 4 });
    const rounded = memory() - before;
    // 4 bits and a scale of 16 bits for every 32 weights; norms, biases and positions stay in f32.
    expect(rounded).toBeLessThan(full / 6);
    addAdapter(model, { rank: 2 });
    using optimizer = new AdamW(model.namedParameters(), { lr: 1e-2 });
    const ids = tensor(
      Int32Array.from({ length: 8 }, (_, i) => (i * 7) % 64),
      [1, 8],
      { device },
    );
    const adapter = 4 * model.parameterCount({ trainable: true });
    const losses = await trainedLosses(optimizer, 3, () => model.loss(ids, ids));
    expect(losses[2]).toBeLessThan(losses[0]!);
    optimizer.zeroGrad();
    ids.dispose();
    // The adapter, and two moments of each of its numbers.
    expect(memory() - before).toBeLessThan(rounded + 3 * adapter + 64 * 1024);
  });
});
