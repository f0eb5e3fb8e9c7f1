/** Makes the page of the experiment few-shot from what it measured. */
import { type Page, round, sections, table } from "./experiment.js";
import { clearSign, meanOf, minus, withMargin } from "./seeds.js";

/** Size of a model. */
export interface ModelSize {
  layers: number;
  width: number;
  heads: number;
}

/** Kinds of prompts that differ from those of training. */
export const [noisy, longer] = ["noise in the examples (σ = 1)", "inputs twice as long"] as const;
export type ShiftName = typeof noisy | typeof longer;

/** Methods that the models' answers are compared with, one by one. */
const methodNames = { leastSquares: "least squares", gradientStep: "one step of gradient descent" } as const;
export type Known = keyof typeof methodNames;
const known = Object.keys(methodNames) as Known[];

/** Measurements of a model that was trained with one seed. */
export interface Run extends ModelSize {
  seed: number;
  parameters: number;
  /** Pairs of a step and the error after all examples. */
  curve: [number, number][];
  /** Error after 0, 1, … examples. */
  errors: number[];
  /** Mean squared difference between the model's answers and those of methods after 0, 1, … examples. */
  distances: Record<Known, number[]>;
  /** Errors after 0, 1, … examples on prompts that differ from those of training. */
  shifted: Record<ShiftName, number[]>;
}

/** Measurements of the experiment, from which the page is made. */
export interface Result {
  dimensions: number;
  points: number;
  steps: number;
  batchSize: number;
  rows: number;
  /** Errors of known methods after 0, 1, … examples. */
  baselines: Record<Known | "nearest", number[]>;
  /** Errors of the best ridge regression and of least squares on prompts that differ from those of training. */
  shiftedBaselines: Record<ShiftName, Record<"best" | "leastSquares", number[]>>;
  runs: Run[];
}

const nameOf = ({ layers, width }: ModelSize): string =>
  `${layers} ${layers === 1 ? "layer" : "layers"}, width ${width}`;

/** Models of one size, which were trained with different seeds. */
interface Group {
  /** Name of the size. */
  name: string;
  runs: Run[];
}

/** Returns the models by their size, in the order of the result. */
function groupsOf({ runs }: Result): Group[] {
  const names = new Set(runs.map(nameOf));
  return [...names].map((name) => ({ name, runs: runs.filter((run) => nameOf(run) === name) }));
}

/** Returns the errors of a group after so many examples, one for each seed. */
function errorsAfter({ runs }: Group, examples: number): number[] {
  return runs.map(({ errors }) => errors[examples]!);
}

/** Returns the mean error of a group after so many examples. */
function errorAfter(group: Group, examples: number): number {
  return meanOf(errorsAfter(group, examples));
}

/** Returns the mean errors of a group after 0, 1, … examples. */
function curveOf(group: Group): number[] {
  return group.runs[0]!.errors.map((_, examples) => errorAfter(group, examples));
}

/** Returns the mean error of a group after all examples. */
function lastErrorOf(group: Group): number {
  return curveOf(group).at(-1)!;
}

/** Returns true if a group has learned the task: a model that answers little more than 0 is like no method. */
function hasLearned(group: Group): boolean {
  return lastErrorOf(group) < 0.75;
}

/** Returns true if a group answers nearly without an error after all examples. */
function isExact(group: Group): boolean {
  return lastErrorOf(group) < 0.01;
}

/** Returns the text that says after how many steps a group's error is half of that of an answer of 0, on average. */
function stepsToHalf({ runs }: Group): string {
  const steps = runs.map(({ curve }) => curve.find(([, error]) => error <= 0.5)?.[0]);
  const reached = steps.filter((step) => step !== undefined);
  if (reached.length < runs.length) return `more than ${runs[0]!.curve.at(-1)![0]} steps`;
  return `${Math.round(meanOf(reached))} steps`;
}

/** Sections on the question and the papers, which are the same for every result. */
const introduction = `## Question

A model that has learned a family of tasks meets a new task of it in its prompt. How much does it learn from each example, how does
that depend on its size, and is it as good as a method that was made for the task?

## What the papers say

Garg et al. 2022 ("What Can Transformers Learn In-Context?", arXiv:2208.01066) train transformers on prompts x₁, f(x₁), x₂, f(x₂), …
with a new linear f in each prompt, and find that they answer as well as least squares. Akyürek et al. 2022
(arXiv:2211.15661) and von Oswald et al. 2022 (arXiv:2212.07677) show that layers can carry out steps of gradient descent, and that
trained models answer like one step if they are shallow, and like least squares or ridge regression if they are deep and wide.`;

/** Returns the section on the method. */
function method(result: Result): string {
  const { dimensions, points, steps, batchSize, rows } = result;
  const seeds = groupsOf(result)[0]!.runs.length;
  return `## Method

A prompt has ${points} pairs of x, with ${dimensions} normally distributed coordinates, and y = w·x, with a w that is drawn anew for every prompt.
Models read it as ${2 * points} tokens and answer at each x (transformer blocks of heed between two linear layers, pre-norm, learned
positions). They are trained for ${steps} steps of ${batchSize} new prompts to answer with a small squared error (AdamW, a learning rate that
falls from 0.003), each with ${seeds} seeds, and tested on the same ${rows} prompts.

The error is the mean squared error divided by the variance of y: an answer of 0 has an error of 1. It is compared with

- **least squares**, the shortest w if there are fewer examples than dimensions, which is the best possible answer here,
- **one step of gradient descent** from w = 0, with the step size that is best on the test for each number of examples,
- the **mean of the three nearest** inputs' values.`;
}

/** Returns the errors of known methods after 0, 1, … examples, by their names on the page. */
function errorsByMethod({ baselines }: Result): Record<string, number[]> {
  return {
    "least squares": baselines.leastSquares,
    "one step of gradient descent": baselines.gradientStep,
    "mean of the 3 nearest": baselines.nearest,
  };
}

/** Returns the section on what was found. */
function findings(result: Result): string {
  const { dimensions, points, shiftedBaselines } = result;
  const groups = groupsOf(result);
  const last = points - 1;
  const shown = [...new Set([0, 1, 2, dimensions, dimensions + 1, 6, 8, last])]
    .filter((examples) => examples < points)
    .sort((a, b) => a - b);
  const small = (value: number): string => (value < 1e-4 ? "0" : String(round(value)));
  const errorRows = [
    ...groups.map((group) => [
      `${group.name} (${group.runs[0]!.parameters} parameters)`,
      ...shown.map((examples) => withMargin(errorsAfter(group, examples))),
    ]),
    ...Object.entries(errorsByMethod(result)).map(([name, errors]) => [
      name,
      ...shown.map((examples) => small(errors[examples]!)),
    ]),
  ];
  const compared = known.flatMap((method) =>
    [...new Set([dimensions, last])].map((examples) => ({ method, examples })),
  );
  const likenessHead = compared.map(({ method, examples }) => `${methodNames[method]}, ${examples} examples`);
  const likenessRows = groups.map(({ name, runs }) => [
    name,
    ...compared.map(({ method, examples }) => withMargin(runs.map(({ distances }) => distances[method][examples]!))),
  ]);
  const shiftRows = [noisy, longer].map((name) => [
    name,
    ...groups.map(({ runs }) => withMargin(runs.map(({ shifted }) => shifted[name][last]!))),
    small(shiftedBaselines[name].leastSquares[last]!),
    small(shiftedBaselines[name].best[last]!),
  ]);
  return `## What was found

![Error against the number of examples](plot:examples)

${table(["error after examples", ...shown.map(String)], errorRows)}

![Error after ${last} examples, during training](plot:training)

Which method do the models answer like? The next table has the mean squared difference between their answers and those of two methods, over
the variance of y.

${table(["", ...likenessHead], likenessRows)}

The last table has the error after ${last} examples on prompts that differ from those of training. The best method is ridge regression for
noise, and least squares for longer inputs.

${table(["prompts", ...groups.map(({ name }) => name), "least squares", "best method"], shiftRows)}

The values are means over the seeds with 95 % intervals (Student's t).`;
}

/** Returns the paragraph on the errors of the sizes. */
function sizesText(result: Result): string {
  const { points, baselines } = result;
  const groups = groupsOf(result);
  const last = points - 1;
  const steps = groups.slice(1).map((group, i) => [groups[i]!, group] as const);
  const bySize = steps.every(
    ([before, group]) => clearSign(minus(errorsAfter(before, last), errorsAfter(group, last))) === 1,
  )
    ? "Each size does better than the one before it, and the 95 % intervals of these differences leave out 0: the larger a model, the more it gets out of the same examples."
    : steps.every(([before, group]) => errorAfter(group, last) < errorAfter(before, last))
      ? "It falls with every step in size, but the 95 % interval of some of these differences contains 0, so the seeds do not settle that each step in size helps."
      : "It does not fall with every step in size.";
  const beatsStep = groups.filter(
    (group) => clearSign(errorsAfter(group, last).map((error) => baselines.gradientStep[last]! - error)) === 1,
  );
  return `After ${last} examples the error is ${groups.map((group) => `${round(errorAfter(group, last))} (${group.name})`).join(", ")}; an answer of 0 has 1. ${bySize} ${
    beatsStep.length === 0
      ? "None of the models is clearly better than one step of gradient descent with the best step size for each number of examples."
      : `Clearly better than one step of gradient descent with the best step size: ${beatsStep.map(({ name }) => name).join("; ")}.`
  } No weight changes here: what adapts is in the states of the prompt.`;
}

/** Returns the paragraph on models that have not learned the task, or nothing if there are none. */
function idleText(result: Result): string {
  const idle = groupsOf(result).filter((group) => !hasLearned(group));
  if (idle.length === 0) return "";
  const areSingle = result.runs.every((run) => (run.layers === 1) === idle.some(({ name }) => name === nameOf(run)));
  return `Little better than an answer of 0: ${idle.map((group) => `${group.name} (${round(lastErrorOf(group))})`).join("; ")}. ${
    areSingle
      ? "An x and its y are two tokens here. A token has to take up the other one of its pair before it can be of use to a later x, and one layer cannot do both."
      : ""
  }`;
}

/** Returns the paragraph on what the largest model gains from each example. */
function examplesText(result: Result): string {
  const { dimensions, points } = result;
  const largest = groupsOf(result).at(-1)!;
  const curve = curveOf(largest);
  const last = points - 1;
  const keepsLearning = curve.every((error, i) => i === 0 || error < curve[i - 1]!);
  const lowest = curve.indexOf(Math.min(...curve));
  const examples = keepsLearning
    ? "Its error falls with every further example"
    : curve[last]! < 1.2 * curve[lowest]!
      ? `Its error falls up to ${lowest} examples and then hardly changes`
      : `Its error is lowest after ${lowest} examples (${round(curve[lowest]!)})`;
  return `Least squares is exact after ${dimensions} examples, one for each dimension. The largest model then has an error of ${round(curve[dimensions]!)}, and of ${round(curve[last]!)} after ${last}.
${examples}${isExact(largest) ? "; at the end it is nearly exact." : ", and it does not become exact."}`;
}

/** Returns the paragraph on the methods that models answer like, or nothing if no model has learned the task. */
function methodsText(result: Result): string {
  const { dimensions } = result;
  // Methods differ most when there are as many examples as dimensions.
  const closer = groupsOf(result)
    .filter(hasLearned)
    .map(({ name, runs }) => {
      const distances = (method: Known): number[] => runs.map((run) => run.distances[method][dimensions]!);
      const [exact, step] = [distances("leastSquares"), distances("gradientStep")];
      const sign = clearSign(minus(step, exact));
      const numbers = `${round(meanOf(exact))} and ${round(meanOf(step))}`;
      const near = {
        "-1": "nearer to one step of gradient descent",
        0: "about as near to least squares as to one step of gradient descent",
        1: "nearer to least squares",
      };
      return { sign, text: `${near[sign as -1 | 0 | 1]} (${name}: ${numbers})` };
    });
  if (closer.length === 0) return "";
  const signs = closer.map(({ sign }) => sign);
  const order = signs.every((sign, i) => i === 0 || sign >= signs[i - 1]!)
    ? signs.at(-1)! > signs[0]!
      ? "So the larger a model, the nearer it is to least squares, which fits what the papers say."
      : "A change with size, as the papers describe it, does not show among them."
    : "That is not the order that the papers describe.";
  return `After ${dimensions} examples, the answers of models that have learned the task are ${closer.map(({ text }) => text).join("; ")}. The
numbers are the mean squared differences from least squares and from one step of gradient descent, over the variance of y. ${order}`;
}

/** Returns the paragraph on prompts that differ from those of training. */
function shiftsText(result: Result): string {
  const { points, shiftedBaselines } = result;
  const largest = groupsOf(result).at(-1)!;
  const last = points - 1;
  const usual = errorAfter(largest, last);
  const shifted = (name: ShiftName): number => meanOf(largest.runs.map((run) => run.shifted[name][last]!));
  const [withNoise, withLonger] = [shifted(noisy), shifted(longer)];
  const { best, leastSquares } = shiftedBaselines[noisy];
  const [lower, upper] = [best[last]!, leastSquares[last]!];
  const noise =
    withNoise > upper
      ? "more than either. Noise, which it never saw, disturbs it more than it disturbs least squares."
      : withNoise < (lower + upper) / 2
        ? "nearer to ridge regression, although it never saw noise in training."
        : "nearer to least squares. It never saw noise in training.";
  return `With noise in the examples, least squares fits the noise and has an error of ${round(upper)}; ridge regression, the best answer, has ${round(lower)}. The largest
model has ${round(withNoise)}, ${noise} With inputs twice as long as in training it has ${round(withLonger)} instead of ${round(usual)}: ${
    withLonger > 1.5 * usual
      ? "what it has learned is a method for inputs of the length that it knows, not least squares itself."
      : "what it has learned hardly depends on the length of the inputs."
  }`;
}

/** Returns the section on what follows from the numbers. */
function conclusion(result: Result): string {
  const halves = groupsOf(result).map((group) => `${stepsToHalf(group)} (${group.name})`);
  const paragraphs = [
    "## Conclusion",
    sizesText(result),
    idleText(result),
    examplesText(result),
    methodsText(result),
    `The second figure shows when the ability comes: the error after ${result.points - 1} examples is halved after ${halves.join(", ")}.`,
    shiftsText(result),
  ];
  return paragraphs.filter((paragraph) => paragraph !== "").join("\n\n");
}

/** Returns the section on where the experiment differs from the papers. */
function differences(result: Result): string {
  const { dimensions, steps, batchSize, runs } = result;
  const groups = groupsOf(result);
  const prompts = steps * batchSize;
  return `## Where it differs from the papers, and why

Garg et al. train a model of 12 layers and width 256 on 32 million prompts of 20 dimensions, with a curriculum that begins with few; it follows least
squares closely, and they find it robust to many changes of the prompts.${
    groups.every(hasLearned)
      ? ""
      : " Von Oswald et al. put x and y into one token, so that a single layer can do a step of gradient descent."
  } Here are ${dimensions} dimensions, and models of up to
${Math.max(...runs.map(({ parameters }) => parameters))} parameters that see ${prompts} prompts each, ${prompts < 1e6 ? `one for ${Math.round(32e6 / prompts)} of theirs` : `${round(prompts / 1e6)} million`}.${isExact(groups.at(-1)!) ? "" : " So little training is a likely reason for the error that remains."}`;
}

function plotsOf(result: Result): Page["plots"] {
  const groups = groupsOf(result);
  const pointsOf = (errors: readonly number[]): [number, number][] => errors.map((error, i) => [i, error]);
  const errors = [
    ...groups.map((group) => [group.name, curveOf(group)] as const),
    ...Object.entries(errorsByMethod(result)),
  ];
  return {
    examples: {
      title: "Error against the number of examples in the prompt",
      x: { title: "examples" },
      y: { title: "squared error / variance", domain: [0, 1.8] },
      lines: Object.fromEntries(errors.map(([name, values]) => [name, pointsOf(values)])),
    },
    training: {
      title: `Error after ${result.points - 1} examples, during training (seed 1)`,
      x: { title: "steps" },
      y: { title: "squared error / variance", domain: [0, 1.2] },
      lines: Object.fromEntries(groups.map(({ name, runs }) => [name, runs[0]!.curve])),
    },
  };
}

/** Returns the page of the experiment. */
export function fewShotPage(result: Result): Page {
  const text = sections(introduction, method(result), findings(result), conclusion(result), differences(result));
  return { text, plots: plotsOf(result) };
}
