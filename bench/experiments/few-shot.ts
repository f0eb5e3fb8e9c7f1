/** Shows how well models of several sizes learn a task from examples in their prompt, compared with least squares. */
import {
  AdamW,
  device,
  DropoutSeeds,
  type FloatTensor,
  Initializer,
  LayerNorm,
  Linear,
  mean,
  Module,
  narrow,
  noGrad,
  PositionEmbedding,
  reshape,
  scope,
  square,
  sub,
  tensor,
  TransformerBlock,
} from "heed";
import { drawFrom } from "./draw.js";
import { type Experiment, round, table } from "./experiment.js";
import {
  answersOf,
  bestScaled,
  drawPrompts,
  errorsOf,
  gradientStep,
  nearest,
  type Prompts,
  ridge,
  type Shift,
} from "./linear-tasks.js";
import { intervalOf, meanOf, withMargin } from "./seeds.js";

/** Size of a model. */
interface ModelSize {
  layers: number;
  width: number;
  heads: number;
}

/** Prompts that differ from those of training, by name. The penalty is that of the best ridge regression. */
const shifts: Record<string, Shift & { penalty: number }> = {
  "noise in the examples (σ = 1)": { noise: 1, penalty: 1 },
  "inputs twice as long": { scale: 2, penalty: 1e-9 },
};

interface Run extends ModelSize {
  seed: number;
  parameters: number;
  /** Pairs of a step and the error after all examples. */
  curve: [number, number][];
  /** Error after 0, 1, … examples. */
  errors: number[];
  /** Mean squared difference between the model's answers and those of least squares after 0, 1, … examples. */
  distance: number[];
  /** Errors after 0, 1, … examples on prompts of each kind of `shifts`. */
  shifted: Record<string, number[]>;
}

interface Result {
  dimensions: number;
  points: number;
  steps: number;
  batchSize: number;
  rows: number;
  /** Errors of known methods after 0, 1, … examples. */
  baselines: Record<"leastSquares" | "gradientStep" | "nearest", number[]>;
  /** Errors of the best ridge regression on prompts of each kind of `shifts`. */
  shiftedBaselines: Record<string, number[]>;
  runs: Run[];
}

interface Size {
  models: readonly ModelSize[];
  dimensions: number;
  points: number;
  steps: number;
  batchSize: number;
  every: number;
  rows: number;
}

/**
 * Transformer that reads numbers: x₁, y₁, x₂, y₂, … are tokens, and at each xᵢ it answers with a value. The weights of its
 * blocks begin with a variance of 1/C, since GPT-2's suit wider models.
 */
class Regressor extends Module {
  readonly read: Linear;
  readonly positions: PositionEmbedding;
  readonly blocks: TransformerBlock[];
  readonly norm: LayerNorm;
  readonly answer: Linear;

  constructor({ layers, width, heads }: ModelSize, points: number, dimensions: number, seed: number) {
    super();
    const init = new Initializer(seed, device());
    const std = 1 / Math.sqrt(width);
    const block = { width, heads, causal: true, std, outputStd: std / Math.sqrt(2 * layers) };
    this.read = new Linear({ inputs: dimensions + 1, outputs: width, std: 1 / Math.sqrt(dimensions + 1) }, init);
    this.positions = new PositionEmbedding({ length: 2 * points, width, sinusoids: null }, init);
    this.blocks = Array.from({ length: layers }, () => new TransformerBlock(block, init, new DropoutSeeds(0)));
    this.norm = new LayerNorm({ width }, init);
    this.answer = new Linear({ inputs: width, outputs: 1, std }, init);
  }

  /** Returns the answers [B, points] to tokens [B, 2 · points, dimensions + 1]. */
  forward(tokens: FloatTensor): FloatTensor {
    const [rows, length] = tokens.shape as [number, number];
    return scope(() => {
      let x = this.positions.forward(this.read.forward(tokens)); // [B, T, C]
      for (const block of this.blocks) x = block.forward(x);
      const answers = reshape(this.answer.forward(this.norm.forward(x)), [rows, length / 2, 2]);
      return reshape(narrow(answers, 2, 0, 1), [rows, length / 2]);
    });
  }
}

/** Returns the tokens of prompts, [rows, 2 · points, dimensions + 1]. Inputs and values have places of their own. */
function tokensOf({ rows, points, dimensions, x, y }: Prompts): FloatTensor {
  const width = dimensions + 1;
  const tokens = new Float32Array(rows * 2 * points * width);
  for (let at = 0; at < rows * points; at++) {
    tokens.set(x.subarray(at * dimensions, (at + 1) * dimensions), 2 * at * width);
    tokens[(2 * at + 1) * width + dimensions] = y[at]!;
  }
  return tensor(tokens, [rows, 2 * points, width]);
}

async function modelAnswers(model: Regressor, prompts: Prompts): Promise<Float32Array> {
  using answers = noGrad(() => scope(() => model.forward(tokensOf(prompts))));
  return await answers.data();
}

async function measure(chosen: ModelSize, seed: number, size: Size, test: Prompts): Promise<Run> {
  const { steps, batchSize, every, points, dimensions, rows } = size;
  using regressor = new Regressor(chosen, points, dimensions, seed);
  using optimizer = new AdamW(regressor.namedParameters(), { beta2: 0.98, weightDecay: 0, maxNorm: 1 });
  const draw = drawFrom(Math.imul(seed, 0x9e3779b1));
  const last = async (): Promise<number> => errorsOf(test, await modelAnswers(regressor, test)).at(-1)!;
  const curve: [number, number][] = [[0, await last()]];
  for (let step = 1; step <= steps; step++) {
    const left = 0.5 + 0.5 * Math.cos((Math.PI * step) / steps);
    optimizer.lr = 3e-3 * Math.min(1, step / 100) * (0.05 + 0.95 * left);
    const prompts = drawPrompts({ rows: batchSize, points, dimensions }, draw);
    using loss = scope(() => {
      const loss = mean(square(sub(regressor.forward(tokensOf(prompts)), tensor(prompts.y, [batchSize, points]))));
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
      return loss;
    });
    await loss.item(); // so that steps do not pile up
    if (step % every === 0 || step === steps) curve.push([step, await last()]);
  }
  const answers = await modelAnswers(regressor, test);
  const leastSquares = answersOf(test, ridge(1e-9));
  const shifted: Run["shifted"] = {};
  for (const [name, shift] of Object.entries(shifts)) {
    const prompts = drawPrompts({ rows, points, dimensions }, drawFrom(24681357), shift);
    shifted[name] = errorsOf(prompts, await modelAnswers(regressor, prompts));
  }
  return {
    ...{ ...chosen, seed, parameters: regressor.parameterCount(), curve },
    errors: errorsOf(test, answers),
    distance: errorsOf({ ...test, truth: leastSquares }, answers),
    shifted,
  };
}

const nameOf = ({ layers, width }: ModelSize): string =>
  `${layers} ${layers === 1 ? "layer" : "layers"}, width ${width}`;

/** Returns the text that says after how many steps the curves of runs have fallen to half of an answer of 0, on average. */
function stepsToHalf(runs: readonly Run[]): string {
  const steps = runs.map(({ curve }) => curve.find(([, error]) => error <= 0.5)?.[0]);
  const reached = steps.filter((step) => step !== undefined);
  if (reached.length < runs.length) return `more than ${runs[0]!.curve.at(-1)![0]} steps`;
  return `${Math.round(meanOf(reached))} steps`;
}

/** Returns the end of the page: what follows from the numbers. */
function verdict({ dimensions, points, baselines, shiftedBaselines, runs }: Result): string {
  const sizes = [...new Set(runs.map(nameOf))];
  const of = (name: string): Run[] => runs.filter((run) => nameOf(run) === name);
  const at = (name: string, examples: number): number => meanOf(of(name).map(({ errors }) => errors[examples]!));
  const largest = sizes.at(-1)!;
  const last = points - 1;
  const ordered = sizes.every((name, i) => i === 0 || at(name, last) < at(sizes[i - 1]!, last));
  const beatsStep = sizes.filter((name) => at(name, last) < baselines.gradientStep[last]!);
  const distance = meanOf(of(largest).map((run) => run.distance[last]!));
  const noisy = Object.keys(shifts)[0]!;
  const longer = Object.keys(shifts)[1]!;
  const shifted = (name: string): number => meanOf(of(largest).map((run) => run.shifted[name]![last]!));
  return `## Conclusion

After ${last} examples the error is ${sizes.map((name) => `${round(at(name, last))} (${name})`).join(", ")}; it was 1 before the first. ${
    ordered
      ? "The larger a model, the more it gets out of the same examples."
      : "It does not fall with every step in size."
  } ${
    beatsStep.length === 0
      ? "None of the models does better than one step of gradient descent with the best step size for each number of examples."
      : `Better than one step of gradient descent with the best step size are: ${beatsStep.join("; ")}.`
  } No weight changes here: what adapts is in the states of the prompt.

Least squares needs ${dimensions} examples for ${dimensions} dimensions, and is exact then. The models come closer with every further example and never
get exact: after ${dimensions} examples the largest has an error of ${round(at(largest, dimensions))}, after ${last} of ${round(at(largest, last))}. Its answers differ from those of least
squares by ${round(distance)} of the variance then.

The second figure shows when the ability comes: half of the error after ${last} examples is gone after ${sizes.map((name) => `${stepsToHalf(of(name))} (${name})`).join(", ")}.

With noise in the examples, least squares would fit the noise; the best answer is ridge regression, with an error of ${round(shiftedBaselines[noisy]![last]!)}. The
largest model, which never saw noise, has ${round(shifted(noisy))}. With inputs twice as long as in training it has ${round(shifted(longer))} instead of ${round(at(largest, last))}: what it
has learned is a method for the inputs that it knows.

## Where it differs from the papers, and why

Garg et al. train 22 million parameters for 500,000 steps on 20 dimensions, with a curriculum that begins with few; their model follows
least squares closely and at twice the length of inputs as well. Here are ${dimensions} dimensions and models that train in
about a minute, so that the error stays above that of least squares, and the part of it that comes from size is visible.`;
}

export const fewShot: Experiment<Result> = {
  name: "few-shot",
  title: "How does a model learn from examples in its prompt?",

  seeds: [1, 2, 3],

  async run(quick, seeds = [1, 2, 3]) {
    const size: Size = quick
      ? {
          models: [
            { layers: 1, width: 8, heads: 2 },
            { layers: 2, width: 8, heads: 2 },
          ],
          ...{ dimensions: 2, points: 4, steps: 4, batchSize: 4, every: 2, rows: 8 },
        }
      : {
          models: [
            { layers: 1, width: 16, heads: 2 },
            { layers: 2, width: 32, heads: 4 },
            { layers: 3, width: 64, heads: 4 },
          ],
          ...{ dimensions: 3, points: 11, steps: 1000, batchSize: 32, every: 50, rows: 512 },
        };
    const { dimensions, points, steps, batchSize, rows } = size;
    const test = drawPrompts({ rows, points, dimensions }, drawFrom(13572468));
    const runs: Run[] = [];
    for (const model of size.models)
      for (const seed of quick ? [1] : seeds) runs.push(await measure(model, seed, size, test));
    const shiftedBaselines: Result["shiftedBaselines"] = {};
    for (const [name, { penalty, ...shift }] of Object.entries(shifts)) {
      const prompts = drawPrompts({ rows, points, dimensions }, drawFrom(24681357), shift);
      shiftedBaselines[name] = errorsOf(prompts, answersOf(prompts, ridge(penalty)));
    }
    const baselines = {
      leastSquares: errorsOf(test, answersOf(test, ridge(1e-9))),
      gradientStep: errorsOf(test, bestScaled(test, answersOf(test, gradientStep))),
      nearest: errorsOf(test, answersOf(test, nearest)),
    };
    return { dimensions, points, steps, batchSize, rows, baselines, shiftedBaselines, runs };
  },

  page(result) {
    const { dimensions, points, steps, batchSize, rows, baselines, shiftedBaselines, runs } = result;
    const sizes = [...new Set(runs.map(nameOf))];
    const of = (name: string): Run[] => runs.filter((run) => nameOf(run) === name);
    const shown = [...new Set([0, 1, 2, dimensions, dimensions + 1, 6, 8, points - 1])]
      .filter((examples) => examples < points)
      .sort((a, b) => a - b);
    const small = (value: number): string => (value < 1e-4 ? "0" : String(round(value)));
    const methods = {
      "least squares": baselines.leastSquares,
      "one step of gradient descent": baselines.gradientStep,
      "mean of the 3 nearest": baselines.nearest,
    };
    const errorRows = [
      ...sizes.map((name) => [
        `${name} (${of(name)[0]!.parameters} parameters)`,
        ...shown.map((examples) => withMargin(of(name).map(({ errors }) => errors[examples]!))),
      ]),
      ...Object.entries(methods).map(([name, errors]) => [name, ...shown.map((examples) => small(errors[examples]!))]),
    ];
    const last = points - 1;
    const shiftRows = Object.keys(shifts).map((name) => [
      name,
      ...sizes.map((model) => withMargin(of(model).map(({ shifted }) => shifted[name]![last]!))),
      small(shiftedBaselines[name]![last]!),
    ]);
    const average = (lists: readonly (readonly number[])[]): [number, number][] =>
      lists[0]!.map((_, i) => [i, intervalOf(lists.map((list) => list[i]!)).mean]);
    return {
      text: `## Question

A model that has learned a family of tasks meets a new task of it in its prompt. How much does it learn from each example, how does
that depend on its size, and is it as good as a method that was made for the task?

## What the papers say

Garg et al. 2022 ("What Can Transformers Learn In-Context?", arXiv:2208.01066) train transformers on prompts x₁, f(x₁), x₂, f(x₂), …
with a new linear f in each prompt, and find that they answer as well as least squares. Akyürek et al. 2022
(arXiv:2211.15661) and von Oswald et al. 2022 (arXiv:2212.07677) show that layers can carry out steps of gradient descent, and that
trained models answer like one step if they are shallow, and like least squares or ridge regression if they are deep and wide.

## Method

A prompt has ${points} pairs of x, with ${dimensions} normally distributed coordinates, and y = w·x, with a w that is drawn anew for every prompt.
Models read it as ${2 * points} tokens and answer at each x (transformer blocks of heed between two linear layers, pre-norm, learned
positions). They are trained for ${steps} steps of ${batchSize} new prompts to answer with a small squared error (AdamW, a learning rate that
falls from 0.003), each with ${of(sizes[0]!).length} seeds, and tested on the same ${rows} prompts.

The error is the mean squared error divided by the variance of y: an answer of 0 has an error of 1. It is compared with

- **least squares**, the shortest w if there are fewer examples than dimensions, which is the best possible answer here,
- **one step of gradient descent** from w = 0, with the step size that is best on the test for each number of examples,
- the **mean of the three nearest** inputs' values.

## What was found

![Error against the number of examples](plot:examples)

${table(["error after examples", ...shown.map(String)], errorRows)}

![Error after ${last} examples, during training](plot:training)

The next table has the error after ${last} examples on prompts that differ from those of training, and the error of the best method: ridge
regression for noise, least squares for longer inputs.

${table(["prompts", ...sizes, "best method"], shiftRows)}

The values are means over the seeds with 95 % intervals (Student's t).

${verdict(result)}
`,
      plots: {
        examples: {
          title: "Error against the number of examples in the prompt",
          x: { title: "examples" },
          y: { title: "squared error / variance", domain: [0, 1.2] },
          lines: {
            ...Object.fromEntries(sizes.map((name) => [name, average(of(name).map(({ errors }) => errors))])),
            ...Object.fromEntries(
              Object.entries(methods).map(([name, errors]) => [
                name,
                errors.map((error, i): [number, number] => [i, error]),
              ]),
            ),
          },
        },
        training: {
          title: `Error after ${last} examples, during training (seed 1)`,
          x: { title: "steps" },
          y: { title: "squared error / variance", domain: [0, 1.2] },
          lines: Object.fromEntries(sizes.map((name) => [name, of(name)[0]!.curve])),
        },
      },
    };
  },
};
