/**
 * The purpose of BERT: after pretraining by filling in hidden words, it needs few labels. The corpus is a toy whose
 * rules a test can check. There are five kinds of words, with four words each. In a text, the kind of each next word is
 * either one or two kinds further; which of the two is the class of the text. (CPU only, because other tests cover the
 * models' computations on each device.)
 */
import { expect, test } from "vitest";
import { noGrad } from "../../lib/core/autograd.js";
import { Bert } from "../../lib/models/bert.js";
import { BertForMaskedLM, BertForSequenceClassification } from "../../lib/models/bert-heads.js";
import type { Module } from "../../lib/nn/module.js";
import { AdamW } from "../../lib/optim/adamw.js";
import { argmax } from "../../lib/ops/choose.js";
import { scope } from "../../lib/core/scope.js";
import { tensor } from "../../lib/core/creation.js";
import type { FloatTensor, IntTensor } from "../../lib/core/tensor.js";
import { maskTokens } from "../../lib/data/mask-tokens.js";
import { Random } from "../support/random.js";
import { trainedLosses } from "../support/training.js";

const [kinds, synonyms, length] = [5, 4, 9];
const special = { padding: 0, start: 1, mask: 2 };
const vocabularySize = 3 + kinds * synonyms;
const steps = [1, 2];

/** Returns texts, each after a start token, and their classes. */
function texts(count: number, seed: number): { ids: Int32Array; labels: Int32Array } {
  const random = new Random(seed);
  const labels = Int32Array.from({ length: count }, () => random.integer(2));
  const ids = new Int32Array(count * length);
  for (const [row, label] of labels.entries()) {
    let kind = random.integer(kinds);
    ids[row * length] = special.start;
    for (let t = 1; t < length; t++) {
      ids[row * length + t] = 3 + kind * synonyms + random.integer(synonyms);
      kind = (kind + steps[label]!) % kinds;
    }
  }
  return { ids, labels };
}

const device = "cpu";
const int = (values: Int32Array, shape: number[]): IntTensor => tensor(values, shape, { device });
const grid = (ids: Int32Array): IntTensor => int(ids, [ids.length / length, length]);

function bertOf(seed: number): Bert {
  const size = { vocabularySize, contextLength: length, layers: 2, heads: 2, width: 32, tokenTypes: 0 };
  return new Bert({ ...size, dropout: 0.05 }, { device, seed });
}

async function train(
  model: Module & { dropoutSeeds: { step: number } },
  count: number,
  lr: number,
  loss: (step: number) => FloatTensor,
) {
  using optimizer = new AdamW(model.namedParameters(), { lr, maxNorm: 1 });
  model.train();
  const losses = await trainedLosses(optimizer, count, (step) => {
    model.dropoutSeeds.step = step;
    optimizer.lr = lr * Math.min(1, (step + 1) / 20);
    return loss(step);
  });
  model.eval();
  return losses;
}

/** Fine-tunes on few labelled texts and returns the share of other texts that it then classifies correctly. */
async function fineTuned(bert: Bert): Promise<number> {
  using model = new BertForSequenceClassification(bert, { labels: 2, seed: 5 });
  const { ids, labels } = texts(24, 11);
  await train(model, 60, 1e-3, () => model.loss(grid(ids), int(labels, [labels.length])));
  const unseen = texts(400, 12);
  using guesses = noGrad(() => scope(() => argmax(model.forward(grid(unseen.ids)))));
  const right = (await guesses.data()).filter((guess, row) => guess === unseen.labels[row]);
  return right.length / unseen.labels.length;
}

const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

test("a pretrained encoder learns to fill in, and then a class from few texts; a new one does not", async () => {
  const bert = bertOf(1);
  const model = new BertForMaskedLM(bert, { seed: 2 });
  const losses = await train(model, 600, 5e-3, (step) => {
    const { ids, positions, targets } = maskTokens(texts(32, 100 + step).ids, {
      maskToken: special.mask,
      vocabularySize,
      seed: step,
      special: [special.padding, special.start],
    });
    return model.loss(grid(ids), int(targets, [targets.length]), { positions: int(positions, [positions.length]) });
  });
  // At first all words are equally likely; once the kinds are learned, only the words of one kind are. (Over seeds:
  // 1.55 to 1.79.)
  const [all, one] = [Math.log(kinds * synonyms), Math.log(synonyms)];
  expect(losses[0]).toBeGreaterThan(all - 0.3);
  expect(mean(losses.slice(-20))).toBeLessThan((all + one) / 2);
  // Over seeds: 0.79 to 1 of the texts, and about half of them, which is chance.
  const [pretrained, fresh] = [await fineTuned(bert), await fineTuned(bertOf(1))];
  expect(pretrained).toBeGreaterThan(0.7);
  expect(fresh).toBeLessThan(0.6);
  model.dispose();
});
