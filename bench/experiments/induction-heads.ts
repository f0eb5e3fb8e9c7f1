/** Shows when heads that copy from the context form, what a model learns with them, and what is lost without them. */
import { AdamW, GPT, type IntTensor, logProbabilities, mean, mul, noGrad, randn, reshape, scope, tensor } from "heed";
import { headScores, type HooksOf, replaceWith, run, runWithCache } from "heed/inspect";
import { BigramText, common, type Sequences, triggers } from "./bigram-text.js";
import { bookText } from "./book.js";
import { drawFrom, shuffled } from "./draw.js";
import { type Experiment, type Page, round, sections, table } from "./experiment.js";
import { meanOf, withMargin } from "./seeds.js";
import { stepOf } from "./training.js";

const layerCounts = [1, 2] as const;
const heads = 4;
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

/**
 * Resolves to a GPT of attention alone: its feed-forward layers are zeros that are not trained. The weights of attention
 * begin with a variance of 1/C. With GPT-2's, which suits wider models, all scores of so narrow a model begin near 0, and
 * nothing happens for thousands of steps.
 */
async function attentionOnly(layers: number, size: Size, vocabularySize: number, seed: number): Promise<GPT> {
  const { contextLength, width } = size;
  const sizes = { vocabularySize, contextLength, layers, heads, width, feedForwardWidth: 1 };
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

/** Layer in which a model of two layers has its heads of each kind. Their scores tell how far a head is of a kind. */
const layerOf = { previousToken: 0, induction: 1 } as const;
type HeadKind = keyof typeof layerOf;

/** Returns the removal of the strongest head of a kind. */
function strongest({ removals }: Run, kind: HeadKind): Removal {
  return removals.filter(({ layer }) => layer === layerOf[kind]).sort((a, b) => b[kind] - a[kind])[0]!;
}

/** Returns the loss of copyable characters without the strongest head of a kind, and without another head of its layer. */
function recallWithout(run: Run, kind: HeadKind): { best: number; others: number } {
  const best = strongest(run, kind);
  const others = run.removals.filter((one) => one.layer === layerOf[kind] && one !== best);
  return { best: best.recall, others: meanOf(others.map(({ recall }) => recall)) };
}

/** Returns the runs of the models with a number of layers, one for each seed. */
function runsOf(runs: readonly Run[], layers: number): Run[] {
  return runs.filter((run) => run.layers === layers);
}

const nameOf = (layers: number): string => (layers === 1 ? "one layer" : "two layers");

const last = ({ curve }: Run): Snapshot => curve.at(-1)!;

/** Sections on the question and the papers, which are the same for every result. */
const introduction = `## Question

When does a transformer learn to use its context, and which heads do it?

## What the papers say

Elhage et al. 2021 ("A Mathematical Framework for Transformer Circuits") find that models of attention alone need two
layers to copy from the context: a head of the first layer writes each token's predecessor into its state, and an
*induction head* of the second layer looks for the place whose predecessor is the present token. Olsson et al. 2022
("In-context Learning and Induction Heads", arXiv:2209.11895) see these heads form in a short phase of training, in
which the loss of late tokens falls below that of early ones. Models of one layer have no such phase.`;

/** Returns the section on the method. */
function method({ steps, batchSize, contextLength, width, parameters, runs }: Result): string {
  return `## Method

GPTs of attention alone (${width} wide, ${heads} heads in each layer, rotary positions) are trained for ${steps} steps on
${batchSize} sequences of ${contextLength} characters. Their feed-forward layers are zeros that are not trained, which leaves ${parameters[0]}
parameters with one layer and ${parameters[1]} with two. The sequences follow the bigrams of Moby Dick, with one exception
(Bietti et al. 2023, "Birth of a Transformer", arXiv:2306.00802): in each sequence ${triggers} of the ${common} most
frequent characters always have the same successor, which is drawn anew for every sequence. From the second time on, the context
tells this successor, and nothing else does. Each model is trained with ${runsOf(runs, 1).length} seeds, which set its weights and its data.

- **Loss of copyable characters**: those whose successor the context has shown.
- **In-context score**: loss of the last quarter of the positions minus that of the positions from 3 % to 13 %. It is
  negative if the context helps. (Olsson et al. take token 500 minus token 50.)
- **Head scores** on random characters that are repeated once: the share of attention that a head pays to the token
  before, and the share that it pays, in the second half, to the token after the earlier occurrence
  (\`headScores\` of heed/inspect).
- **Removal** replaces a head's values by their mean over all texts and positions (\`replaceWith\`).`;
}

/** Returns the rows of the table of losses, one for each number of layers. */
function lossRows(runs: readonly Run[]): string[][] {
  return layerCounts.map((layers) => {
    const ends = runsOf(runs, layers).map(last);
    return [
      nameOf(layers),
      withMargin(ends.map(({ loss }) => loss)),
      withMargin(ends.map(({ recall }) => recall)),
      withMargin(ends.map(({ inContext }) => inContext)),
      withMargin(ends.map(({ induction }) => Math.max(...induction))),
    ];
  });
}

/** Returns the rows of the table of steps at which things happened in models of two layers, one for each seed. */
function timingRows(two: readonly Run[], steps: number): number[][] {
  return two.map(({ seed, curve }) => {
    const from = curve.findIndex(({ step }) => step >= Math.min(bigramsLearned, steps / 2));
    const late = curve.slice(from);
    return [
      seed,
      steepest(late, ({ recall }) => recall),
      halfway(late, ({ previousToken }) => previousToken[0]!),
      halfway(late, ({ induction }) => induction[1]!),
      halfway(late, ({ inContext }) => inContext),
      round(curve.at(-1)!.recall),
    ];
  });
}

/** Returns the rows of the table of heads that are removed from models of two layers. */
function removalRows(two: readonly Run[]): string[][] {
  const score = (kind: HeadKind): string => withMargin(two.map((run) => strongest(run, kind)[kind]));
  const best = (kind: HeadKind): string => withMargin(two.map((run) => recallWithout(run, kind).best));
  const others = (kind: HeadKind): string => withMargin(two.map((run) => recallWithout(run, kind).others));
  return [
    ["nothing", "", withMargin(two.map((run) => last(run).recall))],
    ["the strongest induction head", score("induction"), best("induction")],
    ["another head of the second layer (mean)", "", others("induction")],
    ["the strongest previous-token head", score("previousToken"), best("previousToken")],
    ["another head of the first layer (mean)", "", others("previousToken")],
  ];
}

/** Returns the section on what happened. */
function findings({ steps, bigramRecall, runs }: Result): string {
  const two = runsOf(runs, 2);
  const [before, after] = two[0]!.curve as [Snapshot, Snapshot];
  const every = after.step - before.step;
  return `## What happened

![Head scores and the in-context score of two layers, and of one](plot:scores)

![Loss of the characters that can be copied](plot:recall)

${table(["model", "loss", "loss of copyable characters", "in-context score", "best induction head"], lossRows(runs))}

The values are means over the seeds with 95 % intervals (Student's t), in nats per character. The book's own bigrams
give copyable characters a loss of ${round(bigramRecall)}.

The table below has the steps at which things happened in the models of two layers, counted from step ${bigramsLearned} on, when the
bigrams are learned; snapshots were taken every ${every} steps.

${table(["seed", "steepest fall of the loss of copyable characters", "previous-token score halfway", "induction score halfway", "in-context score halfway", "loss of copyable characters at the end"], timingRows(two, steps))}

The next table has the loss of copyable characters in trained models of two layers if a head is removed:

${table(["removed", "its score", "loss of copyable characters"], removalRows(two))}`;
}

/** Returns the sentences on what models of two layers lose without a head. */
function removalsText(two: readonly Run[]): string {
  const loss = meanOf(two.map((run) => last(run).recall));
  const cost = (kind: HeadKind): [number, number] => {
    const without = two.map((run) => recallWithout(run, kind));
    return [meanOf(without.map(({ best }) => best)) - loss, meanOf(without.map(({ others }) => others)) - loss];
  };
  const [induced, otherSecond] = cost("induction");
  const [previous, otherFirst] = cost("previousToken");
  const isMost = induced > otherSecond && previous > otherFirst;
  return (
    `Without its strongest induction head the loss of a model rises by ${round(induced)}, without another head of that layer by ` +
    `${round(otherSecond)}; for the previous-token head and the first layer it is ${round(previous)} and ${round(otherFirst)}. ` +
    (isMost
      ? "The heads that the scores find are those that the model needs most, as the papers say."
      : "So the scores do not always find the heads that the model needs most.")
  );
}

/** Returns the section on what follows from the numbers. */
function conclusion({ steps, runs }: Result): string {
  const two = runsOf(runs, 2);
  const lossOf = (of: readonly Run[]): number => meanOf(of.map((run) => last(run).recall));
  const [lossOne, lossTwo] = [lossOf(runsOf(runs, 1)), lossOf(two)];
  return `## Conclusion

${
  lossTwo < 0.75 * lossOne
    ? `With two layers the loss of what can be copied falls to ${round(lossTwo)}, with one layer only to ${round(lossOne)}. It falls in a short phase, and in the same
phase the previous-token score of a first-layer head and the induction score of a second-layer head rise: see the table
of steps. ${removalsText(two)}`
    : `In ${steps} steps the models of two layers did not learn to copy better than those of one layer (${round(lossTwo)} and ${round(lossOne)} nats).`
}`;
}

/** Returns the section on where the experiment differs from the papers. */
function differences({ steps }: Result): string {
  return `## Where it differs from the papers, and why

The papers train on natural text and see a phase change after billions of tokens; here the text has bigrams alone, so
that nothing but copying is left to learn after the first steps. One layer is not quite without in-context learning:
it can raise the probability of every character that the sequence has contained often, successors among them, without
knowing after which character they come. The phase comes at a different step for each seed, and
after ${steps} steps a late one has not ended, which is why the intervals are wide.`;
}

function plotsOf({ runs }: Result): Page["plots"] {
  const points = (run: Run, value: (state: Snapshot) => number): [number, number][] =>
    run.curve.map((state) => [state.step, value(state)]);
  const [single, first] = [runsOf(runs, 1)[0]!, runsOf(runs, 2)[0]!];
  return {
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
        runs.map((run) => [`${nameOf(run.layers)}, seed ${run.seed}`, points(run, (state) => state.recall)]),
      ),
    },
  };
}

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

  page(result) {
    const text = sections(introduction, method(result), findings(result), conclusion(result), differences(result));
    return { text, plots: plotsOf(result) };
  },
};
