import { afterAll, describe, expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { native } from "../../lib/core/native.js";
import { GPT } from "../../lib/models/gpt.js";
import type { GptConfig } from "../../lib/models/gpt-config.js";
import { AdamW, type AdamWOptions } from "../../lib/optim/adamw.js";
import { tensor } from "../../lib/core/creation.js";
import type { IntTensor } from "../../lib/core/tensor.js";
import { expectClose } from "../support/close.js";
import {
  decode,
  decodeInts,
  expectLikeTorch,
  type FixtureArray,
  type FixtureResult,
  readFixture,
} from "../support/fixtures.js";
import { bestIsa, targets } from "../support/targets.js";
import { trainedLosses } from "../support/training.js";

const fixture = readFixture("gpt2") as {
  config: GptConfig;
  training: AdamWOptions;
  weights: Record<string, FixtureArray>;
  ids: FixtureArray;
  targets: FixtureArray;
  logits: FixtureResult;
  grads: Record<string, FixtureResult>;
  losses: FixtureResult;
  norms: FixtureResult;
};

function load(device: string): GPT {
  const model = new GPT(fixture.config, { device });
  model.loadStateDict(
    Object.fromEntries(
      Object.entries(fixture.weights).map(([name, array]) => [name, { shape: array.shape, values: decode(array) }]),
    ),
  );
  return model;
}

afterAll(() => native.selectIsa(bestIsa));

describe.for(targets)("a GPT-2 beside PyTorch on $name", ({ select, device }) => {
  test("parameters have the names and shapes of its checkpoint", () => {
    using model = new GPT(fixture.config, { device });
    const shapes = Object.fromEntries([...model.namedParameters()].map(([name, { shape }]) => [name, shape]));
    expect(shapes).toEqual(
      Object.fromEntries(Object.entries(fixture.weights).map(([name, { shape }]) => [name, shape])),
    );
  });

  test("logits, loss and every gradient", async () => {
    select();
    using model = load(device);
    using ids = decodeInts(fixture.ids, device);
    using targets = decodeInts(fixture.targets, device);
    using logits = noGrad(() => model.forward(ids));
    expect(logits.shape).toEqual(fixture.logits.shape);
    expectLikeTorch("logits", await logits.data(), fixture.logits);
    using loss = model.loss(ids, targets);
    loss.backward();
    const first = decode(fixture.losses)[0]!;
    expectClose("loss", [await loss.item()], [first], { relative: 8, absolute: 0 });
    for (const [name, parameter] of model.namedParameters())
      expectLikeTorch(`gradient of ${name}`, await parameter.grad!.data(), fixture.grads[name]!);
  });

  test("ten steps of training", async () => {
    select();
    using model = load(device);
    using ids = decodeInts(fixture.ids, device);
    using targets = decodeInts(fixture.targets, device);
    using optimizer = new AdamW(model.namedParameters(), fixture.training);
    const norms: number[] = [];
    const losses = await trainedLosses(
      optimizer,
      10,
      () => model.loss(ids, targets),
      async () => norms.push(await optimizer.gradientNorm!.item()),
    );
    expectLikeTorch("losses", losses, fixture.losses);
    expectLikeTorch("norms", norms, fixture.norms);
  });
});

const [rows, columns] = fixture.ids.shape as [number, number];
const tokens = decode(fixture.ids);

test.for(targets)("padding at the end changes no logits of real tokens on $name", async ({ select, device }) => {
  select();
  using model = load(device);
  using ids = decodeInts(fixture.ids, device);
  const lengths = [columns, 5, 9];
  using keyLengths = tensor(Int32Array.from(lengths), [rows], { device });
  using padded = noGrad(() => model.forward(ids, { keyLengths }));
  const data = await padded.data();
  const V = fixture.config.vocabularySize;
  for (const [row, length] of lengths.entries()) {
    const own = Int32Array.from(tokens.slice(row * columns, row * columns + length));
    using alone: IntTensor = tensor(own, [1, length], { device });
    using logits = noGrad(() => model.forward(alone));
    const expected = await logits.data();
    const real = data.subarray(row * columns * V, (row * columns + length) * V);
    // Other sizes may add in another order.
    expectClose(`row ${row}`, real, expected, { relative: 32, absolute: 32 });
  }
});

test.for(targets)(
  "a cache gives the logits of the whole sequence, token by token, on $name",
  async ({ select, device }) => {
    select();
    using model = load(device);
    using ids = decodeInts(fixture.ids, device);
    using whole = noGrad(() => model.forward(ids));
    const expected = await whole.data();
    const V = fixture.config.vocabularySize;
    using cache = model.createCache(rows);
    // A prompt of six tokens, then token by token.
    for (let at = 0; at < columns;) {
      const count = at === 0 ? 6 : 1;
      const part = Int32Array.from({ length: rows * count }, (_, i) => {
        return tokens[Math.floor(i / count) * columns + at + (i % count)]!;
      });
      using next: IntTensor = tensor(part, [rows, count], { device });
      using logits = noGrad(() => model.forward(next, { cache, lastOnly: true }));
      at += count;
      const data = await logits.data();
      for (let row = 0; row < rows; row++) {
        const from = (row * columns + at - 1) * V;
        const [got, want] = [data.subarray(row * V, (row + 1) * V), expected.subarray(from, from + V)];
        expectClose(`row ${row}, position ${at - 1}`, got, want, { relative: 32, absolute: 32 });
      }
    }
  },
);
