/** Shows when heads that copy from the context form, what a model learns with them, and what is lost without them. */
import { AdamW, GPT, type IntTensor, logProbabilities, mean, mul, noGrad, randn, reshape, scope, tensor } from "heed";
import { headScores, type HooksOf, replaceWith, run, runWithCache } from "heed/inspect";
import { bookText } from "./book.js";
import { type Draw, drawFrom, shuffled } from "./draw.js";
import { type Experiment, round, table } from "./experiment.js";
import { intervalOf, meanOf, withMargin } from "./seeds.js";
import { stepOf } from "./training.js";

const layerCounts = [1, 2] as const;
const heads = 4;
/** Number of characters whose successor is fixed within a sequence. */
const triggers = 8;
/** Number of the book's most frequent characters; triggers and their successors are among them. */
const common = 30;

/** State of a model after some steps. */
interface Snapshot {
  step: number;
  /** Loss of all characters, in nats. */
  loss: number;
  /** Loss of the characters that can be copied from the context, in nats. */
  recall: number;
  /** Loss of late characters minus that of early ones, in nats; below 0 if the context helps. */
  inContext: number;
  /** Largest share of attention that a head of a layer pays to the token before, by layer. */
  previousToken: number[];
  /** Largest share of attention that a head of a layer pays to the token to copy, by layer. */
  induction: number[];
}

/** Effect of the removal of one head. */
interface Removal {
  layer: number;
  head: number;
  previousToken: number;
  induction: number;
  recall: number;
  inContext: number;
}

interface Run {
  layers: number;
  seed: number;
  curve: Snapshot[];
  removals: Removal[];
}

interface Result {
  steps: number;
  batchSize: number;
  contextLength: number;
  width: number;
  parameters: number[];
  /** Loss of the characters that can be copied for the book's true bigrams, in nats. */
  bigramRecall: number;
  runs: Run[];
}

/** Sequences of characters with their targets, and which targets can be copied. */
interface Sequences {
  ids: Int32Array;
  targets: Int32Array;
  copyable: Uint8Array;
}

/** Source of sequences: the book's bigrams, except that some characters have one successor per sequence. */
class BigramText {
  readonly vocabularySize: number;
  /** Cumulative probabilities of the successors of each character. */
  readonly #cumulative: Float64Array[];
  readonly #ranked: number[];

  constructor(text: string) {
    const codes = new Map([...new Set(text)].sort().map((character, id) => [character, id]));
    const size = codes.size;
    const counts = Array.from({ length: size }, () => new Float64Array(size));
    const totals = new Float64Array(size);
    let before = codes.get(text[0]!)!;
    for (const character of text.slice(1)) {
      const id = codes.get(character)!;
      counts[before]![id]! += 1;
      totals[before]! += 1;
      before = id;
    }
    this.vocabularySize = size;
    this.#ranked = [...totals.keys()].sort((a, b) => totals[b]! - totals[a]!);
    this.#cumulative = counts.map((row, id) => {
      let sum = 0;
      return row.map((count) => (sum += count / Math.max(1, totals[id]!)));
    });
  }

  /** Returns the book's most frequent characters, among which are the triggers and their successors. */
  get frequent(): number[] {
    return this.#ranked.slice(0, common);
  }

  /** Returns the probability that the book gives to a pair of neighbours, at least that of a rare pair. */
  probability(before: number, after: number): number {
    const row = this.#cumulative[before]!;
    return Math.max(1e-4, row[after]! - (row[after - 1] ?? 0));
  }

  /** Returns random sequences of `length` characters and their successors. */
  draw(rows: number, length: number, draw: Draw): Sequences {
    const ids = new Int32Array(rows * length);
    const targets = new Int32Array(rows * length);
    const copyable = new Uint8Array(rows * length);
    const { frequent } = this;
    for (let row = 0; row < rows; row++) {
      const chosen = shuffled(frequent, draw).slice(0, triggers);
      const successors = new Map(chosen.map((trigger) => [trigger, frequent[draw(common)]!]));
      const seen = new Set<number>();
      let id = frequent[draw(common)]!;
      for (let t = 0; t < length; t++) {
        const at = row * length + t;
        const next = successors.get(id) ?? this.#successor(id, draw);
        ids[at] = id;
        targets[at] = next;
        copyable[at] = Number(successors.has(id) && seen.has(id));
        seen.add(id);
        id = next;
      }
    }
    return { ids, targets, copyable };
  }

  #successor(id: number, draw: Draw): number {
    const row = this.#cumulative[id]!;
    const at = draw(2 ** 24) / 2 ** 24;
    const found = row.findIndex((sum) => sum > at);
    return found === -1 ? this.#ranked[0]! : found;
  }
}

/**
 * Resolves to a GPT of attention alone: its feed-forward layers are zeros that are not trained. The weights of attention
 * begin with a variance of 1/C. With GPT-2's, which suits wider models, all scores of so narrow a model begin near 0, and
 * nothing happens for thousands of steps.
 */
async function attentionOnly(layers: number, size: Size, vocabularySize: number, seed: number): Promise<GPT> {
  const { contextLength, width } = size;
  const sizes = { vocabularySize, contextLength, layers, heads, width, hidden: 1 };
  const model = new GPT({ ...sizes, positions: "rotary", tied: false }, { seed });
  for (const [i, [name, parameter]] of [...model.namedParameters()].entries()) {
    if (/\.attn\.\w+\.weight$/.test(name)) {
      using drawn = scope(() => mul(randn(parameter.shape, { seed: 1000 * seed + i }), width ** -0.5));
      parameter.set(await drawn.data());
    }
    if (!/\.(mlp|ln_2)\./.test(name)) continue;
    if (name.includes(".mlp.")) parameter.set(new Float32Array(parameter.size));
    parameter.requiresGrad = false;
  }
  return model;
}

interface Size {
  steps: number;
  batchSize: number;
  contextLength: number;
  width: number;
  every: number;
  rows: number;
}

/** Measures a model, as it is or with hooks that change it. */
class Examination {
  readonly #sequences: Sequences;
  readonly #ids: IntTensor;
  readonly #targets: IntTensor;
  readonly #repeated: IntTensor;
  readonly #rows: number;

  constructor(
    text: BigramText,
    readonly size: Size,
  ) {
    const { rows, contextLength } = size;
    const draw = drawFrom(987654321);
    this.#rows = rows;
    this.#sequences = text.draw(rows, contextLength, draw);
    this.#ids = tensor(this.#sequences.ids, [rows, contextLength]);
    this.#targets = tensor(this.#sequences.targets, [rows * contextLength, 1]);
    // Random characters, each of which occurs once, and the same again: only copying can attend from one to the other.
    const half = Math.min(common, contextLength / 2);
    const repeats = Array.from({ length: 8 }, () => {
      const first = shuffled(text.frequent, draw).slice(0, half);
      return [...first, ...first];
    });
    this.#repeated = tensor(Int32Array.from(repeats.flat()), [8, 2 * half]);
  }

  /** Returns the loss of bigrams for what can be copied. */
  bigramRecall(text: BigramText): number {
    const { ids, targets, copyable } = this.#sequences;
    return meanOf(
      [...ids.keys()].filter((at) => copyable[at]).map((at) => -Math.log(text.probability(ids[at]!, targets[at]!))),
    );
  }

  /** Resolves to the losses of a model. */
  async losses(model: GPT, hooks: HooksOf<GPT> = {}): Promise<Pick<Snapshot, "loss" | "recall" | "inContext">> {
    const { contextLength } = this.size;
    using found = noGrad(() =>
      scope(() => {
        const logits = run(model, this.#ids, { hooks }); // [B, T, V]
        return logProbabilities(reshape(logits, [this.#rows * contextLength, -1]), this.#targets);
      }),
    );
    const losses = Array.from(await found.data(), (value) => -value);
    const at = (from: number, to: number): number =>
      meanOf(
        losses.filter((_, i) => i % contextLength >= from * contextLength && i % contextLength < to * contextLength),
      );
    return {
      loss: meanOf(losses),
      recall: meanOf(losses.filter((_, i) => this.#sequences.copyable[i])),
      inContext: at(0.75, 1) - at(0.03, 0.13),
    };
  }

  /** Resolves to the scores of all heads, `[layer][head]`. */
  async scores(model: GPT): Promise<Record<"previousToken" | "induction", number[][]>> {
    const previousToken = await headScores(model, this.#repeated, { behaviour: "previousToken" });
    const induction = await headScores(model, this.#repeated, { behaviour: "induction" });
    // Only the second half has something to copy, so that a perfect head reaches one half.
    return { previousToken, induction: induction.map((layer) => layer.map((score) => 2 * score)) };
  }

  async snapshot(model: GPT, step: number): Promise<Snapshot> {
    const { previousToken, induction } = await this.scores(model);
    const best = (scores: number[][]): number[] => scores.map((layer) => Math.max(...layer));
    return {
      step,
      ...(await this.losses(model)),
      previousToken: best(previousToken),
      induction: best(induction),
    };
  }

  /** Resolves to the losses without each head, whose values are replaced by their mean over all texts and positions. */
  async removals(model: GPT): Promise<Removal[]> {
    const scores = await this.scores(model);
    using cache = runWithCache(model, this.#ids, { names: /hook_z$/ });
    const found: Removal[] = [];
    for (let layer = 0; layer < model.config.layers; layer++) {
      const name = `blocks.${layer}.attn.hook_z` as const;
      using average = noGrad(() => mean(cache.get(name), { axes: [0, 1] })); // [H, D]
      for (let head = 0; head < heads; head++) {
        const { recall, inContext } = await this.losses(model, { [name]: replaceWith(average, { heads: [head] }) });
        const previousToken = scores.previousToken[layer]![head]!;
        found.push({ layer, head, previousToken, induction: scores.induction[layer]![head]!, recall, inContext });
      }
    }
    return found;
  }

  dispose(): void {
    for (const ids of [this.#ids, this.#targets, this.#repeated]) ids.dispose();
  }
}

async function measure(layers: number, seed: number, text: BigramText, size: Size, exam: Examination): Promise<Run> {
  const { steps, batchSize, contextLength, every } = size;
  using model = await attentionOnly(layers, size, text.vocabularySize, seed);
  using optimizer = new AdamW(model.namedParameters({ trainable: true }), {
    beta2: 0.98,
    weightDecay: 0.01,
    maxNorm: 1,
  });
  const draw = drawFrom(Math.imul(seed, 0x9e3779b1));
  const curve = [await exam.snapshot(model, 0)];
  for (let step = 1; step <= steps; step++) {
    optimizer.lr = 3e-3 * Math.min(1, step / 50);
    const { ids, targets } = text.draw(batchSize, contextLength, draw);
    using input = tensor(ids, [batchSize, contextLength]);
    using following = tensor(targets, [batchSize, contextLength]);
    await stepOf(model, optimizer, input, following);
    if (step % every === 0 || step === steps) curve.push(await exam.snapshot(model, step));
  }
  return { layers, seed, curve, removals: await exam.removals(model) };
}

/** Returns the first step at which a quantity has gone half of the way from its first to its last value. */
function halfway(curve: readonly Snapshot[], of: (state: Snapshot) => number): number {
  const [first, last] = [of(curve[0]!), of(curve.at(-1)!)];
  return curve.find((state) => (of(state) - first) / (last - first) >= 0.5)!.step;
}

/** Returns the step at which a quantity changed most from one snapshot to the next. */
function steepest(curve: readonly Snapshot[], of: (state: Snapshot) => number): number {
  const changes = curve.slice(1).map((state, i) => of(curve[i]!) - of(state));
  return curve[1 + changes.indexOf(Math.max(...changes))]!.step;
}

/** Number of steps after which the bigrams are learned, and what is still learned is to use the context. */
const bigramsLearned = 200;

const strongest = (removals: readonly Removal[], layer: number, by: "previousToken" | "induction"): Removal =>
  removals.filter((one) => one.layer === layer).sort((a, b) => b[by] - a[by])[0]!;

export const inductionHeads: Experiment<Result> = {
  name: "induction-heads",
  title: "How does in-context learning come about?",

  seeds: [1, 2, 3, 4],

  async run(quick, seeds = [1, 2, 3, 4]) {
    const size: Size = quick
      ? { steps: 4, batchSize: 4, contextLength: 16, width: 16, every: 2, rows: 4 }
      : { steps: 1000, batchSize: 32, contextLength: 64, width: 64, every: 20, rows: 64 };
    const text = new BigramText(quick ? bookText().slice(0, 20_000) : bookText());
    const exam = new Examination(text, size);
    const runs: Run[] = [];
    const parameters: number[] = [];
    for (const layers of layerCounts) {
      using model = await attentionOnly(layers, size, text.vocabularySize, 1);
      parameters.push(model.parameterCount({ trainable: true }));
      for (const seed of quick ? [1] : seeds) runs.push(await measure(layers, seed, text, size, exam));
    }
    const bigramRecall = exam.bigramRecall(text);
    exam.dispose();
    const { steps, batchSize, contextLength, width } = size;
    return { steps, batchSize, contextLength, width, parameters, bigramRecall, runs };
  },

  page({ steps, batchSize, contextLength, width, parameters, bigramRecall, runs }) {
    const of = (layers: number): Run[] => runs.filter((run) => run.layers === layers);
    const last = ({ curve }: Run): Snapshot => curve.at(-1)!;
    const two = of(2);
    const rows = layerCounts.map((layers) => [
      layers === 1 ? "one layer" : "two layers",
      ...[(end: Snapshot) => end.loss, (end: Snapshot) => end.recall, (end: Snapshot) => end.inContext].map((value) =>
        withMargin(of(layers).map((run) => value(last(run)))),
      ),
      withMargin(of(layers).map((run) => Math.max(...last(run).induction))),
    ]);
    const recall = (state: Snapshot): number => state.recall;
    const timing = two.map(({ seed, curve }) => {
      const from = curve.findIndex(({ step }) => step >= Math.min(bigramsLearned, steps / 2));
      const late = curve.slice(from);
      return [
        seed,
        steepest(late, recall),
        halfway(late, (state) => state.previousToken[0]!),
        halfway(late, (state) => state.induction[1]!),
        halfway(late, (state) => state.inContext),
        round(curve.at(-1)!.recall),
      ];
    });
    const others = (run: Run, layer: number, by: "previousToken" | "induction"): number[] => {
      const best = strongest(run.removals, layer, by);
      return run.removals.filter((one) => one.layer === layer && one !== best).map((one) => one.recall);
    };
    const removal = (name: string, value: (run: Run) => number, score: string): (string | number)[] => [
      name,
      score,
      withMargin(two.map(value)),
    ];
    const scoreOf = (layer: number, by: "previousToken" | "induction"): string =>
      withMargin(two.map((run) => strongest(run.removals, layer, by)[by]));
    const removed = [
      removal("nothing", (run) => last(run).recall, ""),
      removal(
        "the strongest induction head",
        (run) => strongest(run.removals, 1, "induction").recall,
        scoreOf(1, "induction"),
      ),
      removal("another head of the second layer (mean)", (run) => meanOf(others(run, 1, "induction")), ""),
      removal(
        "the strongest previous-token head",
        (run) => strongest(run.removals, 0, "previousToken").recall,
        scoreOf(0, "previousToken"),
      ),
      removal("another head of the first layer (mean)", (run) => meanOf(others(run, 0, "previousToken")), ""),
    ];
    const [lossOne, lossTwo] = [1, 2].map((layers) => intervalOf(of(layers).map((run) => last(run).recall)).mean) as [
      number,
      number,
    ];
    const learned = lossTwo < 0.75 * lossOne;
    const without = (value: (run: Run) => number): number => meanOf(two.map(value));
    const cost = (layer: number, by: "previousToken" | "induction"): [number, number] => [
      without((run) => strongest(run.removals, layer, by).recall) - lossTwo,
      without((run) => meanOf(others(run, layer, by))) - lossTwo,
    ];
    const [induced, otherSecond] = cost(1, "induction");
    const [previous, otherFirst] = cost(0, "previousToken");
    const isMost = induced > otherSecond && previous > otherFirst;
    const removalText =
      `Without its strongest induction head the loss of a model rises by ${round(induced)}, without another head of that layer by ` +
      `${round(otherSecond)}; for the previous-token head and the first layer it is ${round(previous)} and ${round(otherFirst)}. ` +
      (isMost
        ? "The heads that the scores find are those that the model needs most, as the papers say."
        : "So the scores do not always find the heads that the model needs most.");
    const points = (run: Run, value: (state: Snapshot) => number): [number, number][] =>
      run.curve.map((state) => [state.step, value(state)]);
    const [first, single] = [two[0]!, of(1)[0]!];
    return {
      text: `## Question

When does a transformer learn to use its context, and which heads do it?

## What the papers say

Elhage et al. 2021 ("A Mathematical Framework for Transformer Circuits") find that models of attention alone need two
layers to copy from the context: a head of the first layer writes each token's predecessor into its state, and an
*induction head* of the second layer looks for the place whose predecessor is the present token. Olsson et al. 2022
("In-context Learning and Induction Heads", arXiv:2209.11895) see these heads form in a short phase of training, in
which the loss of late tokens falls below that of early ones. Models of one layer have no such phase.

## Method

GPTs of attention alone (${width} wide, ${heads} heads in each layer, rotary positions) are trained for ${steps} steps on
${batchSize} sequences of ${contextLength} characters. Their feed-forward layers are zeros that are not trained, which leaves ${parameters[0]}
parameters with one layer and ${parameters[1]} with two. The sequences follow the bigrams of Moby Dick, with one exception
(Bietti et al. 2023, "Birth of a Transformer", arXiv:2306.00802): in each sequence ${triggers} of the ${common} most
frequent characters always have the same successor, which is drawn anew for every sequence. From the second time on, the context
tells this successor, and nothing else does. Each model is trained with ${of(1).length} seeds, which set its weights and its data.

- **Loss of copyable characters**: those whose successor the context has shown.
- **In-context score**: loss of the last quarter of the positions minus that of the positions from 3 % to 13 %. It is
  negative if the context helps. (Olsson et al. take token 500 minus token 50.)
- **Head scores** on random characters that are repeated once: the share of attention that a head pays to the token
  before, and the share that it pays, in the second half, to the token after the earlier occurrence
  (\`headScores\` of heed/inspect).
- **Removal** replaces a head's values by their mean over all texts and positions (\`replaceWith\`).

## What happened

![Head scores and the in-context score of two layers, and of one](plot:scores)

![Loss of the characters that can be copied](plot:recall)

${table(["model", "loss", "loss of copyable characters", "in-context score", "best induction head"], rows)}

The values are means over the seeds with 95 % intervals (Student's t), in nats per character. The book's own bigrams
give copyable characters a loss of ${round(bigramRecall)}.

The table below has the steps at which things happened in the models of two layers, counted from step ${bigramsLearned} on, when the
bigrams are learned; snapshots were taken every ${first.curve[1]!.step - first.curve[0]!.step} steps.

${table(["seed", "steepest fall of the loss of copyable characters", "previous-token score halfway", "induction score halfway", "in-context score halfway", "loss of copyable characters at the end"], timing)}

The next table has the loss of copyable characters in trained models of two layers if a head is removed:

${table(["removed", "its score", "loss of copyable characters"], removed)}

## Conclusion

${
  learned
    ? `With two layers the loss of what can be copied falls to ${round(lossTwo)}, with one layer only to ${round(lossOne)}. It falls in a short phase, and in the same
phase the previous-token score of a first-layer head and the induction score of a second-layer head rise: see the table
of steps. ${removalText}`
    : `In ${steps} steps the models of two layers did not learn to copy better than those of one layer (${round(lossTwo)} and ${round(lossOne)} nats).`
}

## Where it differs from the papers, and why

The papers train on natural text and see a phase change after billions of tokens; here the text has bigrams alone, so
that nothing but copying is left to learn after the first steps. One layer is not quite without in-context learning:
it can raise the probability of every character that the sequence has contained often, successors among them, without
knowing after which character they come. The phase comes at a different step for each seed, and
after ${steps} steps a late one has not ended, which is why the intervals are wide.
`,
      plots: {
        scores: {
          title: `In-context learning and heads, seed ${first.seed}`,
          x: { title: "steps" },
          y: { title: "score (share of attention; nats)" },
          lines: {
            "previous-token head": points(first, (state) => state.previousToken[0]!),
            "induction head": points(first, (state) => state.induction[1]!),
            "in-context score, two layers": points(first, (state) => state.inContext),
            "in-context score, one layer": points(single, (state) => state.inContext),
          },
        },
        recall: {
          title: "Loss of the characters that can be copied",
          x: { title: "steps" },
          y: { title: "nats per character" },
          lines: Object.fromEntries(
            runs.map((run) => [
              `${run.layers === 1 ? "one layer" : "two layers"}, seed ${run.seed}`,
              points(run, recall),
            ]),
          ),
        },
      },
    };
  },
};
