/** Measures how the loss of language models falls with their size, with data and with compute, and fits power laws. */
import { AdamW, Batches, GPT, tensor, WeightAverage } from "heed";
import { type Book, mobyDick } from "./book.js";
import { type Experiment, type Page, percent, round, sections, table } from "./experiment.js";
import { fitLine, fitLossLaw, lossBy, type LossLaw, type LossPoint } from "./power-law.js";
import { intervalOf, meanOf, withMargin } from "./seeds.js";
import { evaluateLoss, stepOf } from "./training.js";

/** State of a model after some steps. */
interface Point extends LossPoint {
  /** Floating-point operations of training so far. */
  flops: number;
}

interface Run {
  seed: number;
  /** Widths of the models with their points. */
  models: { width: number; points: Point[] }[];
}

interface Result {
  layers: number;
  contextLength: number;
  batchSize: number;
  vocabularySize: number;
  trainTokens: number;
  runs: Run[];
}

interface Size {
  widths: readonly number[];
  layers: number;
  headSize: number;
  contextLength: number;
  batchSize: number;
  /** Steps after which the loss is measured. */
  moments: readonly number[];
  evaluated: number;
}

/**
 * Returns the number of parameters that take part in products with a token's state: all but the position table. The token
 * embedding counts once, as the output projection.
 */
function parametersOf(model: GPT): number {
  return model.parameterCount() - model.wpe!.parameterCount();
}

/** Returns the learning rate for a width. Wider models need a smaller one. */
const rateOf = (width: number): number => Math.min(0.01, 0.2 / width);

/**
 * Trains a model with a learning rate that stays the same, and measures the held-out loss at some steps with weights that
 * are averaged over about a tenth of the steps so far. That replaces a decay of the learning rate, so that one run serves
 * all its lengths (Hägele et al. 2024).
 */
async function measure(width: number, seed: number, book: Book, size: Size): Promise<Point[]> {
  const { layers, headSize, contextLength, batchSize, moments, evaluated } = size;
  const { vocabularySize } = book.tokenizer;
  const heads = width / headSize;
  using model = new GPT({ vocabularySize, contextLength, layers, heads, width }, { seed });
  using optimizer = new AdamW(model.namedParameters(), { beta2: 0.95, weightDecay: 0.1, maxNorm: 1 });
  const batches = new Batches(book.train, { batchSize, contextLength, seed });
  const parameters = parametersOf(model);
  // 6 for each parameter, and attention over T/2 keys on average (Kaplan et al. 2020, §2.1).
  const flopsPerToken = 6 * (parameters + layers * contextLength * width);
  const points: Point[] = [];
  let average: WeightAverage | null = null;
  for (let step = 1; step <= moments.at(-1)!; step++) {
    optimizer.lr = rateOf(width) * Math.min(1, step / 20);
    const { inputs, targets } = batches.batch(step - 1);
    using ids = tensor(inputs, [batchSize, contextLength]);
    using following = tensor(targets, [batchSize, contextLength]);
    await stepOf(model, optimizer, ids, following);
    const next = moments.find((moment) => moment >= step)!;
    if (step >= next / 2) {
      average ??= new WeightAverage(model, { decay: Math.max(0, 1 - 10 / next) });
      average.update();
    }
    if (step !== next) continue;
    const held = { batchSize, contextLength, batches: evaluated };
    const loss = await average!.use(() => evaluateLoss(model, book.validation, held));
    average!.dispose();
    average = null;
    const tokens = step * batchSize * contextLength;
    points.push({ parameters, tokens, loss, flops: tokens * flopsPerToken });
  }
  return points;
}

/** Returns the points of a run that no point with less compute beats, by rising compute. */
function frontierOf({ models }: Run): Point[] {
  const all = models.flatMap(({ points }) => points).sort((a, b) => a.flops - b.flops);
  return all.filter((point, i) => all.slice(0, i).every(({ loss }) => point.loss < loss));
}

/** Laws fitted to the models of a run. */
interface Fits {
  law: LossLaw;
  /** Exponent of the loss of the best model for a compute: L ∝ C^−exponent. */
  exponent: number;
  explained: number;
  intercept: number;
  /** Exponents a of the best size, N ∝ C^a: along the middle of the frontier, and by the law. */
  growth: number;
  growthByLaw: number;
  /** Loss of the largest model at the end, as measured and as a law of all other models predicts it. */
  measured: number;
  predicted: number;
}

/**
 * Returns the points of the frontier at which both a smaller and a larger size could have been best. At its ends they could
 * not: the lowest compute is that of the smallest size, and the highest that of the largest.
 */
function middleOf({ models }: Run, frontier: readonly Point[]): Point[] {
  const [smallest, largest] = [models[0]!, models.at(-1)!].map(({ points }) => points[0]!.parameters);
  return frontier.filter(({ parameters }) => parameters !== smallest && parameters !== largest);
}

function fitsOf(run: Run): Fits {
  const all = run.models.flatMap(({ points }) => points);
  const frontier = frontierOf(run);
  const middle = middleOf(run, frontier);
  const law = fitLossLaw(all);
  const byCompute = fitLine(frontier.map(({ flops, loss }) => [Math.log(flops), Math.log(loss)]));
  const growth = fitLine(middle.map(({ flops, parameters }) => [Math.log(flops), Math.log(parameters)])).slope;
  const largest = run.models.at(-1)!.points.at(-1)!;
  const smaller = fitLossLaw(run.models.slice(0, -1).flatMap(({ points }) => points));
  return {
    ...{ law, exponent: -byCompute.slope, explained: byCompute.explained, intercept: byCompute.intercept },
    ...{ growth, growthByLaw: law.beta / (law.alpha + law.beta) },
    ...{ measured: largest.loss, predicted: lossBy(smaller, largest.parameters, largest.tokens) },
  };
}

/** Returns a number of tokens or parameters in a short form. */
function short(count: number): string {
  return count >= 1e6 ? `${round(count / 1e6)} M` : count >= 1e3 ? `${round(count / 1e3)} k` : String(count);
}

/** Returns the sentence that says how sizes follow each other along the frontiers. */
function successionOf(runs: readonly Run[]): string {
  const frontiers = runs.map((run) => frontierOf(run).map(({ parameters }) => parameters));
  const rises = frontiers.every((sizes) => sizes.every((size, i) => i === 0 || size >= sizes[i - 1]!));
  const counts = frontiers.map((sizes) => new Set(sizes).size);
  const [fewest, most] = [Math.min(...counts), Math.max(...counts)];
  const count = fewest === most ? String(most) : `${fewest} to ${most}`;
  const of = `${count} of the ${runs[0]!.models.length} sizes are best somewhere`;
  return rises
    ? `Each size is best for a stretch of compute, if at all, and is then overtaken by a larger one: ${of}.`
    : `With more compute larger sizes become best, though not at every step of it: ${of}.`;
}

/** Returns what the end of the data does to the growth along the frontier, or nothing if that is little. */
function endsOf(runs: readonly Run[]): string {
  const middle = runs.flatMap((run) => middleOf(run, frontierOf(run)));
  const most = Math.max(
    ...runs.flatMap(({ models }) => models.flatMap(({ points }) => points.map((one) => one.tokens))),
  );
  const share = meanOf(middle.map(({ tokens }) => Number(tokens === most)));
  return share < 0.2
    ? ""
    : ` Along the frontier the growth is likely too large: ${percent(share)} of its points are the last of their size, and a smaller size that saw
more tokens than these runs have might have beaten them.`;
}

/** Returns the sentence that compares the growth of the best size with that of the papers. */
function nearerOf(fits: readonly Fits[]): string {
  const { mean, margin } = intervalOf(fits.map(({ growthByLaw }) => growthByLaw));
  const [hoffmann, kaplan] = [0.5, 0.73].map((paper) => Math.abs(mean - paper)) as [number, number];
  const holdsBoth = hoffmann <= margin && kaplan <= margin;
  if (holdsBoth)
    return "The interval of the latter contains Hoffmann's 0.5 and Kaplan's 0.73, so these runs do not decide between them.";
  return hoffmann < kaplan
    ? "The latter is nearer to Hoffmann's 0.5 than to Kaplan's 0.73: size and data grow about alike."
    : "The latter is nearer to Kaplan's 0.73 than to Hoffmann's 0.5.";
}

/** Returns what is to be said about the irreducible loss, as the end of a sentence. */
function irreducibleOf(fits: readonly Fits[]): string {
  const { mean, margin } = intervalOf(fits.map(({ law }) => law.irreducible));
  const zeros = fits.filter(({ law }) => law.irreducible === 0).length;
  if (zeros > 0)
    return `, and these points do not determine it: ${zeros === fits.length ? "all" : `${zeros} of ${fits.length}`} fits make it 0 and give its part to the exponents`;
  const error = meanOf(fits.map(({ law }) => law.error));
  return margin / mean > error
    ? ", and these points do not determine it well: it trades against the exponents, and its interval is wider than the error of the fits"
    : "";
}

/** Returns the sentence that says whether the largest model would gain from more data. */
function dataOf(runs: readonly Run[]): string {
  const gains = runs.map(({ models }) => {
    const [before, after] = models.at(-1)!.points.slice(-2) as [Point, Point];
    return 1 - after.loss / before.loss;
  });
  return meanOf(gains) > 0.01
    ? `The largest model's loss still falls by ${percent(meanOf(gains), 1)} with the last doubling of its data, so it is far from what it could learn.`
    : "The largest model's loss hardly falls any more with the last doubling of its data.";
}

/** Returns the lowest and the highest compute of a run's frontier, in 10⁹ operations. */
function rangeOf(run: Run): [number, number] {
  const frontier = frontierOf(run);
  return [frontier[0]!.flops / 1e9, frontier.at(-1)!.flops / 1e9];
}

/** Sections on the question and the papers, which are the same for every result. */
const introduction = `## Question

If a model may cost so many operations of training, how large should it be, how many tokens should it see, and how good will it
get?

## What the papers say

Kaplan et al. 2020 ("Scaling Laws for Neural Language Models", arXiv:2001.08361) find that the loss of the best model falls as a power
of compute, L ∝ C^−0.05, and that the best size grows fast, N ∝ C^0.73. Hoffmann et al. 2022 ("Training Compute-Optimal Large Language
Models", arXiv:2203.15556) fit L(N, D) = E + A/N^α + B/D^β and find that size and data should grow alike, N ∝ C^0.5. They explain the
difference by learning rates whose decay did not fit the length of a run.`;

/** Returns the section on the method. */
function method({ layers, contextLength, batchSize, vocabularySize, trainTokens, runs }: Result): string {
  const { models } = runs[0]!;
  const { tokens } = models[0]!.points.at(-1)!;
  return `## Method

GPTs with ${layers} layers and widths from ${models[0]!.width} to ${models.at(-1)!.width} (heads of 8, a context of ${contextLength}) learn the characters of Moby Dick (${vocabularySize} of them, ${short(trainTokens)} for
training), ${batchSize * contextLength} in each step. ${tokens <= trainTokens ? "No character is seen twice. " : ""}The learning rate is 0.2/width, 0.01 at most, and stays the same; the
loss of held-out text is measured with weights that are averaged over about a tenth of the steps so far. That does what a decay of the
learning rate would do, so that every length of a run has its own "decay" (Hägele et al. 2024, arXiv:2405.18392), and Hoffmann's
objection does not apply. All is repeated with ${runs.length} seeds, which set weights and the order of the data.

- **N** is the number of parameters without positions; the token embedding counts once, since it is the output projection as well.
- **Compute** C is 6 · (N + layers · ${contextLength} · width) for each token: products and attention, forward and backward.
- The **frontier** has the points that no cheaper point beats. Its power law is a line through the logarithms.
- **E, A, B, α and β** are fitted to all points of a seed, by least squares of the relative errors.`;
}

/** Returns the section on what was found. */
function findings({ runs }: Result, fits: readonly Fits[]): string {
  const { models } = runs[0]!;
  const of = (value: (fits: Fits) => number): string => withMargin(fits.map(value));
  const mean = (value: (fits: Fits) => number): number => meanOf(fits.map(value));
  const moments = models[0]!.points.map(({ tokens }) => tokens);
  const lossRows = models.map(({ width, points }, model) => [
    width,
    short(points[0]!.parameters),
    ...moments.map((_, i) => withMargin(runs.map(({ models }) => models[model]!.points[i]!.loss))),
  ]);
  const lawRows = [
    ["exponent of the size, α", of(({ law }) => law.alpha), "0.34", "0.076 (1)"],
    ["exponent of the tokens, β", of(({ law }) => law.beta), "0.28", "0.095 (1)"],
    ["irreducible loss E, nats per token", of(({ law }) => law.irreducible), "1.69", "0"],
    ["exponent of the loss by compute", of(({ exponent }) => exponent), "–", "0.050"],
    ["growth a of the best size, by the law", of(({ growthByLaw }) => growthByLaw), "0.46", "–"],
    ["growth a of the best size, along the frontier (2)", of(({ growth }) => growth), "0.50", "0.73"],
  ];
  const explained = mean((one) => one.explained);
  const error = mean(({ law }) => law.error);
  const miss = mean(({ measured, predicted }) => Math.abs(predicted / measured - 1));
  return `## What was found

![Loss against compute](plot:compute)

Each line is a size, each point twice the tokens of the one before; the line "power law" is fitted to the frontier of the same seed. The
table has the held-out loss in nats per character.

${table(["width", "N", ...moments.map((tokens) => `${short(tokens)} tokens`)], lossRows)}

The next table has the fits, and what the papers give for text in subwords.

${table(["", "here", "Hoffmann et al.", "Kaplan et al."], lawRows)}

(1) Kaplan et al. fit size and data without an irreducible loss, which makes exponents smaller.
(2) Without the points of the smallest and the largest size, since no smaller or larger one could have beaten them.

The power law explains ${percent(explained, 1)} of the variance of the frontier's logarithms, and the law of N and D fits all points
with a relative error of ${percent(error, 1)}. The values are means over the seeds with 95 % intervals (Student's t).

**A test of the law.** Fitted without the model of width ${models.at(-1)!.width}, it predicts the loss of that model after ${short(moments.at(-1)!)} tokens as ${of(({ predicted }) => predicted)};
measured were ${of(({ measured }) => measured)}. The predictions are off by ${percent(miss, 1)} on average${miss > 3 * error ? ", several times the error of the fit" : ""}.`;
}

/** Returns the section on what follows from the numbers. */
function conclusion({ runs }: Result, fits: readonly Fits[]): string {
  const mean = (value: (fits: Fits) => number): number => meanOf(fits.map(value));
  const [least, most] = rangeOf(runs[0]!);
  const magnitudes = round(Math.log10(most / least));
  const left = mean(({ exponent }) => 2 ** -exponent);
  return `## Conclusion

Twice the compute lowers the loss of the best model to ${percent(left, 1)} of what it was. ${
    mean(({ explained }) => explained) > 0.98
      ? `That is a power law over the ${magnitudes} orders of magnitude of compute that fit here.`
      : `A power law describes the ${magnitudes} orders of magnitude of compute that fit here only roughly.`
  } ${successionOf(runs)}

The best size grows as C^${round(mean(({ growth }) => growth))} along the frontier and as C^${round(mean(({ growthByLaw }) => growthByLaw))} by the law. ${nearerOf(fits)}${endsOf(runs)}`;
}

/** Returns the section on where the experiment differs from the papers. */
function differences({ vocabularySize, runs }: Result, fits: readonly Fits[]): string {
  const [, most] = rangeOf(runs[0]!);
  const embedded = runs[0]!.models.map(({ width, points }) => (vocabularySize * width) / points[0]!.parameters);
  return `## Where it differs from the papers, and why

${
  meanOf(fits.map(({ exponent }) => exponent)) > 0.05
    ? `The exponent of compute is larger than Kaplan's 0.05. The likely reason is that these runs have far less compute than most of the papers'
(${round(most / 1e3)} · 10¹² operations at most) and are at the beginning of the curve, where the frequencies of characters and of their neighbours are still being learned.`
    : `The exponent of compute is no larger than Kaplan's 0.05.`
} The irreducible loss is that of a character, not of a subword${irreducibleOf(fits)}.
${dataOf(runs)} Kaplan et al. leave the embedding out of N; here it is ${percent(embedded.at(-1)!)} of the largest model's parameters
and ${percent(embedded[0]!)} of the smallest's.`;
}

function plotsOf({ runs: [first] }: Result, [fit]: readonly Fits[]): Page["plots"] {
  const { models } = first!;
  const losses = models.flatMap(({ points }) => points.map(({ loss }) => loss));
  const { intercept, exponent } = fit!;
  const fitted = rangeOf(first!).map((at) => [at, Math.exp(intercept - exponent * Math.log(at * 1e9))] as const);
  return {
    compute: {
      title: "Held-out loss against training compute (seed 1)",
      x: { title: "compute, 10⁹ operations", log: true },
      y: { title: "nats per character", log: true, domain: [0.94 * Math.min(...losses), 1.03 * Math.max(...losses)] },
      lines: {
        ...Object.fromEntries(
          models.map(({ width, points }) => [`width ${width}`, points.map(({ flops, loss }) => [flops / 1e9, loss])]),
        ),
        "power law": fitted,
      },
    },
  };
}

export const scale: Experiment<Result> = {
  name: "scale",
  title: "How does the loss fall with compute?",

  seeds: [1, 2, 3],

  async run(quick, seeds = [1, 2, 3]) {
    const size: Size = quick
      ? {
          ...{ widths: [8, 16, 24], layers: 1, headSize: 8, contextLength: 8, batchSize: 2 },
          ...{ moments: [2, 4, 8], evaluated: 1 },
        }
      : {
          ...{ widths: [8, 16, 24, 32, 48, 64, 96], layers: 2, headSize: 8, contextLength: 64, batchSize: 16 },
          ...{ moments: [32, 64, 128, 256, 512, 1024], evaluated: 20 },
        };
    const book = mobyDick();
    const runs: Run[] = [];
    for (const seed of quick ? [1] : seeds) {
      const models: Run["models"] = [];
      for (const width of size.widths) models.push({ width, points: await measure(width, seed, book, size) });
      runs.push({ seed, models });
    }
    const { layers, contextLength, batchSize } = size;
    const { vocabularySize } = book.tokenizer;
    return { layers, contextLength, batchSize, vocabularySize, trainTokens: book.train.length, runs };
  },

  page(result) {
    const fits = result.runs.map(fitsOf);
    return {
      text: sections(
        introduction,
        method(result),
        findings(result, fits),
        conclusion(result, fits),
        differences(result, fits),
      ),
      plots: plotsOf(result, fits),
    };
  },
};
