/**
 * Compares every family of models with PyTorch. test/fixtures/families.py wrote a tiny model of each, as the files of a
 * folder, with its logits, every gradient, and ten losses of training, in float64.
 */
import path from "node:path";
import { describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { readSafetensors } from "../../lib/formats/safetensors.js";
import type { EncoderDecoder } from "../../lib/models/encoder-decoder.js";
import type { T5 } from "../../lib/models/t5.js";
import type { Module } from "../../lib/nn/module.js";
import { AdamW } from "../../lib/optim/adamw.js";
import type { PretrainedKinds } from "../../lib/pretrained/families/index.js";
import { loadPretrained } from "../../lib/pretrained/load-pretrained.js";
import { savePretrained } from "../../lib/pretrained/save-pretrained.js";
import { scope } from "../../lib/core/scope.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { expectWithin } from "../support/close.js";
import { decode, decodeInts, type FixtureArray, readFixture } from "../support/fixtures.js";
import { folderOfModel, type FixtureWeights } from "../support/fixture-model.js";
import { maxAbs } from "../support/nd.js";
import { onEachDevice } from "../support/targets.js";
import { fixtureTraining, trainedLosses } from "../support/training.js";

type Inputs = Record<"ids" | "keyLengths" | "tokenTypes" | "decoderIds", IntTensor>;

interface FixtureModel extends FixtureWeights {
  inputs: Record<keyof Inputs, FixtureArray>;
  targets: FixtureArray;
  logits: FixtureArray;
  grads: Record<string, FixtureArray>;
  /** Largest error of each gradient that PyTorch computes in float32. */
  gradErrors: Record<string, number>;
  losses: FixtureArray;
}

/** Calls that every model of a kind takes. */
interface Kind {
  forward: (model: never, inputs: Inputs) => FloatTensor;
  loss: (model: never, inputs: Inputs, targets: IntTensor) => FloatTensor;
}

interface EncoderOrDecoder {
  forward: (ids: IntTensor, options: object) => FloatTensor;
  loss: (ids: IntTensor, targets: IntTensor, options: object) => FloatTensor;
}

const oneStack: Kind = {
  forward: (model: EncoderOrDecoder, { ids, ...options }: Inputs) => model.forward(ids, options),
  loss: (model: EncoderOrDecoder, { ids, ...options }: Inputs, targets) => model.loss(ids, targets, options),
};

const twoStacks: Kind = {
  forward: (model: EncoderDecoder | T5, { ids, decoderIds, keyLengths }) =>
    model.forward(ids, decoderIds, { sourceLengths: keyLengths }),
  loss: (model: EncoderDecoder | T5, { ids, decoderIds, keyLengths }, targets) =>
    model.loss(ids, decoderIds, targets, { sourceLengths: keyLengths }),
};

const kinds: Partial<Record<keyof PretrainedKinds, Kind>> = {
  causal: oneStack,
  masked: oneStack,
  classifier: oneStack,
  "encoder-decoder": twoStacks,
};

const families = [
  "llama",
  "mistral",
  "qwen3",
  "alibi",
  "bert",
  "bert-classifier",
  "roberta",
  "roberta-classifier",
  "distilbert",
  "distilbert-classifier",
  "t5",
  "t5-v1.1",
  "marian",
];

/** Returns the place of these numbers in others, at a multiple of their count, or −1 if they are not there. */
function placeOf(part: ArrayLike<number>, whole: Float32Array): number {
  for (let from = 0; from + part.length <= whole.length; from += part.length)
    if (Array.from(part).every((x, i) => x === whole[from + i])) return from;
  return -1;
}

/** Error relative to the largest number of a tensor: some tens of roundings of f32. */
const tolerance = 1e-5;

describe.each(families)("%s beside PyTorch", (name) => {
  const fixture = readFixture(`models/${name}`) as FixtureModel;
  const kind = kinds[fixture.kind]!;

  const folderOf = (): Promise<string> => folderOfModel(fixture);

  test("is saved unchanged, name by name", async () => {
    const from = await folderOf();
    const { model } = await loadPretrained(from, { device: "cpu", kind: fixture.kind });
    const to = path.join(from, "saved");
    await savePretrained(to, model);
    await using saved = await readSafetensors(path.join(to, "model.safetensors"));
    const [own, given] = [[...saved.tensors.keys()], Object.keys(fixture.weights)];
    expect(own.sort()).toEqual(given.sort());
    for (const [name, array] of Object.entries(fixture.weights))
      expect(await saved.readFloats(name), name).toEqual(decode(array));
    const again = await loadPretrained(to, { device: "cpu", kind: fixture.kind });
    const described = (of: object): unknown[] => {
      const { config, labels } = of as { config?: unknown; labels?: unknown };
      return [config ?? (of as { bert: Module & { config: unknown } }).bert.config, labels];
    };
    expect(described(again.model)).toEqual(described(model));
    for (const each of [model, again.model]) each.dispose();
  });

  onEachDevice((device) => {
    /** Returns the model, and the gradients of its parameters, or of parts of them, by their names in the file. */
    async function load(): Promise<{ model: never; gradients: Map<string, () => Promise<Float32Array>> }> {
      const { model, ignored } = await loadPretrained(await folderOf(), { device, kind: fixture.kind });
      expect(ignored).toEqual([]);
      const gradients = new Map<string, () => Promise<Float32Array>>();
      // They are matched by values, because loading has to get the names right. A parameter may hold several of the
      // file's tensors.
      const unclaimed: { parameter: FloatTensor; values: Float32Array; claimed: number }[] = [];
      for (const [, parameter] of (model as Module).namedParameters())
        unclaimed.push({ parameter, values: await parameter.data(), claimed: 0 });
      for (const [name, array] of Object.entries(fixture.weights)) {
        const expected = decode(array);
        const { length } = expected;
        for (const place of unclaimed) {
          const from = placeOf(expected, place.values);
          if (from === -1) continue;
          gradients.set(name, async () => (await place.parameter.grad!.data()).subarray(from, from + length));
          place.claimed += length;
          break;
        }
      }
      for (const { claimed, values } of unclaimed) expect(claimed).toBe(values.length);
      return { model: model as never, gradients };
    }
    const inputs = (): Inputs =>
      Object.fromEntries(
        Object.entries(fixture.inputs).map(([name, array]) => [name, decodeInts(array, device)]),
      ) as Inputs;

    test("logits and every gradient", async () => {
      const { model, gradients } = await load();
      using logits = noGrad(() => scope(() => kind.forward(model, inputs())));
      expect(logits.shape).toEqual(fixture.logits.shape);
      const expected = decode(fixture.logits);
      expectWithin("logits", await logits.data(), expected, () => tolerance * Math.max(1, maxAbs(expected)));
      scope(() => kind.loss(model, inputs(), decodeInts(fixture.targets, device)).backward());
      const largest = Math.max(...Object.values(fixture.grads).map((array) => maxAbs(decode(array))));
      for (const [parameter, array] of Object.entries(fixture.grads)) {
        const gradient = decode(array);
        // The gradient of the keys' biases is zero except for rounding, so its error is relative to the largest
        // gradient of the model.
        const rounding = tolerance * Math.max(maxAbs(gradient), 1e-2 * largest);
        // T5 does not scale the scores of attention, so its softmax amplifies roundings. PyTorch's float32 shows how much.
        const allowed = Math.max(rounding, 2 * fixture.gradErrors[parameter]!);
        expectWithin(`gradient of ${parameter}`, await gradients.get(parameter)!(), gradient, () => allowed);
      }
      (model as Module).dispose();
    });

    test("ten steps of training", async () => {
      const { model } = await load();
      using optimizer = new AdamW((model as Module).namedParameters(), fixtureTraining);
      const losses = await trainedLosses(optimizer, 10, () =>
        kind.loss(model, inputs(), decodeInts(fixture.targets, device)),
      );
      expectWithin("losses", losses, decode(fixture.losses), () => tolerance);
      (model as Module).dispose();
    });
  });
});
