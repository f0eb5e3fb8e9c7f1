/** Shows how a layer keeps more features than it has dimensions, and if a sparse autoencoder finds them again. */
import {
  add,
  AdamW,
  device,
  type FloatTensor,
  GPT,
  Initializer,
  matmul,
  mean,
  Module,
  mul,
  noGrad,
  relu,
  scope,
  square,
  sub,
  tensor,
  transpose,
} from "heed";
import { evaluateSparseAutoencoder, trainSparseAutoencoder } from "heed/inspect";
import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { type Draw, drawFrom, normalFrom } from "./draw.js";
import { type Experiment, type Page, percent, round, sections, table } from "./experiment.js";
import { clearSign, meanOf, minus, percentWithMargin, withMargin } from "./seeds.js";

/** Probability that a feature is active in the models that are taken apart. */
const probed = 0.03;
/** Cosine from which a direction counts as that of a feature. */
const found = 0.95;
/** Length from which a feature counts as kept. */
const kept = 0.5;

/** Measurements of a trained toy model. */
interface Toy {
  density: number;
  /** Weighted squared error, relative to that of an output of 0. */
  loss: number;
  /** Number of features whose direction has a length of more than `kept`. */
  features: number;
  /** Mean over kept features of Σ (cosine with another kept feature)². */
  interference: number;
  /** Squared length of each feature's direction, from the most to the least important. */
  lengths: number[];
}

/** Agreement of a set of directions with the true features. */
interface Recovery {
  /** Share of the kept features whose direction is found. */
  found: number;
  /** Mean over kept features of the largest cosine of a direction. */
  cosine: number;
}

/** Kinds of autoencoders with their names on the page. TopK keeps two features for each state. */
const kinds = { standard: "L1 penalty", topk: "TopK with 2 active", jumprelu: "JumpReLU" } as const;
type Kind = keyof typeof kinds;
const kindNames = Object.keys(kinds) as Kind[];

interface Autoencoder extends Recovery {
  kind: Kind;
  /** Number of features of the autoencoder. */
  size: number;
  /** Number of active features of the autoencoder for each input. */
  active: number;
  explained: number;
}

interface Run {
  seed: number;
  toys: Toy[];
  /** Number of features that the model that is taken apart keeps, and how many are active at once. */
  features: number;
  active: number;
  autoencoders: Autoencoder[];
  /** Recovery by principal components and by random directions, as many as the largest autoencoder has features. */
  components: Recovery;
  random: Recovery;
}

interface Result {
  features: number;
  width: number;
  importance: number;
  steps: number;
  batchSize: number;
  samples: number;
  autoencoderSteps: number;
  runs: Run[];
}

interface Size {
  features: number;
  width: number;
  steps: number;
  batchSize: number;
  densities: readonly number[];
  samples: number;
  autoencoderSteps: number;
  sizes: readonly number[];
}

/** Factor of the importance from a feature to the next. */
const importance = 0.9;

/** Model x̂ = relu(x·W·Wᵀ + b) of features x (Elhage et al. 2022): it has to pass F features through C numbers. */
class ToyModel extends Module {
  /** Direction of each feature, [F, C]. */
  readonly W: FloatTensor;
  readonly b: FloatTensor;

  constructor(features: number, width: number, seed: number) {
    super();
    const init = new Initializer(seed, device());
    this.W = init.normal([features, width], 1 / Math.sqrt(features));
    this.b = init.constant([features], 0);
  }

  /** Returns the hidden states [B, C] of features [B, F]. */
  encode(x: FloatTensor): FloatTensor {
    return matmul(x, this.W);
  }

  forward(x: FloatTensor): FloatTensor {
    return scope(() => relu(add(matmul(this.encode(x), transpose(this.W)), this.b)));
  }
}

/** Returns random features [rows, count]: each is 0 or, with the probability `density`, between 0 and 1. */
function drawFeatures(rows: number, count: number, density: number, draw: Draw): FloatTensor {
  const share = (): number => draw(2 ** 24) / 2 ** 24;
  return tensor(
    Float32Array.from({ length: rows * count }, () => (share() < density ? share() : 0)),
    [rows, count],
  );
}

/** Trains a toy model, in which some features matter more than others. Resolves to its loss, relative to an output of 0. */
async function learn(model: ToyModel, density: number, size: Size, draw: Draw): Promise<number> {
  const { features, steps, batchSize } = size;
  using weights = tensor(Float32Array.from({ length: features }, (_, i) => importance ** (i / 2)));
  const lossOf = (x: FloatTensor, output: FloatTensor): FloatTensor => mean(square(mul(sub(x, output), weights)));
  using optimizer = new AdamW(model.namedParameters(), { lr: 1e-2, weightDecay: 0 });
  for (let step = 0; step < steps; step++) {
    optimizer.lr = 1e-2 * Math.cos((0.5 * Math.PI * step) / steps);
    using x = drawFeatures(batchSize, features, density, draw);
    scope(() => {
      optimizer.zeroGrad();
      lossOf(x, model.forward(x)).backward();
      optimizer.step();
    });
    if (step % 100 === 99) await device().synchronize();
  }
  using x = drawFeatures(Math.min(8192, 16 * batchSize), features, density, draw);
  const losses = noGrad(() =>
    scope(() => ({ own: lossOf(x, model.forward(x)).item(), zero: mean(square(mul(x, weights))).item() })),
  );
  return (await losses.own) / (await losses.zero);
}

/** Returns the rows of a matrix as directions with their lengths. */
function directionsOf(values: Float32Array, width: number): { length: number; direction: number[] }[] {
  return Array.from({ length: values.length / width }, (_, i) => {
    const row = [...values.subarray(i * width, (i + 1) * width)];
    const length = Math.hypot(...row);
    return { length, direction: row.map((value) => value / (length || 1)) };
  });
}

const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

/** Returns how well directions match those of features. */
function recovery(features: readonly number[][], directions: readonly number[][]): Recovery {
  const best = features.map((feature) => Math.max(...directions.map((direction) => dot(feature, direction))));
  return { found: meanOf(best.map((cosine) => Number(cosine > found))), cosine: meanOf(best) };
}

async function toyOf(density: number, seed: number, size: Size): Promise<{ model: ToyModel; toy: Toy }> {
  const model = new ToyModel(size.features, size.width, seed);
  const loss = await learn(model, density, size, drawFrom(Math.imul(seed, 0x9e3779b1)));
  const directions = directionsOf(await model.W.data(), size.width);
  const strong = directions.filter(({ length }) => length > kept);
  const crowding = strong.map(({ direction }) =>
    strong.reduce((sum, other) => sum + (other.direction === direction ? 0 : dot(other.direction, direction) ** 2), 0),
  );
  return {
    model,
    toy: {
      ...{ density, loss, features: strong.length, interference: meanOf(crowding) },
      lengths: directions.map(({ length }) => length ** 2),
    },
  };
}

/**
 * Takes the hidden states of a toy model apart. heed's trainer reads activations of a model, so the states become the
 * embeddings of a GPT: each token stands for one sample of features.
 */
async function takeApart(model: ToyModel, seed: number, size: Size): Promise<Omit<Run, "seed" | "toys">> {
  const { features, width, samples, autoencoderSteps } = size;
  const draw = drawFrom(Math.imul(seed, 0x85ebca6b));
  const x = drawFeatures(samples, features, probed, draw);
  using states = noGrad(() => model.encode(x));
  const values = await states.data();
  const active = (await x.data()).reduce((sum, value) => sum + Number(value > 0), 0) / samples;
  x.dispose();
  const strong = directionsOf(await model.W.data(), width).filter(({ length }) => length > kept);
  const truth = strong.map(({ direction }) => direction);

  const length = 64;
  const sizes = { vocabularySize: samples, contextLength: length, layers: 1, heads: 1, width };
  using reader = new GPT({ ...sizes, feedForwardWidth: 1, positions: "none" }, { seed });
  reader.wte.weight.set(values);
  const corpus = Array.from({ length: samples / length }, (_, i) =>
    Int32Array.from({ length }, (_, t) => i * length + t),
  );
  const autoencoders: Autoencoder[] = [];
  for (const kind of kindNames)
    for (const count of size.sizes) {
      using sae = await trainSparseAutoencoder(reader, corpus, {
        ...{ name: "hook_embed", features: count, architecture: kind, ...(kind === "topk" && { k: 2 }) },
        ...{ steps: autoencoderSteps, rows: 512, buffer: samples, batch: 64, seed },
      });
      const { l0, explainedVariance } = await evaluateSparseAutoencoder(sae, reader, corpus, { batch: 64 });
      const directions = directionsOf(await sae.W_dec.data(), width).map(({ direction }) => direction);
      autoencoders.push({
        kind,
        size: count,
        active: l0,
        explained: explainedVariance,
        ...recovery(truth, directions),
      });
    }
  const rows = Array.from({ length: Math.min(samples, 4096) }, (_, i) => [
    ...values.subarray(i * width, (i + 1) * width),
  ]);
  const axes = new SingularValueDecomposition(new Matrix(rows).center("column")).rightSingularVectors
    .transpose()
    .to2DArray();
  const normal = normalFrom(draw);
  const many = Float32Array.from({ length: Math.max(...size.sizes) * width }, normal);
  return {
    ...{ features: truth.length, active, autoencoders },
    // A component has no sign.
    components: recovery(truth, [...axes, ...axes.map((axis) => axis.map((value) => -value))]),
    random: recovery(
      truth,
      directionsOf(many, width).map(({ direction }) => direction),
    ),
  };
}

async function measure(seed: number, size: Size): Promise<Run> {
  const toys: Toy[] = [];
  let apart: Omit<Run, "seed" | "toys"> | null = null;
  for (const density of size.densities) {
    const { model, toy } = await toyOf(density, seed, size);
    toys.push(toy);
    if (density === probed) apart = await takeApart(model, seed, size);
    model.dispose();
  }
  return { seed, toys, ...apart! };
}

/** Returns the densities of the toy models, from all features active to few. */
function densitiesOf([first]: readonly Run[]): number[] {
  return first!.toys.map(({ density }) => density);
}

/** Returns the toy models of a density, one for each seed. */
function toysAt(runs: readonly Run[], density: number): Toy[] {
  return runs.map(({ toys }) => toys.find((toy) => toy.density === density)!);
}

/** Returns the autoencoders with an index, one for each seed. */
function autoencodersAt(runs: readonly Run[], index: number): Autoencoder[] {
  return runs.map(({ autoencoders }) => autoencoders[index]!);
}

const nameOf = ({ kind, size }: Autoencoder): string => `${kinds[kind]}, ${size} features`;

/** Returns the conclusion: what follows from the numbers. */
function verdict({ features, width, runs }: Result): string {
  const densities = densitiesOf(runs);
  const keptAt = (density: number): number[] => toysAt(runs, density).map((toy) => toy.features);
  const [dense, sparse] = [keptAt(densities[0]!), keptAt(densities.at(-1)!)];
  const [few, many] = [meanOf(dense), meanOf(sparse)];
  const packs = clearSign(sparse.map((count) => count - width)) === 1;
  const crowd =
    packs && few <= width + 0.5
      ? `So ${width} dimensions hold more than ${width} features only if the features are sparse, as Elhage et al. say.`
      : packs
        ? `So ${width} dimensions hold more than ${width} features, ${few > width ? "even if all are active at once, but more of them if they are sparse" : "if they are sparse"}.`
        : `The intervals do not show that ${width} dimensions hold more than ${width} features.`;

  const all = runs[0]!.autoencoders;
  const foundBy = (index: number): number[] => autoencodersAt(runs, index).map((one) => one.found);
  const order = [...all.keys()].sort((a, b) => meanOf(foundBy(b)) - meanOf(foundBy(a)));
  const best = order[0]!;
  const shares = foundBy(best);
  const others = (["components", "random"] as const).map((kind) => runs.map((run) => run[kind].found));
  const recovered = others.every((other) => clearSign(minus(shares, other)) === 1)
    ? `The components are at right angles and as many as dimensions, so that they cannot be all features; the autoencoder is told only that few
features are active at once, and that ${meanOf(shares) > 0.9 ? "is enough to find nearly all of them" : "finds part of them"}.`
    : "These differences are not clear of the seeds' intervals, so the runs do not show that sparsity tells the features apart.";
  const rest = order.filter((index) => all[index]!.kind !== all[best]!.kind);
  const second = rest[0]!;
  const matters = clearSign(minus(shares, foundBy(second))) === 1;
  const active = meanOf(autoencodersAt(runs, second).map((one) => one.active));
  const needed = meanOf(runs.map((run) => run.active));
  const kindsText = matters
    ? `The kind of autoencoder matters: the best of another kind (${nameOf(all[second]!)}) finds ${percent(meanOf(foundBy(second)))}. ${
        active > 2 * needed
          ? `It has ${round(active)} active features for each state, where ${round(needed)} are needed. A likely reason is that an encoder is one product: with so
many directions in ${width} dimensions, a state of one feature also points along its neighbours, and a penalty or a threshold does not silence them as
TopK does.`
          : ""
      }`
    : `Between the kinds of autoencoders there is no clear difference: the best of another kind (${nameOf(all[second]!)}) finds ${percent(meanOf(foundBy(second)))}.`;
  return `## Conclusion

With all features active the models keep ${round(few)} of ${features}, with a density of ${round(100 * densities.at(-1)!)} % they keep ${round(many)}. ${crowd}

The best autoencoder (${nameOf(all[best]!)}) finds ${percent(meanOf(shares))} of the kept features from the states alone, the principal components ${percent(meanOf(others[0]!))}, and
random directions ${percent(meanOf(others[1]!))}. ${recovered}

${kindsText}`;
}

/** Sections on the question and the papers, which are the same for every result. */
const introduction = `## Question

Can a layer keep more features than it has dimensions, when does it do so, and can the features be found again from its states alone?

## What the papers say

Elhage et al. 2022 ("Toy Models of Superposition", arXiv:2209.10652) train models that pass many features through few numbers. If all
features are active at once, the model keeps the most important ones, one for each dimension. The sparser they are, the more of them it
keeps, in directions that are not at right angles (*superposition*): two that interfere are seldom active together. Bricken et al. 2023
("Towards Monosemanticity") and Cunningham et al. 2023 (arXiv:2309.08600) take such states apart with sparse autoencoders.`;

/** Returns the section on the method. */
function method({ features, width, importance, steps, batchSize, samples, autoencoderSteps, runs }: Result): string {
  return `## Method

The model is x̂ = relu(x·W·Wᵀ + b), with ${features} features x and a W that leaves them ${width} numbers. A feature is 0 or, with a probability that
is the same for all (its *density*), between 0 and 1. The squared error of feature i counts ${importance}ⁱ. Models for each density are trained for
${steps} steps of ${batchSize} samples (AdamW), with ${runs.length} seeds.

- A feature is **kept** if its row of W is longer than ${kept}.
- **Interference** of a kept feature is the sum of its squared cosines with the others.
- **Loss** is relative to that of an output of 0.

Then the hidden states x·W of ${samples} samples at a density of ${round(100 * probed)} % are taken apart by sparse autoencoders, which see nothing
of W or x (\`trainSparseAutoencoder\`, ${autoencoderSteps} steps of 512 states): those with an L1 penalty, TopK autoencoders that keep the two largest
features of a state, and JumpReLU autoencoders, which learn a threshold for each feature. A feature is **found** if a direction of the decoder has
a cosine of more than ${found} with it.`;
}

/** Returns the sizes of the autoencoders. */
function sizesOf([first]: readonly Run[]): number[] {
  return [...new Set(first!.autoencoders.map(({ size }) => size))];
}

/** Returns the rows of the table of toy models, one for each density. */
function toyRows(runs: readonly Run[]): string[][] {
  return densitiesOf(runs).map((density) => {
    const toys = toysAt(runs, density);
    return [
      `${round(100 * density)} %`,
      withMargin(toys.map((toy) => toy.features)),
      withMargin(toys.map(({ interference }) => (interference < 1e-5 ? 0 : interference))),
      withMargin(toys.map((toy) => toy.loss)),
    ];
  });
}

/** Returns the rows of the table of directions: those of the autoencoders and those that they are compared with. */
function recoveryRows({ width, runs }: Result): string[][] {
  const row = (name: string, recoveries: readonly Recovery[], ...rest: string[]): string[] => [
    name,
    percentWithMargin(recoveries.map((one) => one.found)),
    withMargin(recoveries.map((one) => one.cosine)),
    ...rest,
  ];
  const autoencoders = runs[0]!.autoencoders.map((first, i) => {
    const own = autoencodersAt(runs, i);
    const [active, explained] = [own.map((one) => one.active), own.map((one) => one.explained)];
    return row(nameOf(first), own, withMargin(active), percentWithMargin(explained));
  });
  const [components, random] = [runs.map((run) => run.components), runs.map((run) => run.random)];
  return [
    ...autoencoders,
    row(`principal components, ${width}`, components, "–", "100.0 %"),
    row(`random directions, ${sizesOf(runs).at(-1)}`, random, "–", "–"),
  ];
}

/** Returns the section on what was found. */
function findings(result: Result): string {
  const { width, runs } = result;
  return `## What was found

![Features kept, against their density](plot:features)

${table(["density", "features kept", "interference", "loss"], toyRows(runs))}

![Squared length of each feature's direction](plot:lengths)

At a density of ${round(100 * probed)} % the models keep ${withMargin(runs.map((run) => run.features))} features in ${width} dimensions, and ${round(meanOf(runs.map(({ active }) => active)))} are active at once on average.

${table(["directions", "features found", "mean of the best cosine", "active at once", "variance explained"], recoveryRows(result))}

The values are means over the seeds with 95 % intervals (Student's t).`;
}

/** Returns the section on where the experiment differs from the papers. */
function differences({ features, importance, runs }: Result): string {
  const penalised = runs.flatMap(({ autoencoders }) => autoencoders.filter(({ kind }) => kind === "standard"));
  const explained = meanOf(penalised.map((one) => one.explained));
  const factors = sizesOf(runs).map((size) => round(size / features));
  return `## Where it differs from the papers, and why

Elhage et al. draw the densities and importances of larger models as a phase diagram; here is one importance, a factor of ${importance} from each
feature to the next. The autoencoders are told their number of features, ${factors.join(" or ")} times as many as the data have; in a language model nobody knows it. TopK is also told to keep two of them.${
    explained < 0.995
      ? " An L1\npenalty also makes activations smaller than they are, which lowers the variance that is explained."
      : ""
  }`;
}

function plotsOf({ features, width, runs }: Result): Page["plots"] {
  const densities = densitiesOf(runs);
  return {
    features: {
      title: `Features kept in ${width} dimensions`,
      x: { title: "density, %", log: true, domain: [1, 100] },
      y: { title: "features", domain: [0, features] },
      lines: {
        "features kept (mean of the seeds)": densities.map((density) => [
          100 * density,
          meanOf(toysAt(runs, density).map((toy) => toy.features)),
        ]),
        dimensions: densities.map((density) => [100 * density, width]),
      },
    },
    lengths: {
      title: "Squared length of each feature's direction (seed 1)",
      x: { title: "feature, by falling importance" },
      y: { title: "squared length" },
      lines: Object.fromEntries(
        runs[0]!.toys.map(({ density, lengths }) => [
          `density ${round(100 * density)} %`,
          lengths.map((length, i) => [i, length]),
        ]),
      ),
    },
  };
}

export const superposition: Experiment<Result> = {
  name: "superposition",
  title: "How do more features than dimensions fit into a layer?",

  seeds: [1, 2, 3],

  async run(quick, seeds = [1, 2, 3]) {
    const size: Size = quick
      ? {
          ...{ features: 6, width: 3, steps: 5, batchSize: 8, densities: [1, probed] },
          ...{ samples: 128, autoencoderSteps: 2, sizes: [6] },
        }
      : {
          ...{ features: 20, width: 5, steps: 4000, batchSize: 256, densities: [1, 0.3, 0.1, probed, 0.01] },
          ...{ samples: 16384, autoencoderSteps: 2000, sizes: [20, 40] },
        };
    const runs: Run[] = [];
    for (const seed of quick ? [1] : seeds) runs.push(await measure(seed, size));
    const { features, width, steps, batchSize, samples, autoencoderSteps } = size;
    return { features, width, importance, steps, batchSize, samples, autoencoderSteps, runs };
  },

  page(result) {
    const text = sections(introduction, method(result), findings(result), verdict(result), differences(result));
    return { text, plots: plotsOf(result) };
  },
};
