/** Compares the attention of classifiers with other measures of importance, and looks for other attention that does as well. */
import { abs, AdamW, Bert, BertForSequenceClassification, type FloatTensor, type IntTensor, mul, narrow } from "heed";
import { noGrad, Observer, relu, reshape, scope, softmax, sub, sum, tensor } from "heed";
import { replaceWith, run, runWithCache, runWithGradients } from "heed/inspect";
import { type Draw, drawFrom, shuffled } from "./draw.js";
import { type Experiment, percent, table } from "./experiment.js";
import { kindNames, missingWords, type Passage, type Passages, special } from "./missing-words.js";
import { kendallTau, median } from "./rank-correlation.js";
import { intervalOf, meanOf, percentWithMargin, withMargin } from "./seeds.js";

/** Difference of outputs up to which two attention patterns are taken to give the same output. */
const tolerance = 0.01;
const layerCounts = [1, 2] as const;

/** Measures of one trained classifier. */
interface Run {
  layers: number;
  seed: number;
  /** Share of test passages that are classified right. */
  accuracy: number;
  /** Share that a classifier gets right which is trained with uniform attention in its last layer. */
  uniformAccuracy: number;
  /** Mean rank correlation (Kendall's τ) over the passages, of pairs of measures. */
  correlations: Record<Pair, number>;
  /** Median over the passages of the median change of the output if the attention weights are permuted. */
  permuted: number;
  /** Distance (Jensen–Shannon, in nats) of the farthest attention with the same output: quartiles over the passages. */
  adversarial: [number, number, number];
  /** Share of passages in which attention at a distance of half of the largest possible gives the same output. */
  far: number;
}

const pairs = {
  attentionGradient: ["attention", "gradient"],
  attentionAblation: ["attention", "ablation"],
  gradientAblation: ["gradient", "ablation"],
} as const;
type Pair = keyof typeof pairs;
type Measure = (typeof pairs)[Pair][number];

interface Result {
  train: number;
  test: number;
  majority: number;
  examined: number;
  length: number;
  vocabularySize: number;
  parameters: number[];
  /** A passage with its attention, and with attention of another shape that gives the same output. */
  example: { words: string[]; attention: number[]; adversarial: number[]; before: number; after: number };
  runs: Run[];
}

interface Size {
  reach: number;
  vocabularySize: number;
  width: number;
  epochs: number;
  batchSize: number;
  examined: number;
  permutations: number;
  searchSteps: number;
}

function classifierOf(
  layers: number,
  { vocabularySize, width }: Size,
  length: number,
  seed: number,
): BertForSequenceClassification {
  const sizes = { vocabularySize, contextLength: length, layers, heads: 1, width, feedForwardWidth: 2 * width };
  const bert = new Bert({ ...sizes, tokenTypes: 0, dropout: 0.2 }, { seed });
  return new BertForSequenceClassification(bert, { labels: kindNames, seed });
}

const patternOf = (layers: number) => `blocks.${layers - 1}.attn.hook_pattern` as const;

/** Trains a classifier, with attention of its own or uniform attention in the last layer. */
async function learn(
  model: BertForSequenceClassification,
  passages: readonly Passage[],
  { epochs, batchSize }: Size,
  seed: number,
  uniform: boolean,
): Promise<void> {
  const draw = drawFrom(Math.imul(seed, 0x9e3779b1));
  const { layers } = model.bert.config;
  using optimizer = new AdamW(model.namedParameters(), { weightDecay: 0.05, maxNorm: 1 });
  const perEpoch = Math.floor(passages.length / batchSize);
  const observer = uniform
    ? new Observer({ [patternOf(layers)]: (value) => noGrad(() => sub(mul(value, 0), -1 / value.shape[3]!)) })
    : null;
  model.train();
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = shuffled(passages, draw);
    for (let i = 0; i < perEpoch; i++) {
      const rows = order.slice(i * batchSize, (i + 1) * batchSize);
      optimizer.lr = 2e-3 * (1 - (epoch * perEpoch + i) / (epochs * perEpoch));
      using ids = idsOf(rows);
      using labels = tensor(Int32Array.from(rows, ({ label }) => label));
      using loss = scope(() => {
        const loss = model.loss(ids, labels, { observer });
        optimizer.zeroGrad();
        loss.backward();
        optimizer.step();
        return loss;
      });
      await loss.item();
    }
  }
  model.eval();
}

function idsOf(passages: readonly Passage[]): IntTensor {
  return tensor(Int32Array.from(passages.flatMap(({ ids }) => ids)), [passages.length, passages[0]!.ids.length]);
}

/** Returns the probability of the second class, [B], from logits [B, 2]. */
function probability(logits: FloatTensor): FloatTensor {
  return reshape(narrow(softmax(logits), 1, 1, 1), [logits.shape[0]!]);
}

async function outputs(model: BertForSequenceClassification, ids: IntTensor, hooks = {}): Promise<Float32Array> {
  using found = noGrad(() => scope(() => probability(run(model, ids, { hooks }))));
  return await found.data();
}

async function accuracyOf(
  model: BertForSequenceClassification,
  passages: readonly Passage[],
  hooks = {},
): Promise<number> {
  using ids = idsOf(passages);
  const found = await outputs(model, ids, hooks);
  return passages.filter(({ label }, i) => Number(found[i]! > 0.5) === label).length / passages.length;
}

/** Rows of numbers, one for each passage. */
type Rows = Float64Array[];

function rowsOf(data: ArrayLike<number>, length: number): Rows {
  return Array.from({ length: data.length / length }, (_, i) =>
    Float64Array.from({ length }, (_, t) => data[i * length + t]!),
  );
}

/** Examines one trained classifier on some passages. */
class Examination {
  readonly ids: IntTensor;
  readonly length: number;
  /** Probability of the second class for each passage. */
  before: Float32Array = new Float32Array();
  /** Attention of the first token in the last layer, for each passage. */
  attention: Rows = [];

  constructor(
    readonly model: BertForSequenceClassification,
    readonly passages: readonly Passage[],
  ) {
    this.ids = idsOf(passages);
    this.length = passages[0]!.ids.length;
  }

  get pattern(): ReturnType<typeof patternOf> {
    return patternOf(this.model.bert.config.layers);
  }

  async begin(): Promise<void> {
    using cache = runWithCache(this.model, this.ids, { names: this.pattern });
    using first = noGrad(() => narrow(cache.get(this.pattern), 2, 0, 1)); // [B, 1, 1, T]
    this.attention = rowsOf(await first.data(), this.length);
    this.before = await outputs(this.model, this.ids);
  }

  /** Resolves to the importance of every word by each measure. */
  async importances(): Promise<Record<Measure, Rows>> {
    return { attention: this.attention, gradient: await this.#gradients(), ablation: await this.#ablations() };
  }

  /** Resolves to |Σ e · ∂p/∂e| for the embedding e of each word. */
  async #gradients(): Promise<Rows> {
    const name = "embed.hook_embed";
    using found = runWithGradients(this.model, this.ids, (logits) => sum(probability(logits)), { names: name });
    using products = noGrad(() =>
      scope(() => abs(sum(mul(found.gradients.get(name), found.values.get(name)), { axes: [2] }))),
    );
    return rowsOf(await products.data(), this.length);
  }

  /** Resolves to how much the output changes if a word becomes unknown. */
  async #ablations(): Promise<Rows> {
    const rows = this.passages.map(() => new Float64Array(this.length));
    for (let t = 1; t < this.length; t++) {
      const without = this.passages.map(({ ids, label }) => ({ label, ids: ids.with(t, special.unknown) }));
      using ids = idsOf(without);
      for (const [i, value] of (await outputs(this.model, ids)).entries())
        rows[i]![t] = Math.abs(value - this.before[i]!);
    }
    return rows;
  }

  /** Resolves to the outputs if the first token of each passage attends as these rows say. */
  async outputsWith(rows: Rows): Promise<Float32Array> {
    using source = this.#tensorOf(rows);
    return await outputs(this.model, this.ids, { [this.pattern]: replaceWith(source, { positions: [0] }) });
  }

  /** Resolves to the median change of each passage's output over permutations of its attention. */
  async permuted(count: number, draw: Draw): Promise<number[]> {
    const changes = this.passages.map((): number[] => []);
    for (let i = 0; i < count; i++) {
      const rows = this.attention.map((row) => Float64Array.from(shuffled([...row], draw)));
      for (const [n, value] of (await this.outputsWith(rows)).entries())
        changes[n]!.push(Math.abs(value - this.before[n]!));
    }
    return changes.map(median);
  }

  /**
   * Resolves to the attention farthest from the model's own that changes no output by more than the tolerance. It is
   * found by gradient descent (Adam) on the logarithms of the weights, from a random start.
   */
  async adversaries(steps: number, draw: Draw): Promise<{ rows: Rows; distances: number[] }> {
    const { length, attention } = this;
    const weights = attention.map((row) => row.map((value) => Math.log(value + 1e-4) + draw(1000) / 500 - 1));
    const best = { rows: attention.map((row) => row), distances: attention.map(() => 0) };
    const moments = weights.map((row) => [new Float64Array(row.length), new Float64Array(row.length)] as const);
    using target = tensor(this.before);
    const metric = (logits: FloatTensor): FloatTensor =>
      sum(relu(sub(abs(sub(probability(logits), target)), 0.5 * tolerance)));
    for (let step = 1; step <= steps; step++) {
      const rows = weights.map(softmaxOf);
      const found = await this.outputsWith(rows);
      for (const [i, row] of rows.entries()) {
        const distance = divergence(attention[i]!, row);
        if (Math.abs(found[i]! - this.before[i]!) > tolerance || distance <= best.distances[i]!) continue;
        best.rows[i] = row;
        best.distances[i] = distance;
      }
      const slopes = await this.#slopes(rows, metric);
      for (const [i, row] of rows.entries()) {
        // Far from the model's own attention, and near its output.
        const slope = row.map(
          (value, t) =>
            50 * slopes[i * length + t]! - 0.5 * Math.log((2 * value) / (value + attention[i]![t]! + 1e-12)),
        );
        const mean = slope.reduce((total, value, t) => total + value * row[t]!, 0);
        const [first, second] = moments[i]!;
        for (let t = 0; t < length; t++) {
          const gradient = row[t]! * (slope[t]! - mean);
          first[t] = 0.9 * first[t]! + 0.1 * gradient;
          second[t] = 0.99 * second[t]! + 0.01 * gradient ** 2;
          const [m, v] = [first[t]! / (1 - 0.9 ** step), second[t]! / (1 - 0.99 ** step)];
          weights[i]![t]! -= (0.1 * m) / (Math.sqrt(v) + 1e-8);
        }
      }
    }
    return best;
  }

  dispose(): void {
    this.ids.dispose();
  }

  /** Resolves to the gradient of a metric of the logits by the first token's attention, [B · T]. */
  async #slopes(rows: Rows, metric: (logits: FloatTensor) => FloatTensor): Promise<Float32Array> {
    using source = this.#tensorOf(rows);
    using found = runWithGradients(this.model, this.ids, metric, {
      names: this.pattern,
      hooks: { [this.pattern]: replaceWith(source, { positions: [0] }) },
    });
    using first = noGrad(() => narrow(found.gradients.get(this.pattern), 2, 0, 1));
    return await first.data();
  }

  #tensorOf(rows: Rows): FloatTensor {
    return tensor(Float32Array.from(rows.flatMap((row) => [...row])), [rows.length, 1, 1, this.length]);
  }
}

function softmaxOf(weights: Float64Array): Float64Array {
  const top = Math.max(...weights);
  const powers = weights.map((value) => Math.exp(value - top));
  const total = powers.reduce((all, value) => all + value, 0);
  return powers.map((value) => value / total);
}

/** Returns the Jensen–Shannon divergence of two distributions, in nats; ln 2 is its largest value. */
function divergence(a: Float64Array, b: Float64Array): number {
  let total = 0;
  for (const [i, p] of a.entries()) {
    const q = b[i]!;
    const middle = (p + q) / 2;
    if (p > 0) total += 0.5 * p * Math.log(p / middle);
    if (q > 0) total += 0.5 * q * Math.log(q / middle);
  }
  return total;
}

function quartilesOf(values: readonly number[]): [number, number, number] {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))]!;
  return [at(0.25), at(0.5), at(0.75)];
}

interface Measured {
  run: Run;
  example: Result["example"];
  parameters: number;
}

async function measure(layers: number, seed: number, passages: Passages, size: Size): Promise<Measured> {
  const { train, test, length, words } = passages;
  using model = classifierOf(layers, size, length, seed);
  using flat = classifierOf(layers, size, length, seed);
  await learn(model, train, size, seed, false);
  await learn(flat, train, size, seed, true);
  const even = tensor(new Float32Array(length).fill(1 / length), [length]);
  const uniformAccuracy = await accuracyOf(flat, test, { [patternOf(layers)]: replaceWith(even) });
  even.dispose();
  const draw = drawFrom(Math.imul(seed, 0x85ebca6b));
  const exam = new Examination(model, shuffled(test, draw).slice(0, size.examined));
  await exam.begin();
  const importances = await exam.importances();
  const correlation = ([a, b]: readonly [Measure, Measure]): number =>
    // The first token, which classifies, is no word.
    meanOf(exam.passages.map((_, i) => kendallTau(importances[a][i]!.subarray(1), importances[b][i]!.subarray(1))));
  const permuted = await exam.permuted(size.permutations, draw);
  const { rows, distances } = await exam.adversaries(size.searchSteps, draw);
  const after = await exam.outputsWith(rows);
  const sure = [...exam.passages.keys()].filter((i) => Math.abs(exam.before[i]! - exam.passages[i]!.label) < 0.2);
  const shown = sure.find((i) => distances[i]! > 0.5 * Math.LN2) ?? 0;
  const names = [...Object.keys(special).map((name) => (name === "missing" ? "____" : `[${name}]`)), ...words];
  exam.dispose();
  return {
    run: {
      ...{ layers, seed, accuracy: await accuracyOf(model, test), uniformAccuracy },
      correlations: Object.fromEntries(
        Object.entries(pairs).map(([name, pair]) => [name, correlation(pair)]),
      ) as Run["correlations"],
      permuted: median(permuted),
      adversarial: quartilesOf(distances),
      far: distances.filter((distance) => distance > 0.5 * Math.LN2).length / distances.length,
    },
    example: {
      words: exam.passages[shown]!.ids.map((id) => names[id]!),
      ...{ attention: [...exam.attention[shown]!], adversarial: [...rows[shown]!] },
      ...{ before: exam.before[shown]!, after: after[shown]! },
    },
    parameters: model.parameterCount(),
  };
}

/** Returns the end of the page: what follows from the numbers. */
function verdict(runs: readonly Run[]): string {
  const of = (layers: number, value: (run: Run) => number): number =>
    meanOf(runs.filter((run) => run.layers === layers).map(value));
  const tau = (layers: number, pair: Pair): string => of(layers, (run) => run.correlations[pair]).toFixed(2);
  const differences = layerCounts.map((layers) => {
    const own = runs.filter((run) => run.layers === layers).map((run) => run.accuracy - run.uniformAccuracy);
    const { mean, margin } = intervalOf(own);
    const points = (share: number): string => (100 * share).toFixed(1);
    return { isClear: Math.abs(mean) > margin, text: `${points(mean)} ± ${points(margin)} points` };
  });
  const far = meanOf(runs.map((run) => run.far));
  const falls = of(2, (run) => run.correlations.attentionGradient) < of(1, (run) => run.correlations.attentionGradient);
  return `## Conclusion

Attention orders the words much as gradients and ablations do: its τ with ablations is ${tau(1, "attentionAblation")} with one layer and ${tau(2, "attentionAblation")}
with two, where that of gradients with ablations is ${tau(1, "gradientAblation")} and ${tau(2, "gradientAblation")}. ${
    falls
      ? `With two layers, attention and
gradients agree less (τ ${tau(2, "attentionGradient")}) than with one (${tau(1, "attentionGradient")}): the states that the last layer attends to have then taken up
other words.`
      : ""
  }

But the weights are not the only ones that explain the output. For ${percent(far)} of the passages there is attention at more than
half of the largest possible distance with which the model says the same. So the weights show where a model looked and, here, which
words matter; they do not show that it had to look there.

Wiegreffe & Pinter's first question has to be asked as well: does the task need attention? Models with attention of their own are
right more often than models that are trained with uniform attention in the last layer by ${differences[0]!.text} with
one layer and by ${differences[1]!.text} with two. ${
    differences.some(({ isClear }) => isClear)
      ? "An interval that leaves out 0 says that attention is needed there."
      : "Both intervals include 0, so these runs do not show that attention is needed here. Where it is not, it is no wonder that other weights do as well."
  }

## Where it differs from the papers, and why

Jain & Wallace find lower correlations, in LSTMs whose states have read the whole text. A BERT of one layer attends to
words as they are, which is the case in which they too find attention and gradients to agree. The classifiers here are small, and
they are right about two passages in three, so that many of their outputs are uncertain. Wiegreffe & Pinter's second test, a model that is
trained to have adversarial attention for all passages at once, is not repeated here.`;
}

export const attentionExplanation: Experiment<Result> = {
  name: "attention-explanation",
  title: "Is attention an explanation?",

  seeds: [1, 2, 3, 4, 5],

  async run(quick, seeds = [1, 2, 3, 4, 5]) {
    const size: Size = quick
      ? {
          reach: 3,
          vocabularySize: 50,
          width: 16,
          epochs: 1,
          batchSize: 512,
          examined: 3,
          permutations: 2,
          searchSteps: 2,
        }
      : {
          reach: 12,
          vocabularySize: 1500,
          width: 32,
          epochs: 4,
          batchSize: 64,
          examined: 100,
          permutations: 20,
          searchSteps: 120,
        };
    const passages = missingWords(size.reach, size.vocabularySize);
    const measured: Measured[] = [];
    for (const layers of layerCounts)
      for (const seed of quick ? [1] : seeds) measured.push(await measure(layers, seed, passages, size));
    const { train, test, length } = passages;
    const share = test.filter(({ label }) => label === 0).length / test.length;
    return {
      ...{ train: train.length, test: test.length, majority: Math.max(share, 1 - share) },
      ...{ examined: size.examined, length, vocabularySize: size.vocabularySize },
      parameters: layerCounts.map((layers) => measured.find(({ run }) => run.layers === layers)!.parameters),
      example: measured[0]!.example,
      runs: measured.map(({ run }) => run),
    };
  },

  page({ train, test, majority, examined, length, vocabularySize, parameters, example, runs }) {
    const of = (layers: number): Run[] => runs.filter((run) => run.layers === layers);
    const nameOf = (layers: number): string => (layers === 1 ? "one layer" : "two layers");
    const row = (value: (run: Run) => number, show: (values: readonly number[]) => string): string[] =>
      layerCounts.map((layers) => show(of(layers).map(value)));
    const rows = [
      ["accuracy on held-out passages", ...row((run) => run.accuracy, percentWithMargin)],
      ["accuracy if trained with uniform attention", ...row((run) => run.uniformAccuracy, percentWithMargin)],
      ...Object.entries(pairs).map(([name, [a, b]]) => [
        `τ of ${a} and ${b}`,
        ...row((run) => run.correlations[name as Pair], withMargin),
      ]),
      ["change of the output by permuted attention (median)", ...row((run) => run.permuted, withMargin)],
      [
        "distance of the farthest attention with the same output (median)",
        ...row((run) => run.adversarial[1], withMargin),
      ],
      ["passages in which it is beyond half of the possible", ...row((run) => run.far, percentWithMargin)],
    ];
    const top = (weights: readonly number[]): string =>
      [...weights.keys()]
        .sort((a, b) => weights[b]! - weights[a]!)
        .slice(0, 4)
        .map((t) => `${example.words[t]} (${weights[t]!.toFixed(2)})`)
        .join(", ");
    return {
      text: `## Question

A classifier attends to some words more than to others. Do these weights tell why it decided as it did?

## What the papers say

Jain & Wallace 2019 ("Attention is not Explanation", arXiv:1902.10186) find that attention weights agree poorly with
gradients and with the effect of leaving words out, and that very different weights often give the same output.
Wiegreffe & Pinter 2019 ("Attention is not not Explanation", arXiv:1908.04626) answer that one must first see whether
a task needs attention at all, by a model with uniform weights, and that weights made up for one passage are no model.

## Method

A word is missing in a passage of Moby Dick: was it a whale, or a ship or boat? There are ${train} passages for training and ${test}
for tests, each with ${(length - 2) / 2} words on both sides; ${vocabularySize} words have a token, and the commoner answer is right for ${(100 * majority).toFixed(1)} % of the
test passages. Small BERTs with one head and one or two layers (${parameters.join(" and ")} parameters) are trained with ${of(1).length} seeds. The
first token's attention in the last layer is what is examined, on ${examined} test passages:

- **gradient**: |Σ e · ∂p/∂e| for the embedding e of each word (\`runWithGradients\`),
- **ablation**: change of the output p if a word becomes unknown,
- **permutation**: the weights in a random order (\`replaceWith\` on \`hook_pattern\`),
- **adversary**: the weights that are farthest from the model's own (Jensen–Shannon divergence, at most ${Math.LN2.toFixed(3)} nats) and
  change the output by ${tolerance} at most. They are found by gradient descent through the model.

Kendall's τ compares the order of words by two measures: 1 is the same order, 0 is chance.

## What was found

![Rank correlation of measures](plot:correlation)

${table(["", "one layer", "two layers"], rows)}

The values are means over the seeds with 95 % intervals (Student's t).

An example, with a probability of a ship of ${example.before.toFixed(3)}: "${example.words.slice(1).join(" ")}". The model attends most to
${top(example.attention)}. The adversary attends most to ${top(example.adversarial)}, and the
probability becomes ${example.after.toFixed(3)}.

${verdict(runs)}
`,
      plots: {
        correlation: {
          title: "Rank correlation of two measures, for each seed",
          x: { title: "seed" },
          y: { title: "Kendall's τ" },
          lines: Object.fromEntries(
            layerCounts.flatMap((layers) =>
              Object.entries(pairs).map(([name, [a, b]]) => [
                `${a} and ${b}, ${nameOf(layers)}`,
                of(layers).map((run): [number, number] => [run.seed, run.correlations[name as Pair]]),
              ]),
            ),
          ),
        },
      },
    };
  },
};
