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
  differencesOf,
  drawPrompts,
  errorsOf,
  gradientStep,
  nearest,
  type Prompts,
  ridge,
  type Shift,
} from "./linear-tasks.js";
import { clearSign, meanOf, withMargin } from "./seeds.js";

/** Size of a model. */
interface ModelSize {
  layers: number;
  width: number;
  heads: number;
}

/** Prompts that differ from those of training, by name. The penalty is that of the best ridge regression. */
const shifts = {
  "noise in the examples (σ = 1)": { noise: 1, penalty: 1 },
  "inputs twice as long": { scale: 2, penalty: 1e-9 },
} satisfies Record<string, Shift & { penalty: number }>;
type ShiftName = keyof typeof shifts;
const [noisy, longer] = Object.keys(shifts) as [ShiftName, ShiftName];

/** Penalty with which ridge regression is least squares. */
const none = 1e-9;

/** Methods that the models' answers are compared with, one by one. */
const methodNames = { leastSquares: "least squares", gradientStep: "one step of gradient descent" } as const;
type Known = keyof typeof methodNames;
const known = Object.keys(methodNames) as Known[];

interface Run extends ModelSize {
  seed: number;
  parameters: number;
  /** Pairs of a step and the error after all examples. */
  curve: [number, number][];
  /** Error after 0, 1, … examples. */
  errors: number[];
  /** Mean squared difference between the model's answers and those of methods after 0, 1, … examples. */
  distances: Record<Known, number[]>;
  /** Errors after 0, 1, … examples on prompts of each kind of `shifts`. */
  shifted: Record<ShiftName, number[]>;
}

interface Result {
  dimensions: number;
  points: number;
  steps: number;
  batchSize: number;
  rows: number;
  /** Errors of known methods after 0, 1, … examples. */
  baselines: Record<Known | "nearest", number[]>;
  /** Errors of the best ridge regression and of least squares on prompts of each kind of `shifts`. */
  shiftedBaselines: Record<ShiftName, Record<"best" | "leastSquares", number[]>>;
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

/** Prompts on which models are tested, with the answers of known methods. */
interface Exam {
  prompts: Prompts;
  /** Answers of methods to these prompts. */
  answers: Record<Known, Float32Array>;
  shifted: Record<ShiftName, Prompts>;
}

/** Returns one thing for each kind of prompts that differ from those of training. */
function byShift<T>(of: (name: ShiftName) => T): Record<ShiftName, T> {
  return { [noisy]: of(noisy), [longer]: of(longer) } as Record<ShiftName, T>;
}

function examOf({ rows, points, dimensions }: Size): Exam {
  const prompts = drawPrompts({ rows, points, dimensions }, drawFrom(13572468));
  return {
    prompts,
    answers: {
      leastSquares: answersOf(prompts, ridge(none)),
      gradientStep: bestScaled(prompts, answersOf(prompts, gradientStep)),
    },
    shifted: byShift((name) => drawPrompts({ rows, points, dimensions }, drawFrom(24681357), shifts[name])),
  };
}

async function measure(chosen: ModelSize, seed: number, size: Size, { prompts: test, ...exam }: Exam): Promise<Run> {
  const { steps, batchSize, every, points, dimensions } = size;
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
  const [ofNoisy, ofLonger] = [
    await modelAnswers(regressor, exam.shifted[noisy]),
    await modelAnswers(regressor, exam.shifted[longer]),
  ];
  return {
    ...{ ...chosen, seed, parameters: regressor.parameterCount(), curve },
    errors: errorsOf(test, answers),
    distances: {
      leastSquares: differencesOf(test, answers, exam.answers.leastSquares),
      gradientStep: differencesOf(test, answers, exam.answers.gradientStep),
    },
    shifted: byShift((name) => errorsOf(exam.shifted[name], name === noisy ? ofNoisy : ofLonger)),
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
function verdict({ dimensions, points, steps, batchSize, baselines, shiftedBaselines, runs }: Result): string {
  const sizes = [...new Set(runs.map(nameOf))];
  const of = (name: string): Run[] => runs.filter((run) => nameOf(run) === name);
  const last = points - 1;
  const errors = (name: string, examples: number): number[] => of(name).map((run) => run.errors[examples]!);
  const at = (name: string, examples: number): number => meanOf(errors(name, examples));
  const largest = sizes.at(-1)!;

  const steppings = sizes.slice(1).map((name, i) => {
    const before = errors(sizes[i]!, last);
    return clearSign(errors(name, last).map((error, seed) => before[seed]! - error));
  });
  const falls = sizes.every((name, i) => i === 0 || at(name, last) < at(sizes[i - 1]!, last));
  const bySize = steppings.every((sign) => sign === 1)
    ? "Each size does better than the one before it, and the 95 % intervals of these differences leave out 0: the larger a model, the more it gets out of the same examples."
    : falls
      ? "It falls with every step in size, but the 95 % interval of some of these differences contains 0, so the seeds do not settle that each step in size helps."
      : "It does not fall with every step in size.";
  const beatsStep = sizes.filter(
    (name) => clearSign(errors(name, last).map((error) => baselines.gradientStep[last]! - error)) === 1,
  );

  const curve = Array.from({ length: points }, (_, examples) => at(largest, examples));
  const keepsLearning = curve.every((error, i) => i === 0 || error < curve[i - 1]!);
  const lowest = curve.indexOf(Math.min(...curve));
  const examples = keepsLearning
    ? "Its error falls with every further example"
    : curve[last]! < 1.2 * curve[lowest]!
      ? `Its error falls up to ${lowest} examples and then hardly changes`
      : `Its error is lowest after ${lowest} examples (${round(curve[lowest]!)})`;
  const isExact = at(largest, last) < 0.01;

  // A model that answers little more than 0 is like no method.
  const learned = sizes.filter((name) => at(name, last) < 0.75);
  const idle = sizes.filter((name) => !learned.includes(name));
  /** Methods differ most when there are as many examples as dimensions. */
  const closer = learned.map((name) => {
    const distances = (method: Known): number[] => of(name).map((run) => run.distances[method][dimensions]!);
    const [exact, step] = [distances("leastSquares"), distances("gradientStep")];
    const sign = clearSign(step.map((distance, seed) => distance - exact[seed]!));
    const numbers = `${round(meanOf(exact))} and ${round(meanOf(step))}`;
    const near = {
      "-1": "nearer to one step of gradient descent",
      0: "about as near to least squares as to one step of gradient descent",
      1: "nearer to least squares",
    };
    return { sign, text: `${near[sign as -1 | 0 | 1]} (${name}: ${numbers})` };
  });
  const signs = closer.map(({ sign }) => sign);
  const order = signs.every((sign, i) => i === 0 || sign >= signs[i - 1]!)
    ? signs.at(-1)! > signs[0]!
      ? "So the larger a model, the nearer it is to least squares, which fits what the papers say."
      : "A change with size, as the papers describe it, does not show among them."
    : "That is not the order that the papers describe.";
  const likeness =
    closer.length === 0
      ? ""
      : `After ${dimensions} examples, the answers of models that have learned the task are ${closer.map(({ text }) => text).join("; ")}. The
numbers are the mean squared differences from least squares and from one step of gradient descent, over the variance of y. ${order}\n\n`;
  const idleness =
    idle.length === 0
      ? ""
      : `

Little better than an answer of 0: ${idle.map((name) => `${name} (${round(at(name, last))})`).join("; ")}. ${
          runs.every((run) => (run.layers === 1) === idle.includes(nameOf(run)))
            ? "An x and its y are two tokens here. A token has to take up the other one of its pair before it can be of use to a later x, and one layer cannot do both."
            : ""
        }`;

  const shifted = (name: ShiftName): number => meanOf(of(largest).map((run) => run.shifted[name][last]!));
  const { best, leastSquares } = shiftedBaselines[noisy];
  const [lower, upper] = [best[last]!, leastSquares[last]!];
  const noise =
    shifted(noisy) > upper
      ? "more than either. Noise, which it never saw, disturbs it more than it disturbs least squares."
      : shifted(noisy) < (lower + upper) / 2
        ? "nearer to ridge regression, although it never saw noise in training."
        : "nearer to least squares. It never saw noise in training.";
  const worsens = shifted(longer) > 1.5 * at(largest, last);
  const prompts = steps * batchSize;
  return `## Conclusion

After ${last} examples the error is ${sizes.map((name) => `${round(at(name, last))} (${name})`).join(", ")}; an answer of 0 has 1. ${bySize} ${
    beatsStep.length === 0
      ? "None of the models is clearly better than one step of gradient descent with the best step size for each number of examples."
      : `Clearly better than one step of gradient descent with the best step size: ${beatsStep.join("; ")}.`
  } No weight changes here: what adapts is in the states of the prompt.${idleness}

Least squares is exact after ${dimensions} examples, one for each dimension. The largest model then has an error of ${round(at(largest, dimensions))}, and of ${round(at(largest, last))} after ${last}.
${examples}${isExact ? "; at the end it is nearly exact." : ", and it does not become exact."}

${likeness}The second figure shows when the ability comes: the error after ${last} examples is halved after ${sizes.map((name) => `${stepsToHalf(of(name))} (${name})`).join(", ")}.

With noise in the examples, least squares fits the noise and has an error of ${round(upper)}; ridge regression, the best answer, has ${round(lower)}. The largest
model has ${round(shifted(noisy))}, ${noise} With inputs twice as long as in training it has ${round(shifted(longer))} instead of ${round(at(largest, last))}: ${
    worsens
      ? "what it has learned is a method for inputs of the length that it knows, not least squares itself."
      : "what it has learned hardly depends on the length of the inputs."
  }

## Where it differs from the papers, and why

Garg et al. train a model of 12 layers and width 256 on 32 million prompts of 20 dimensions, with a curriculum that begins with few; it follows least
squares closely, and they find it robust to many changes of the prompts.${
    idle.length > 0
      ? " Von Oswald et al. put x and y into one token, so that a single layer can do a step of gradient descent."
      : ""
  } Here are ${dimensions} dimensions, and models of up to
${Math.max(...runs.map(({ parameters }) => parameters))} parameters that see ${prompts} prompts each, ${prompts < 1e6 ? `one for ${Math.round(32e6 / prompts)} of theirs` : `${round(prompts / 1e6)} million`}.${isExact ? "" : " So little training is a likely reason for the error that remains."}`;
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
          ...{ dimensions: 3, points: 11, steps: 2000, batchSize: 32, every: 50, rows: 512 },
        };
    const { dimensions, points, steps, batchSize, rows } = size;
    const exam = examOf(size);
    const runs: Run[] = [];
    for (const model of size.models)
      for (const seed of quick ? [1] : seeds) runs.push(await measure(model, seed, size, exam));
    const shiftedBaselines = byShift((name) => {
      const prompts = exam.shifted[name];
      const errors = (penalty: number): number[] => errorsOf(prompts, answersOf(prompts, ridge(penalty)));
      return { best: errors(shifts[name].penalty), leastSquares: errors(none) };
    });
    const baselines = {
      leastSquares: errorsOf(exam.prompts, exam.answers.leastSquares),
      gradientStep: errorsOf(exam.prompts, exam.answers.gradientStep),
      nearest: errorsOf(exam.prompts, answersOf(exam.prompts, nearest)),
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
    const compared = [...new Set([dimensions, last])];
    const likenessRows = sizes.map((name) => [
      name,
      ...known.flatMap((method) =>
        compared.map((examples) => withMargin(of(name).map(({ distances }) => distances[method][examples]!))),
      ),
    ]);
    const likenessHead = known.flatMap((method) =>
      compared.map((examples) => `${methodNames[method]}, ${examples} examples`),
    );
    const shiftRows = [noisy, longer].map((name) => [
      name,
      ...sizes.map((model) => withMargin(of(model).map(({ shifted }) => shifted[name][last]!))),
      small(shiftedBaselines[name].leastSquares[last]!),
      small(shiftedBaselines[name].best[last]!),
    ]);
    const average = (lists: readonly (readonly number[])[]): [number, number][] =>
      lists[0]!.map((_, i) => [i, meanOf(lists.map((list) => list[i]!))]);
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

Which method do the models answer like? The next table has the mean squared difference between their answers and those of two methods, over
the variance of y.

${table(["", ...likenessHead], likenessRows)}

The last table has the error after ${last} examples on prompts that differ from those of training. The best method is ridge regression for
noise, and least squares for longer inputs.

${table(["prompts", ...sizes, "least squares", "best method"], shiftRows)}

The values are means over the seeds with 95 % intervals (Student's t).

${verdict(result)}
`,
      plots: {
        examples: {
          title: "Error against the number of examples in the prompt",
          x: { title: "examples" },
          y: { title: "squared error / variance", domain: [0, 1.8] },
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
