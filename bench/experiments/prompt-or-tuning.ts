/** Compares three ways to learn a task from few examples: in the prompt, with an adapter, and by full fine-tuning. */
import { AdamW, addAdapter, GPT, mul, noGrad, randn, type SavedTensor, scope, tensor } from "heed";
import { type Draw, drawFrom, shuffled } from "./draw.js";
import { type Experiment, round, sections, table } from "./experiment.js";
import type { Plot } from "./plot.js";
import { intervalOf, meanOf, minus, percentWithMargin } from "./seeds.js";
import { stepOf } from "./training.js";

/** Number of colours, of shapes and of names. */
const values = 6;
const objects = values * values;
const chance = 1 / values;
const ranks = [1, 4, 16] as const;
const kinds = ["familiar", "new"] as const;
const methods = ["few-shot", ...ranks.map((rank) => `LoRA, rank ${rank}`), "full fine-tuning"] as const;
const tuned = methods.slice(1);
const rates = [1e-3, 3e-3, 1e-2] as const;
/** Tokens: a question for each object, an example for each object and name, and the names. */
const firstName = objects + objects * values;
const vocabularySize = firstName + values;

type Kind = (typeof kinds)[number];

/** Names of all objects. The object of colour c and shape s has the number 6c + s. */
type Naming = readonly number[];

/** An example of a naming: an object and its name. */
interface Example {
  object: number;
  name: number;
}

interface Size {
  width: number;
  steps: number;
  batchSize: number;
  /** Examples in a sequence, and the most that a prompt may have. */
  context: number;
  counts: readonly number[];
  tasks: number;
  tuningSteps: number;
  rates: readonly number[];
}

const full: Size = {
  ...{ width: 64, steps: 800, batchSize: 32, context: 25, counts: [1, 2, 4, 8, 16, 24] },
  ...{ tasks: 3, tuningSteps: 100, rates },
};
const small: Size = {
  ...{ width: 16, steps: 3, batchSize: 2, context: 5, counts: [1, 3] },
  ...{ tasks: 1, tuningSteps: 2, rates: rates.slice(0, 1) },
};

/** Shares of right names for unseen objects, `[kind][method][count]`. */
type Accuracies = Record<Kind, Record<string, number[]>>;

interface Run {
  seed: number;
  /** Pairs of a step and the loss of the names in pretraining, averaged over the steps since the pair before. */
  curve: [number, number][];
  /** Learning rate of each method. */
  rates: Record<string, number>;
  accuracies: Accuracies;
  /** Share of unseen objects whose name the examples determine if the kind of the rule is known, `[kind][count]`. */
  determined: Record<Kind, number[]>;
}

interface Result {
  size: Size;
  parameters: number;
  trained: Record<string, number>;
  runs: Run[];
}

const colourOf = (object: number): number => Math.floor(object / values);
const shapeOf = (object: number): number => object % values;
/** Returns what decides the name of an object. */
const keysOf: Record<Kind, (flip: boolean) => (object: number) => number> = {
  familiar: (flip) => (flip ? shapeOf : colourOf),
  // The colour decides, but otherwise for one half of the shapes than for the other.
  new: (flip) => (object) =>
    flip
      ? shapeOf(object) + values * Number(colourOf(object) < values / 2)
      : colourOf(object) + values * Number(shapeOf(object) < values / 2),
};

/** Draws a naming. */
function drawNaming(kind: Kind, draw: Draw): { naming: Naming; key: (object: number) => number } {
  const key = keysOf[kind](draw(2) === 1);
  const names = Array.from({ length: 2 * values }, () => draw(values));
  return { naming: Array.from({ length: objects }, (_, object) => names[key(object)]!), key };
}

/** Returns sequences of questions and examples with targets at the questions, as ids [B, T] and targets [B, T]. */
function sequences(lists: readonly (readonly Example[])[]): { ids: Int32Array; targets: Int32Array; shape: number[] } {
  // Each example is first asked for, and then shown. Nothing follows the last question.
  const ids = lists.map((list) => list.flatMap(({ object, name }) => [object, objects + object * values + name]));
  const targets = lists.map((list) => list.flatMap(({ name }) => [firstName + name, -100]));
  const flat = (rows: number[][]): Int32Array => Int32Array.from(rows.flatMap((row) => row.slice(0, -1)));
  return { ids: flat(ids), targets: flat(targets), shape: [lists.length, 2 * lists[0]!.length - 1] };
}

/** Resolves to a GPT whose attention begins with a variance of 1/C, which suits narrow models (see induction-heads). */
async function createModel({ width, context }: Size, seed: number): Promise<GPT> {
  const sizes = { vocabularySize, contextLength: 2 * context, layers: 2, heads: 4, width };
  // The order of examples says nothing.
  const model = new GPT({ ...sizes, positions: "none" }, { seed });
  for (const [i, [name, parameter]] of [...model.namedParameters()].entries())
    if (/\.attn\.\w+\.weight$/.test(name)) {
      using drawn = scope(() => mul(randn(parameter.shape, { seed: 1000 * seed + i }), width ** -0.5));
      parameter.set(await drawn.data());
    }
  return model;
}

/** Trains a model to name objects by the examples before them, each sequence with another naming of the familiar kind. */
async function pretrain(model: GPT, size: Size, seed: number): Promise<[number, number][]> {
  const { steps, batchSize, context } = size;
  using optimizer = new AdamW(model.namedParameters(), { beta2: 0.98, weightDecay: 0.01, maxNorm: 1 });
  const draw = drawFrom(Math.imul(seed, 0x9e3779b1));
  const curve: [number, number][] = [];
  const every = Math.max(1, steps / 40);
  let sum = 0;
  for (let step = 0; step < steps; step++) {
    const rise = Math.min(1, (step + 1) / 50);
    optimizer.lr = 3e-3 * rise * Math.min(1, (2 * (steps - step)) / steps);
    const lists = Array.from({ length: batchSize }, () => {
      const { naming } = drawNaming("familiar", draw);
      return Array.from({ length: context }, () => {
        const object = draw(objects);
        return { object, name: naming[object]! };
      });
    });
    const { ids, targets, shape } = sequences(lists);
    using given = tensor(ids, shape);
    using following = tensor(targets, shape);
    sum += await stepOf(model, optimizer, given, following);
    if ((step + 1) % every !== 0) continue;
    curve.push([step + 1, sum / every]);
    sum = 0;
  }
  console.log(`  seed ${seed}: loss of a name ${curve.map(([, loss]) => loss.toFixed(2)).join(" ")}`);
  return curve;
}

/** A task to learn: some examples, and the objects to name afterwards. */
interface Task {
  examples: Example[];
  unseen: Example[];
  determined: number;
}

/** Draws the tasks of a kind. Those with more examples contain those with fewer. */
function drawTasks(kind: Kind, { counts, tasks }: Size, draw: Draw): Task[][] {
  return Array.from({ length: tasks }, () => {
    const { naming, key } = drawNaming(kind, draw);
    const order = shuffled([...naming.keys()], draw).map((object) => ({ object, name: naming[object]! }));
    return counts.map((count) => {
      const [examples, unseen] = [order.slice(0, count), order.slice(count)];
      const seen = new Set(examples.map(({ object }) => key(object)));
      return { examples, unseen, determined: meanOf(unseen.map(({ object }) => Number(seen.has(key(object))))) };
    });
  });
}

/** Resolves to the share of unseen objects that a model names rightly after a prompt of examples, which may be empty. */
async function accuracy(model: GPT, prompt: readonly Example[], unseen: readonly Example[]): Promise<number> {
  const { ids, shape } = sequences(unseen.map((example) => [...prompt, example]));
  model.eval();
  using logits = noGrad(() => scope(() => model.forward(tensor(ids, shape), { lastOnly: true }))); // [B, V]
  const scores = await logits.data();
  const right = unseen.filter(({ name }, row) => {
    const names = scores.subarray(row * vocabularySize + firstName, (row + 1) * vocabularySize);
    return names.indexOf(Math.max(...names)) === name;
  });
  return right.length / unseen.length;
}

/** Resolves to a copy of the model that is trained on the examples, each alone and all of them at each step. */
async function tune(
  pretrained: Pretrained,
  method: string,
  { examples }: Task,
  { rate, size, seed }: { rate: number; size: Size; seed: number },
): Promise<GPT> {
  const model = copyOf(pretrained, method, seed);
  using optimizer = new AdamW(model.namedParameters({ trainable: true }), { weightDecay: 0.01, maxNorm: 1 });
  const { ids, targets, shape } = sequences(examples.map((example) => [example]));
  using given = tensor(ids, shape);
  using following = tensor(targets, shape);
  for (let step = 0; step < size.tuningSteps; step++) {
    optimizer.lr = rate * Math.min(1, (step + 1) / 10);
    await stepOf(model, optimizer, given, following);
  }
  return model;
}

interface Pretrained {
  model: GPT;
  state: Record<string, SavedTensor>;
}

async function stateOf(model: GPT): Promise<Record<string, SavedTensor>> {
  const state: Record<string, SavedTensor> = {};
  for (const [name, parameter] of Object.entries(model.stateDict()))
    state[name] = { shape: parameter.shape, values: await parameter.data() };
  return state;
}

/** Returns a copy of the model with what a method trains. */
function copyOf({ model, state }: Pretrained, method: string, seed: number): GPT {
  const copy = new GPT(model.config);
  copy.loadStateDict(state);
  const rank = ranks.find((one) => method === `LoRA, rank ${one}`);
  if (rank !== undefined) addAdapter(copy, { rank, alpha: 2 * rank, seed });
  return copy;
}

/**
 * Resolves to the learning rate of each method with the highest accuracy over tasks that are drawn for this alone, of
 * both kinds and with every other number of examples.
 */
async function chooseRates(pretrained: Pretrained, size: Size, seed: number): Promise<Record<string, number>> {
  const draw = drawFrom(0x51ed + seed);
  const counts = size.counts.filter((_, i) => i % 2 === 1);
  const tasks = kinds.flatMap((kind) => drawTasks(kind, { ...size, tasks: 1, counts }, draw).flat());
  const chosen: Record<string, number> = {};
  for (const method of tuned) {
    const means: number[] = [];
    for (const rate of size.rates) {
      const found: number[] = [];
      for (const task of tasks) {
        using model = await tune(pretrained, method, task, { rate, size, seed });
        found.push(await accuracy(model, [], task.unseen));
      }
      means.push(meanOf(found));
    }
    chosen[method] = size.rates[means.indexOf(Math.max(...means))]!;
    console.log(`  ${method}: ${means.map((mean, i) => `${size.rates[i]} ${percent(mean)}`).join(", ")}`);
  }
  return chosen;
}

async function measure(
  pretrained: Pretrained,
  size: Size,
  seed: number,
  chosen: Record<string, number>,
): Promise<Pick<Run, "accuracies" | "determined">> {
  const draw = drawFrom(Math.imul(seed, 0x85ebca77) | 1);
  const accuracies = {} as Accuracies;
  const determined = {} as Run["determined"];
  for (const kind of kinds) {
    const tasks = drawTasks(kind, size, draw);
    const of: Record<string, number[]> = (accuracies[kind] = {});
    determined[kind] = size.counts.map((_, i) => meanOf(tasks.map((counts) => counts[i]!.determined)));
    for (const method of methods) {
      of[method] = [];
      for (const i of size.counts.keys()) {
        const found: number[] = [];
        for (const task of tasks.map((counts) => counts[i]!))
          if (method === "few-shot") found.push(await accuracy(pretrained.model, task.examples, task.unseen));
          else {
            using model = await tune(pretrained, method, task, { rate: chosen[method]!, size, seed });
            found.push(await accuracy(model, [], task.unseen));
          }
        of[method].push(meanOf(found));
      }
      console.log(`  seed ${seed}, ${kind}, ${method}: ${of[method].map(percent).join(", ")}`);
    }
  }
  return { accuracies, determined };
}

const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;

/** Returns the accuracies of a method after the number of examples with an index, one for each seed. */
function accuraciesOf(runs: readonly Run[], kind: Kind, method: string, index: number): number[] {
  return runs.map(({ accuracies }) => accuracies[kind][method]![index]!);
}

/** Returns the accuracy of a model that knows the kind of the rule, and guesses where the examples leave a name open. */
function idealOf(runs: readonly Run[], kind: Kind, index: number): number {
  const share = meanOf(runs.map(({ determined }) => determined[kind][index]!));
  return share + chance * (1 - share);
}

/** Returns the text that says which of two methods is better, if the 95 % interval of their difference tells. */
function compared(runs: readonly Run[], kind: Kind, index: number, one: string, other: string): string {
  const [ofOne, ofOther] = [accuraciesOf(runs, kind, one, index), accuraciesOf(runs, kind, other, index)];
  const { mean, margin } = intervalOf(minus(ofOne, ofOther));
  const size = Number.isNaN(margin) ? percent(Math.abs(mean)) : `${percent(Math.abs(mean))} ± ${percent(margin)}`;
  const clear = Math.abs(mean) > margin;
  const better = mean > 0 ? one : other;
  return `${percent(meanOf(ofOne))} (${one}) against ${percent(meanOf(ofOther))} (${other}): ${
    clear ? `${better} is better by ${size}` : `no clear difference (${size})`
  }`;
}

/** Sections on the question and the papers, which are the same for every result. */
const introduction = `## Question

A model has learned to follow examples in its prompt. Is it better to show it the examples of a task, or to train it on
them, and how much of it has to be trained?

## What the papers say

Brown et al. 2020 ("Language Models are Few-Shot Learners", arXiv:2005.14165) show that a large model does many tasks from
a few examples in its prompt, and does better with more of them, though fine-tuned models often stay ahead. Hu et al. 2021 ("LoRA",
arXiv:2106.09685) find that adapters of a very low rank reach the accuracy of full fine-tuning. Liu et al. 2022 ("Few-Shot
Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", arXiv:2205.05638) find what their title
says.`;

/** Returns the section on the method. */
function method({ size, parameters, runs }: Result): string {
  const { counts, context, steps, batchSize, tuningSteps, tasks, width } = size;
  const end = meanOf(runs.map(({ curve }) => curve.at(-1)![1]));
  return `## Method

The task is made here. There are ${values} colours and ${values} shapes, so ${objects} objects, and ${values} names. A naming gives a name to every object.
Each object has a token that asks for its name, and a token for each name that it may have, which is an example; what objects have in
common, the model has to find out.

- In the **familiar** kind, one of the two properties decides the name, and the other says nothing. Which property it is, and
  which names its values have, is drawn for each task.
- In the **new** kind, one property decides, but with other names for one half of the other property's values than for the other half.

A GPT with two layers, ${width} wide (${parameters} parameters), is pretrained for ${steps} steps on ${batchSize} sequences of ${context} examples. Each sequence
has a naming of its own of the familiar kind, so that only the examples before can tell a name, and the model has to learn
to use them. At the end the loss of a name is ${round(end)} nats on average over all places; a guess has ${round(Math.log(values))}.

Then it meets ${tasks} tasks of each kind, with up to ${counts.at(-1)} examples. **Few-shot** puts the examples before the question, and no
weight changes. **LoRA** and **full fine-tuning** train on the examples, each of them alone, with
${tuningSteps} steps of AdamW over all of them, and are asked without a prompt. Adapters are on all linear layers of the blocks, with alpha = 2 · rank.
The learning rate of each method is the best of ${size.rates.join(", ")} on tasks that are drawn for this choice alone.

Every method is asked for the names of all objects that were not among the examples. All is repeated with ${runs.length} seeds, which
set the weights, the pretraining and the tasks; the tables have means with 95 % intervals over the seeds (Student's t). The last column
is the accuracy of somebody who knows the kind of the rule and guesses where the examples leave a name open.`;
}

/** Returns the rows of the table of a kind, one for each number of examples. */
function rowsOf({ size, runs }: Result, kind: Kind): (string | number)[][] {
  return size.counts.map((count, i) => [
    count,
    ...methods.map((method) => percentWithMargin(accuraciesOf(runs, kind, method, i))),
    percent(idealOf(runs, kind, i)),
  ]);
}

/** Returns the section on what happened. */
function findings(result: Result): string {
  const { parameters, trained, runs } = result;
  const head = ["examples", ...methods, "determined"];
  return `## What happened

### A task of the familiar kind

![Accuracy on unseen objects, by the number of examples, for a task of the familiar kind](plot:familiar)

${table(head, rowsOf(result, "familiar"))}

### A task of a new kind

![Accuracy on unseen objects, by the number of examples, for a task of a new kind](plot:new)

${table(head, rowsOf(result, "new"))}

### What is trained

${table(
  ["method", "trained parameters", "share of the model", "learning rate, by seed"],
  tuned.map((method) => [
    method,
    trained[method]!,
    `${((100 * trained[method]!) / parameters).toFixed(1)} %`,
    runs.map((run) => run.rates[method]!).join(", "),
  ]),
)}`;
}

/** Returns the section on what follows from the numbers. */
function conclusion({ size, runs }: Result): string {
  const { counts } = size;
  const [middle, last] = [Math.floor(counts.length / 2), counts.length - 1];
  const [everything, largest] = [tuned.at(-1)!, tuned.at(-2)!];
  const mean = (kind: Kind, method: string, index: number): number => meanOf(accuraciesOf(runs, kind, method, index));
  const bestTuned = (kind: Kind, index: number): string => {
    const best = [...tuned].sort((a, b) => mean(kind, b, index) - mean(kind, a, index))[0]!;
    return compared(runs, kind, index, "few-shot", best);
  };
  const reached = Math.max(...methods.map((method) => mean("new", method, last)));
  const ideal = idealOf(runs, "new", last);
  return `## Conclusion

The prompt and the best trained model compare like this:

- familiar kind, ${counts[middle]} examples: ${bestTuned("familiar", middle)};
- familiar kind, ${counts[last]} examples: ${bestTuned("familiar", last)};
- new kind, ${counts[middle]} examples: ${bestTuned("new", middle)};
- new kind, ${counts[last]} examples: ${bestTuned("new", last)}.

The largest adapter and full fine-tuning, with ${counts[last]} examples:

- familiar kind: ${compared(runs, "familiar", last, largest, everything)};
- new kind: ${compared(runs, "new", last, largest, everything)}.

${
  reached < ideal - 0.2
    ? `On the new kind, no method comes near what ${counts[last]} examples determine (${percent(ideal)}): the pretraining has given the model no reason
to look for such a rule, and training on so few examples does not find it.`
    : `On the new kind, ${counts[last]} examples determine ${percent(ideal)} of the names.`
}`;
}

/** Section on where the experiment differs from the papers, which is the same for every result. */
const differences = `## Where it differs from the papers, and why

The papers compare on language, where a pretrained model has seen something like every task; here it is known what the model
has seen. There full fine-tuning is rarely worse than an adapter. Here an object has rows of its own in the embedding, which
adapters leave alone; full fine-tuning can change the rows of the seen objects and learn the examples by heart, which says nothing about
the unseen ones. That is a likely reason, but it is not tested. A prompt costs computation with every answer, but nothing
before the first one. Nothing is held out of the examples to stop the training early, as one would with more of them.`;

/** Returns the plot of a kind: the accuracy of each method by the number of examples. */
function plotOf({ size, runs }: Result, kind: Kind): Plot {
  const { counts } = size;
  return {
    title: `A task of ${kind === "new" ? "a new" : "the familiar"} kind`,
    x: { title: "examples", log: true },
    y: { title: "right names of unseen objects", domain: [0, 1] },
    lines: {
      ...Object.fromEntries(
        methods.map((method) => [
          method,
          counts.map((count, i) => [count, meanOf(accuraciesOf(runs, kind, method, i))]),
        ]),
      ),
      "what the examples determine": counts.map((count, i) => [count, idealOf(runs, kind, i)]),
    },
  };
}

export const promptOrTuning: Experiment<Result> = {
  name: "prompt-or-tuning",
  title: "Show examples, or train on them?",

  seeds: [1, 2, 3, 4],

  async run(quick, seeds = [1, 2, 3, 4]) {
    const size = quick ? small : full;
    const runs: Run[] = [];
    const trained: Record<string, number> = {};
    let parameters = 0;
    for (const seed of quick ? [1] : seeds) {
      using model = await createModel(size, seed);
      parameters = model.parameterCount();
      const curve = await pretrain(model, size, seed);
      const pretrained = { model, state: await stateOf(model) };
      for (const method of tuned) {
        using copy = copyOf(pretrained, method, seed);
        trained[method] = copy.parameterCount({ trainable: true });
      }
      const chosen = await chooseRates(pretrained, size, seed);
      runs.push({ seed, curve, rates: chosen, ...(await measure(pretrained, size, seed, chosen)) });
    }
    return { size, parameters, trained, runs };
  },

  page(result) {
    return {
      text: sections(introduction, method(result), findings(result), conclusion(result), differences),
      plots: { familiar: plotOf(result, "familiar"), new: plotOf(result, "new") },
    };
  },
};
